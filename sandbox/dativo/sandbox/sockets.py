"""Have the sockets of a network namespace made and handed to the broker: `dativo-confine sockets` (rust-plugins/confine).

It runs between the attestation and the word to go, so nothing of the program runs in that namespace yet.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Final

from dativo.sandbox.errors import WallMissing

# All that can be reset; a process of ours starts with the actions that the system gives.
RESET_SIGNALS: Final = frozenset(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_MAX_REASON_BYTES: Final = 4096


def make_sockets(
    confine: str, plan_fd: int, passed: tuple[int, ...], said_fd: int, deadline_s: float
) -> None:
    """Run it and wait for its end; raise WallMissing when it fails or outlasts ``deadline_s`` (monotonic clock).

    ``passed`` are inherited beside ``plan_fd``; ``said_fd`` is a memory file that becomes its stderr.
    """
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, said_fd, 2),
    ]
    actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in (plan_fd, *passed)]
    try:
        pid = os.posix_spawn(
            confine,
            ["dativo-confine", "sockets", str(plan_fd)],
            {},
            file_actions=actions,
            setsigmask=(),
            setsigdef=RESET_SIGNALS,
        )
    except OSError as error:
        raise WallMissing("network", f"cannot run {confine}: {error.strerror}") from error
    in_time, status = _reap(pid, deadline_s)
    if not in_time:
        raise WallMissing("network", "the broker did not take its sockets in time")
    if status:
        said = os.pread(said_fd, _MAX_REASON_BYTES, 0).decode("utf-8", "replace").strip()
        raise WallMissing("network", said or f"making sockets ended with {status}")


def _reap(pid: int, deadline_s: float) -> tuple[bool, int]:
    """Wait for the end until the deadline, then kill; return whether it came in time, and the exit code."""
    in_time = False
    try:
        end = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(end, select.POLLIN)
            in_time = bool(poll.poll(max(0.0, (deadline_s - time.monotonic()) * 1000)))
        finally:
            os.close(end)
    finally:
        if not in_time:
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    return in_time, os.waitstatus_to_exitcode(status)
