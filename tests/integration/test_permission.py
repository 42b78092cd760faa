"""What a job may not do: exit 8 without approval, exit 9 without a wall; both say what to type."""

from __future__ import annotations

import pytest
from tests.integration.conftest import ROOT, Workspace

JOB = """\
pipeline: asks
source:
  connector: ./plugins/resumable
  config: {rows: 10CONFIG}
  grants: {GRANTS}
target:
  connector: iceberg
  config: {warehouse: WAREHOUSE, namespace: asks}
"""

CEILING = "ceilings: {memory: 256MiB}\n"
WAIVERS = """\
waivers:
  - {plugin: resumable, ceilings: {memory: 1GiB}, reason: a large one, until: "9999-12-31"}
  - {plugin: another, ceilings: {memory: 9GiB}, reason: not this one, until: "9999-12-31"}
"""


def prepare(
    workspace: Workspace, grants: str = "", config: str = "", warehouse: str = "./lake"
) -> None:
    if not (workspace.folder / "plugins").exists():
        workspace.plugin(ROOT / "examples/plugins/resumable", "resumable")
    workspace.job(
        JOB.replace("GRANTS", grants).replace("CONFIG", config).replace("WAREHOUSE", warehouse)
    )


@pytest.mark.parametrize(
    ("grants", "config", "warehouse", "asks"),
    [
        ("read: [/srv]", "", "./lake", "read /srv"),
        ("memory: 4GiB", "", "./lake", "memory 4GiB"),
        ("", ", token: {secret: 'env://TOKEN'}", "./lake", "secret env://TOKEN"),
        ("", "", "../outside", "warehouse"),
    ],
)
def test_more_than_the_default_needs_an_approval(
    workspace: Workspace, grants: str, config: str, warehouse: str, asks: str
) -> None:
    prepare(workspace, grants, config, warehouse)
    workspace.env["TOKEN"] = "a-secret-of-some-length"
    refused = workspace.run()
    assert refused.status == 8
    assert asks in refused.stderr and "dativo grants approve" in refused.stderr
    assert asks in workspace.dativo("grants", "show", "job.yaml").stdout

    approved = workspace.dativo("grants", "approve", "job.yaml")
    assert approved.status == 0, approved.stderr
    assert workspace.run().status == 0

    # The approval is for this job file: another byte in it, and it no longer fits.
    path = workspace.folder / "job.yaml"
    path.write_text(path.read_text().replace("rows: 10", "rows: 11"))
    assert workspace.run().status == 8


def test_the_default_needs_none(workspace: Workspace) -> None:
    prepare(workspace)
    assert workspace.run().status == 0


def test_a_waiver_lets_one_plugin_above_a_ceiling_and_is_told(workspace: Workspace) -> None:
    prepare(workspace)
    config = workspace.home / "dativo" / "config"
    config.mkdir(parents=True)
    (config / "policy.yaml").write_text(CEILING)
    refused = workspace.run()
    assert refused.status == 8
    assert "memory is above" in refused.stderr and "waive it for this plugin" in refused.stderr

    (config / "policy.yaml").write_text(CEILING + WAIVERS)
    waived = workspace.run()
    assert waived.status == 0, waived.stderr
    told = "waiver for resumable until 9999-12-31: a large one"
    assert told in waived.report["notices"]
    assert told in workspace.dativo("plan", "job.yaml", *workspace.flags).stdout


def test_without_bubblewrap_the_run_says_what_to_type(workspace: Workspace) -> None:
    prepare(workspace)
    workspace.env["DATIVO_BWRAP"] = "/nonexistent/bwrap"
    result = workspace.run()
    assert result.status == 9
    assert "bubblewrap" in result.stderr and "apt" in result.stderr


def test_two_runs_of_one_pipeline_conflict(workspace: Workspace) -> None:
    prepare(workspace, config=", state_every: 1, pause_s: 1")
    first = workspace.start("run", "job.yaml", "--output", "json", *workspace.flags)
    import time

    deadline = time.monotonic() + 30
    while not (workspace.lake / "catalog.db").exists():
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.02)
    assert workspace.run().status == 10
    _, stderr = first.communicate(timeout=60)
    assert first.returncode == 0, stderr
