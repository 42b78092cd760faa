"""A run whose input is our own stdin, or a file of the user's.

A pipe is handed to the writer as it is. Anything else (a file, a terminal, a socket) stays behind a pump, and the writer gets a
pipe of ours.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dativo.kernel import show
from dativo.kernel.conversation import Conversation
from dativo.kernel.landing import Landing
from dativo.kernel.limits import STOP_GRACE_S
from dativo.kernel.passing import Passing
from dativo.kernel.processes import Processes, pipe
from dativo.kernel.pump import Pair, readable, release, start_pump
from dativo.protocol import events
from dativo.protocol.errors import Blame, ConfigError, DativoError, Where

STDIN: Final = 0


class FromStdin(Conversation):
    """A run without a source: the input ends when stdin does."""

    _interrupted_at: float | None = None

    @contextlib.contextmanager
    def taken(self, processes: Processes, file: Path | None) -> Iterator[int]:
        """Give the pipe that the writer reads: ``file``, or stdin; held here until it has been handed over.

        Our own stdin leads to /dev/null from then on, so that whoever writes into it is told by SIGPIPE when its reader ends, and
        not when we do. Raises ConfigError for a file that cannot be read.
        """
        fd = _copy_of_stdin() if file is None else _open(file)
        try:
            if file is None:
                release(STDIN)
                if stat.S_ISFIFO(os.fstat(fd).st_mode):
                    yield fd
                    return
            with pipe() as (read_end, write_end):
                pump = start_pump(processes, self._selector)
                self.add_pump(pump, self._take_pumped)
                pump.open([Pair("stdin", fd, write_end)])
                yield read_end
        finally:
            os.close(fd)

    def interrupt(self, signum: int, _: object = None) -> None:
        """Handle SIGINT or SIGTERM: the run ends at its last state; a second one ends it at once."""
        if self._interrupted_at is None:
            self._interrupted_at = time.monotonic()
        super().interrupt(signum)

    @property
    def interrupted(self) -> bool:
        """Whether a signal has asked to end."""
        return self._interrupted_at is not None

    @property
    def given_up(self) -> bool:
        """Whether nobody waits any longer: STOP_GRACE_S after a signal, or after a second one."""
        at = self._interrupted_at
        return self.impatient or (at is not None and time.monotonic() - at > STOP_GRACE_S)

    def _take_pumped(self, message: events.Pumped) -> None:
        if message.end == "error":
            reason = show.foreign(message.message or "")
            self.fail(DativoError(f"cannot read the input: {reason}", blame=Blame.MACHINE))


class StdinLanding(FromStdin, Landing):
    """Stdin into writer and committer."""


class StdinPassing(FromStdin, Passing):
    """Stdin through a relay."""


def _copy_of_stdin() -> int:
    if not readable(STDIN):
        raise ConfigError("stdin cannot be read", hint="Give it a pipe, or name a file: --input")
    return fcntl.fcntl(STDIN, fcntl.F_DUPFD_CLOEXEC, 3)


def _open(file: Path) -> int:
    """Open a file that a person named: a regular one or a pipe with a name."""
    try:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(
            f"cannot read the input: {error.strerror}", Where(file=str(file))
        ) from error
