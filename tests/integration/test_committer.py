"""A committer that does not do its part, asked beside any run."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from tests.integration.conftest import Workspace

from dativo.kernel import api, committer, registry, warehouse
from dativo.protocol.errors import DativoError, ProtocolViolation, TargetFailed

pytestmark = pytest.mark.usefixtures("nothing_left")
JOB = """\
pipeline: asked
source: {connector: ./plugins/none}
target:
  connector: parquet
  config: {warehouse: ./lake, namespace: asked}
"""
SAYS = "import os, time; os.write(3, {said!r}); time.sleep({seconds})"


@pytest.mark.parametrize(
    ("said", "seconds", "kind", "message"),
    [
        (b"", 60, TargetFailed, "did not answer within 1 s"),
        (b"", 0, TargetFailed, "ended without an answer"),
        (b'{"type":"closed","input":"0"}\n', 60, ProtocolViolation, "may not send closed"),
    ],
    ids=["silent", "ends", "closes unopened"],
)
def test_what_is_committed_is_not_waited_for_for_ever(
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    said: bytes,
    seconds: int,
    kind: type[DativoError],
    message: str,
) -> None:
    own = registry.find_target("parquet")
    text = SAYS.format(said=said, seconds=seconds)
    other = replace(own, argv=(own.argv[0], "-I", "-c", text))
    monkeypatch.setattr(registry, "find_target", lambda _: other)
    monkeypatch.setattr(committer, "HELLO_TIMEOUT_S", 1)
    warehouse.prepare(workspace.lake)
    job = workspace.job(JOB)
    began_at = time.monotonic()
    site = api.Site.open(
        workspace.environment(), cgroup="degraded" if workspace.flags else "required"
    )
    with site.ledger, pytest.raises(kind, match=message) as caught:
        api.committed(site, job)
    assert caught.value.where.file == str(job.resolve())
    assert caught.value.where.plugin == "dativo-parquet"
    assert time.monotonic() - began_at < 20
