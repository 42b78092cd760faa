"""Memory and process count of a tree without a cgroup, read from /proc (proc_pid_status(5), proc_pid_task(5))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dativo.sandbox.errors import WallMissing

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """``memory_bytes``: anonymous and shared pages, summed, so that shared ones count more than once."""

    memory_bytes: int
    tasks: int


def require_children_files() -> None:
    """Raise WallMissing where this kernel cannot list a task's children (CONFIG_PROC_CHILDREN)."""
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        raise WallMissing(
            "cgroup",
            "the degraded mode needs /proc/PID/task/TID/children, which this kernel does not have",
            "Make a cgroup writable instead: systemd-run --user --scope -p Delegate=yes COMMAND.",
        )


def sample(root: int, enough_tasks: int) -> Sample:
    """Add up the tree below ``root``, itself left out; stop counting at ``enough_tasks`` tasks.

    Orphans inside fall to process 1 of their pid namespace, which is ``root``, so that none is missed for long.
    """
    memory = tasks = 0
    waiting = _children(root)
    while waiting and tasks <= enough_tasks:
        pid = waiting.pop()
        memory += _memory_bytes(pid)
        tasks += len(_tasks(pid))
        waiting += _children(pid)
    return Sample(memory, tasks)


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []  # it has just ended


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in _tasks(pid):
        try:
            text = (task / "children").read_text("ascii")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        found += map(int, text.split())
    return found


def _memory_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has just ended
    kib = 0
    for line in text.splitlines():
        if line.startswith(("RssAnon:", "RssShmem:")):
            kib += int(line.split()[1])
    return kib * _KIB
