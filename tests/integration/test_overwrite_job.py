"""`mode: overwrite`: readers see the old rows until a run succeeds, then exactly its own; what failed is gone on with."""

from __future__ import annotations

import os
import signal

import pytest
from tests.integration.conftest import ROOT, Workspace
from tests.integration.test_kill_and_resume import (
    DATA,
    DEADLINE_S,
    JOB,
    VICTIMS,
    WHAT,
    find,
    wait_for_commit,
)

OVERWRITE = JOB.replace("  epoch:", "  mode: overwrite\n  epoch:")


def truth(rows: int) -> tuple[int, int, int]:
    return rows, rows, sum(i * 2654435761 % 2**32 for i in range(rows))


def job(target: str, rows: int, pause: str = "0") -> str:
    return OVERWRITE.replace("TARGET", target).replace("20000", str(rows)).replace("PAUSE", pause)


@pytest.mark.parametrize("target", DATA)
def test_each_run_replaces_the_rows(workspace: Workspace, target: str) -> None:
    workspace.plugin(ROOT / "examples/plugins/resumable", "resumable")
    for rows in (3000, 2000):
        workspace.job(job(target, rows))
        ran = workspace.run()
        assert ran.status == 0, ran.stderr
        assert workspace.read(target, "numbers.numbers", WHAT) == truth(rows)


@pytest.mark.parametrize("target", DATA)
def test_a_run_that_is_killed_changes_nothing_for_readers(
    workspace: Workspace, target: str
) -> None:
    workspace.plugin(ROOT / "examples/plugins/resumable", "resumable")
    workspace.job(job(target, 3000))
    assert workspace.run().status == 0
    files = len(list((workspace.folder / DATA[target]).glob("*.parquet")))

    workspace.job(job(target, 20_000, "0.2"))
    kernel = workspace.start("run", "job.yaml", "--output", "json", *workspace.flags)
    wait_for_commit(kernel, workspace.folder / DATA[target], files + 2)
    os.kill(find(kernel.pid, VICTIMS["source"]), signal.SIGKILL)
    _, stderr = kernel.communicate(timeout=DEADLINE_S)
    assert kernel.returncode == 4, stderr
    assert workspace.read(target, "numbers.numbers", WHAT) == truth(3000)

    workspace.job(job(target, 20_000))
    ran = workspace.run()
    assert ran.status == 0, ran.stderr
    [stream] = ran.report["streams"]
    assert 0 < stream["read"] < 20_000, "what the run before had committed was not read again"
    assert workspace.read(target, "numbers.numbers", WHAT) == truth(20_000)
