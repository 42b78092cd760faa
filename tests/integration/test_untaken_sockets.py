"""A broker that speaks its protocol and never takes the sockets that it is to serve: nobody would ever answer there."""

from __future__ import annotations

import time

import pytest
from tests.doubles.puppet import say, stand_in
from tests.integration.conftest import ROOT, Workspace

pytestmark = pytest.mark.usefixtures("nothing_left")

GRANT = "api.test"
HELLO = {
    "type": "hello",
    "protocol": "1.0",
    "program": "dativo-broker",
    "version": "0.1.0",
    "features": [],
}
JOB = f"""\
pipeline: bad
source: {{connector: ./plugins/bad, config: {{mode: never_ends}}, grants: {{network: [{GRANT}]}}}}
target: {{connector: parquet, config: {{warehouse: ./lake, namespace: bad}}}}
"""


def greeting(client: str) -> list[str]:
    return [say(**HELLO), "hear", say(type="opened", clients=[client])]


def totals(client: str) -> str:
    names = ("connections", "refused", "up_bytes", "down_bytes", "lookups", "suppressed")
    return say(type="finished", clients=[{"client": client, **dict.fromkeys(names, 0)}])


def test_it_is_a_missing_wall(workspace: Workspace) -> None:
    workspace.plugin(ROOT / "tests/plugins/bad", "bad")
    workspace.job(JOB)
    assert workspace.dativo("grants", "approve", "job.yaml").status == 0
    # It hears the kernel, and would end in good order.
    client = "source-discover"
    stand_in(workspace, "dativo-broker", [*greeting(client), "hear", totals(client)])
    began = time.monotonic()
    ran = workspace.dativo("run", "job.yaml", *workspace.flags)
    assert ran.status == 9, ran.stderr
    assert "the broker did not take its sockets within 5 s" in ran.stderr
    assert time.monotonic() - began < 60


def test_one_that_is_late_is_waited_for(workspace: Workspace) -> None:
    acts = [*greeting("jail"), "sleep 1000", "sockets", "hear", totals("jail")]
    stand_in(workspace, "dativo-broker", acts)
    ran = workspace.dativo("jail", *workspace.flags, "--net", GRANT, "--", "true")
    assert ran.status == 0, ran.stderr


def test_one_that_dies_meanwhile_is_told_of(workspace: Workspace) -> None:
    stand_in(workspace, "dativo-broker", [*greeting("jail"), "sleep 1000", "exit 5"])
    began = time.monotonic()
    ran = workspace.dativo("jail", *workspace.flags, "--net", GRANT, "--", "sleep", "100")
    assert ran.status == 125, ran.stderr
    assert "dativo-broker ended before the run" in ran.stderr
    assert time.monotonic() - began < 9
