"""Memory and process count of a tree without a cgroup, read from /proc (proc_pid_status(5), proc_pid_task(5))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dativo.sandbox.errors import WallMissing

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """``memory_bytes``: anonymous and shared pages. What a fork shares counts for each process, unless that was too much."""

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


def sample(root: int, *, enough_tasks: int, enough_bytes: int) -> Sample:
    """Add up the tree below ``root``, itself left out; stop counting at ``enough_tasks`` tasks.

    Orphans inside fall to process 1 of their pid namespace, which is ``root``, so that none is missed for long. Above
    ``enough_bytes`` each process's proportional share is asked for, which costs the kernel a walk over all its pages.
    """
    tasks = 0
    pids: list[int] = []
    waiting = _children(root)
    while waiting and tasks <= enough_tasks:
        pid = waiting.pop()
        pids.append(pid)
        tasks += len(_tasks(pid))
        waiting += _children(pid)
    memory = sum(map(_memory_bytes, pids))
    if memory > enough_bytes:
        memory = sum(map(_share_bytes, pids))
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
    return _sum(text, ("RssAnon:", "RssShmem:"))


def _share_bytes(pid: int) -> int:
    """Return the proportional share (proc_pid_smaps(5)); all of it for a process that does not let itself be looked at."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has just ended, or has no memory any more
    except PermissionError:
        return _memory_bytes(pid)
    return _sum(text, ("Pss_Anon:", "Pss_Shmem:"))


def _sum(text: str, names: tuple[str, ...]) -> int:
    kib = sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(names))
    return kib * _KIB
