"""States on our own stdout, while a run goes on.

A reader that is slow stops neither the loop nor a signal: lines wait here, and only a backlog makes the run wait. A reader that
is gone changes nothing: the run goes on to its end (docs/spec/exit-codes.md).
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable
from typing import Final

from dativo.kernel import show
from dativo.kernel.limits import MAX_STDOUT_BACKLOG_BYTES
from dativo.protocol.errors import Blame, DativoError

WAIT_S: Final = 0.1
# A pipe that is ready takes this much without waiting (pipe(7), PIPE_BUF).
_CHUNK_BYTES: Final = select.PIPE_BUF


class Lines:
    """Writes whole lines to a descriptor, in order.

    ``hurried`` says that the run has to go on, whatever waits here; ``given_up`` that nobody waits for the reader any longer.
    """

    def __init__(self, fd: int, hurried: Callable[[], bool], given_up: Callable[[], bool]) -> None:
        self._fd = fd
        self._hurried = hurried
        self._given_up = given_up
        self._backlog = bytearray()
        self._closed = False
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._terminal = os.isatty(fd)
        self.failure: DativoError | None = None

    def write(self, lines: Iterable[str]) -> None:
        """Queue ``lines`` and write what the reader takes at once; waits for it only above MAX_STDOUT_BACKLOG_BYTES."""
        for line in lines:
            if not self._closed:
                text = show.document(line) if self._terminal else line
                self._backlog += text.encode() + b"\n"
        self._drain(MAX_STDOUT_BACKLOG_BYTES, self._hurried)

    def flush(self) -> None:
        """Write everything. Blocks until the reader has taken it, has gone, or is given up."""
        self._drain(0, self._given_up)

    def push(self) -> None:
        """Write what the reader takes now. Does not block."""
        self._drain(len(self._backlog), self._given_up)

    def _drain(self, enough_bytes: int, stop: Callable[[], bool]) -> None:
        while self._backlog:
            must = len(self._backlog) > enough_bytes
            if not self._poll.poll(WAIT_S * 1000 if must else 0):
                if not must or stop():
                    return
                continue
            try:
                written = os.write(self._fd, self._backlog[:_CHUNK_BYTES])
            except BlockingIOError:
                continue
            except OSError as error:
                self._close(error)
                return
            del self._backlog[:written]

    def _close(self, error: OSError) -> None:
        self._closed = True
        self._backlog.clear()
        if not isinstance(error, BrokenPipeError):
            self.failure = DativoError(
                f"cannot write to stdout: {error.strerror}", blame=Blame.MACHINE
            )
