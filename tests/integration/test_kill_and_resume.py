"""Kill each process of a run half-way, in turn; go on; every row is there once (Q4 in small)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.integration.conftest import ROOT, Workspace, descendants

ROWS = 20_000
JOB = f"""\
pipeline: numbers
source:
  connector: ./plugins/resumable
  config: {{rows: {ROWS}, state_every: 500, pause_s: PAUSE}}
target:
  connector: TARGET
  config: {{warehouse: ./lake, namespace: numbers}}
  epoch: {{rows: 1000}}
"""
TRUTH = (ROWS, ROWS, sum(i * 2654435761 % 2**32 for i in range(ROWS)))
WHAT = "count(*), count(DISTINCT id), sum(value)::BIGINT"
DEADLINE_S = 60


def find(kernel: int, marks: tuple[str, ...]) -> int:
    """Return the innermost descendant whose own command line holds one of ``marks``."""
    for pid in reversed(descendants(kernel)):
        try:
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if (
            "bwrap" not in argv[0]
            and "confine" not in argv[0]
            and any(mark in " ".join(argv) for mark in marks)
        ):
            return pid
    raise AssertionError(f"no process with {marks}")


VICTIMS = {
    "source": ("source.py",),
    "writer": ("dativo-writer",),
    "inspector": ("dativo-inspector",),
    "committer": ("dativo.plugins.",),
    "kernel": (),
}
ENDS_WITH = {"source": 4, "writer": 1, "inspector": 1, "committer": 5, "kernel": -signal.SIGKILL}


def wait_for_commit(kernel: subprocess.Popen[str], data: Path, files: int = 2) -> None:
    """Wait until so many files are committed; the run must be under way all the while."""
    deadline = time.monotonic() + DEADLINE_S
    while not (data.is_dir() and len(list(data.glob("*.parquet"))) >= files):
        assert kernel.poll() is None, kernel.communicate()
        assert time.monotonic() < deadline, f"nothing was committed within {DEADLINE_S} s"
        time.sleep(0.02)


DATA = {"iceberg": "lake/numbers/numbers/data", "parquet": "lake/numbers/numbers"}


@pytest.mark.parametrize("target", DATA)
@pytest.mark.parametrize("victim", VICTIMS)
def test_every_row_once(workspace: Workspace, victim: str, target: str) -> None:
    workspace.plugin(ROOT / "examples/plugins/resumable", "resumable")
    workspace.job(JOB.replace("TARGET", target).replace("PAUSE", "0.2"))
    kernel = workspace.start("run", "job.yaml", "--output", "json", *workspace.flags)
    wait_for_commit(kernel, workspace.folder / DATA[target])
    pid = kernel.pid if victim == "kernel" else find(kernel.pid, VICTIMS[victim])
    inner = descendants(kernel.pid)
    os.kill(pid, signal.SIGKILL)
    _, stderr = kernel.communicate(timeout=DEADLINE_S)
    assert kernel.returncode == ENDS_WITH[victim], stderr
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in inner):
        assert time.monotonic() < deadline, "a process outlived its kernel"
        time.sleep(0.02)
    before = workspace.read(target, "numbers.numbers")
    assert 0 < before < ROWS and before % 500 == 0

    workspace.job(JOB.replace("TARGET", target).replace("PAUSE", "0"))
    result = workspace.run()
    assert result.status == 0, result.stderr
    [stream] = result.report["streams"]
    assert stream["read"] == ROWS - before
    assert workspace.read(target, "numbers.numbers", WHAT) == TRUTH


@pytest.mark.parametrize("victim", ["source", "writer"])
def test_every_row_of_interleaved_streams_once(workspace: Workspace, victim: str) -> None:
    """Three streams at once, each with states at other rows: none is committed beyond its own state."""
    workspace.plugin(ROOT / "examples/plugins/resumable", "resumable")
    job = JOB.replace("TARGET", "iceberg").replace("{rows:", "{streams: 3, rows:", 1)
    workspace.job(job.replace("PAUSE", "0.2"))
    kernel = workspace.start("run", "job.yaml", "--output", "json", *workspace.flags)
    wait_for_commit(kernel, workspace.folder / DATA["iceberg"])
    os.kill(find(kernel.pid, VICTIMS[victim]), signal.SIGKILL)
    kernel.communicate(timeout=DEADLINE_S)
    assert kernel.returncode == ENDS_WITH[victim]
    tables = ["numbers.numbers", "numbers.numbers_2", "numbers.numbers_3"]
    before = [workspace.count(table) for table in tables]
    assert all(rows < ROWS for rows in before) and any(before)

    workspace.job(job.replace("PAUSE", "0"))
    result = workspace.run()
    assert result.status == 0, result.stderr
    assert [workspace.count(table, WHAT) for table in tables] == [TRUTH] * 3
