"""What setrlimit(2) holds each process of a launch to."""

from __future__ import annotations

import os
import resource
from typing import Final

from dativo.sandbox.program import MIB, Limits

# Allocators reserve address space that they never touch; the watchdog bounds what is touched.
DATA_SLACK_BYTES: Final = 1024 * MIB
_NPROC_PER_NAMESPACE: Final = (5, 14)


def rlimits(limits: Limits, *, degraded: bool) -> dict[str, int]:
    """Return them by name, no higher than our own hard ones; ``degraded``: with those that stand in for a cgroup."""

    def bounded(wanted: int, kind: int) -> int:
        hard = resource.getrlimit(kind)[1]
        return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)

    found = {
        "core": 0,
        "nofile": bounded(limits.open_files, resource.RLIMIT_NOFILE),
        "fsize": bounded(limits.file_bytes, resource.RLIMIT_FSIZE),
    }
    if degraded:
        found["data"] = bounded(limits.memory_bytes + DATA_SLACK_BYTES, resource.RLIMIT_DATA)
        release = os.uname().release.split(".")
        # Counted per user namespace, so of this process tree alone, since Linux 5.14; before that of the whole user.
        if (int(release[0]), int(release[1])) >= _NPROC_PER_NAMESPACE:
            found["nproc"] = bounded(limits.pids, resource.RLIMIT_NPROC)
    return found
