"""The first words between a launcher and stage 2, and the end of one that fails."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import time
from typing import Final

from dativo.sandbox import diagnosis
from dativo.sandbox.attestation import UPGRADE
from dativo.sandbox.errors import StartFailed, WallMissing
from dativo.sandbox.stderr import StderrTail

_MAX_MESSAGE_BYTES: Final = 65536
_CREDENTIALS: Final = struct.Struct("iII")
_ABORT_WITHIN_S: Final = 10.0


class Exchange:
    """The first messages of stage 2, against a deadline, while stderr is drained."""

    def __init__(
        self, report: socket.socket, monitor_fd: int, stderr: StderrTail, deadline: float
    ) -> None:
        self._report = report
        self._monitor_fd = monitor_fd
        self._stderr = stderr
        self._deadline = deadline
        self._attested = False

    def receive(self) -> tuple[bytes, tuple[int, int, int]]:
        """Return one message and pid, uid and gid of its sender; raise what a failure means."""
        poll = select.poll()
        for fd in (self._report.fileno(), self._monitor_fd, self._stderr.fd):
            poll.register(fd, select.POLLIN)
        while True:
            left_s = self._deadline - time.monotonic()
            ready = {fd for fd, _ in poll.poll(max(0.0, left_s * 1000))}
            if self._stderr.fd in ready:
                self._stderr.drain()
                if self._stderr.closed:
                    poll.unregister(self._stderr.fd)
            if self._report.fileno() in ready and (found := self._read()):
                return found
            if self._monitor_fd in ready:
                self._stderr.drain()
                ended = os.waitid(os.P_PIDFD, self._monitor_fd, os.WEXITED | os.WNOWAIT)
                raise diagnosis.explain(
                    self._stderr.tail(),
                    ended.si_status if ended else None,
                    attested=self._attested,
                )
            if left_s <= 0:
                if self._attested:
                    raise StartFailed("the program was not started in time")
                raise WallMissing("attestation", "did not come in time", UPGRADE)
            if self._report.fileno() in ready:
                # Closed without a message: bubblewrap is about to end and to say why.
                poll.unregister(self._report.fileno())

    def _read(self) -> tuple[bytes, tuple[int, int, int]] | None:
        message, ancillary, _, _ = self._report.recvmsg(
            _MAX_MESSAGE_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size)
        )
        if not message:
            return None
        credentials = next(
            _CREDENTIALS.unpack(data)
            for _, kind, data in ancillary
            if kind == socket.SCM_CREDENTIALS
        )
        if message.startswith(b'{"type":"failed"'):
            failed = json.loads(message)
            if failed["wall"] in ("start", "plan"):
                raise StartFailed(failed["reason"], errno=failed.get("errno"))
            raise WallMissing(failed["wall"], failed["reason"])
        return message, credentials

    def go(self) -> None:
        """Let stage 2 start the program: the attestation was compared."""
        self._attested = True
        self._report.send(b"go")


def abort(monitor_fd: int, tree_fd: int | None, report: socket.socket) -> None:
    """Kill and reap a launch that failed. Closing the report socket ends stage 2 wherever it is."""
    report.close()
    for fd in (tree_fd, monitor_fd):
        if fd is not None:
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            except ProcessLookupError:
                continue  # dead already
    os.waitid(os.P_PIDFD, monitor_fd, os.WEXITED)
    if tree_fd is not None:
        poll = select.poll()
        poll.register(tree_fd, select.POLLIN)
        poll.poll(_ABORT_WITHIN_S * 1000)
