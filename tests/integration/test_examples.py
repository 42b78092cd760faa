"""The jobs of examples/ and the demo do what their headers say, with the commands that stand there."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from tests.integration.conftest import ROOT, Workspace
from tests.integration.test_docs import run_block
from tests.integration.test_kill_and_resume import wait_for_commit

EXAMPLES = ROOT / "examples"


def header(workspace: Workspace, job: Path) -> str:
    """Copy a job into the workspace and return the commands of its header."""
    text = job.read_text()
    workspace.job(text, job.name)
    return "\n".join(re.findall(r"^#     (\S.*)$", text, re.MULTILINE))


def test_resumable(workspace: Workspace) -> None:
    """Killed after its first commits and run again, the table is what the header's command says."""
    workspace.plugin(EXAMPLES / "plugins/resumable", "resumable")
    truth = header(workspace, EXAMPLES / "resumable.yaml")
    kernel = workspace.start("run", "resumable.yaml", *workspace.flags)
    wait_for_commit(kernel, workspace.lake / "numbers/numbers/data")
    kernel.send_signal(signal.SIGKILL)
    kernel.communicate(timeout=60)
    before = workspace.count("numbers.numbers")
    done = workspace.run("resumable.yaml")
    assert done.status == 0, done.stderr
    [stream] = done.report["streams"]
    assert 0 < stream["read"] < 100_000 and stream["read"] + before == 100_000
    found = workspace.count("numbers.numbers", "count(*), sum(value)::BIGINT")
    assert " ".join(map(str, found)) == run_block(workspace, truth).strip()


def test_foreign_target(workspace: Workspace) -> None:
    commands = header(workspace, EXAMPLES / "foreign_target.yaml")
    data = workspace.folder / "data"
    data.mkdir()
    rows = [{"id": i, "what": f"row {i}"} for i in range(3)]
    (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = run_block(workspace, commands)
    assert "acknowledged by the target" in told
    [written] = (workspace.folder / "out").glob("*.jsonl")
    # The tap adds columns of its own.
    copied = [json.loads(line) for line in written.read_text().splitlines()]
    assert [{key: row[key] for key in ("id", "what")} for row in copied] == rows


@pytest.mark.nightly
def test_demo(workspace: Workspace) -> None:
    """All of it, twice; the second time nothing is read again. A plain user names the weaker wall, and is told of it."""
    commands = header(workspace, ROOT / "demo.yaml")
    told = run_block(workspace, commands)
    assert "committed: epoch 1, 3 states" in told
    assert ("degraded: cgroup" in told) == bool(workspace.flags)
    counts = {table: workspace.count(table) for table in workspace.tables()}
    assert counts["shop.users"] == 10_000 and counts["shop.products"] == 100
    again = run_block(workspace, commands.splitlines()[-1])
    assert "no new rows: epoch 2, 3 states" in again
    assert {table: workspace.count(table) for table in workspace.tables()} == counts
