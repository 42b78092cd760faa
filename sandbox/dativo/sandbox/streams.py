"""The descriptors of a launch: what the caller hands over, what stage 2 inherits of it, and our own ends."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from dativo.sandbox.descriptors import Descriptors


@dataclass(frozen=True, slots=True)
class Handed:
    """The caller's descriptors."""

    stdin: int | None
    stdout: int | None
    stderr: int | None
    control: int | None


@dataclass(frozen=True, slots=True)
class Streams:
    """The program's descriptors as stage 2 inherits them."""

    report: int
    stdin: int
    stdout: int
    stderr: int | None
    control: int | None

    @property
    def all(self) -> tuple[int, ...]:
        """Every one; without ``stderr`` the program has descriptor 2, the launcher's."""
        more = (fd for fd in (self.stderr, self.control) if fd is not None)
        return (self.report, self.stdin, self.stdout, *more)


@dataclass(frozen=True, slots=True)
class Ends:
    """Our end of the report and, where the caller handed none over, of stdout; ``streams`` are the other ends."""

    report: int
    stdout: int | None
    streams: Streams


def open_ends(fds: Descriptors, handed: Handed) -> Ends:
    """Make them all, owned by ``fds``."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Before anything is sent: the kernel then puts pid, uid and gid of the sender on each message (unix(7)).
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    report, theirs_fd = fds.own(ours.detach()), fds.own(theirs.detach())
    stdout: int | None = None
    if handed.stdout is None:
        stdout, stdout_in = fds.pipe()
    else:
        stdout_in = fds.copy(handed.stdout)
    streams = Streams(
        report=theirs_fd,
        stdin=fds.own(os.open("/dev/null", os.O_RDONLY))
        if handed.stdin is None
        else fds.copy(handed.stdin),
        stdout=stdout_in,
        stderr=None if handed.stderr is None else fds.copy(handed.stderr),
        control=None if handed.control is None else fds.copy(handed.control),
    )
    return Ends(report, stdout, streams)
