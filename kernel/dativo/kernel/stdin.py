"""Our own stdin, or a file, as a pipe for a confined process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from typing import Final

STDIN: Final = 0


@contextlib.contextmanager
def taken() -> Iterator[int]:
    """Yield our stdin under another number; the number itself leads to /dev/null from now on.

    So whoever writes into the pipe is told by SIGPIPE when its reader ends, and not when we do.
    """
    fd = fcntl.fcntl(STDIN, fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(null, STDIN, inheritable=False)
        os.close(null)
        yield fd
    finally:
        os.close(fd)


def is_pipe(fd: int) -> bool:
    """Tell whether ``fd`` is a pipe, which may be handed to our own processes as it is."""
    return stat.S_ISFIFO(os.fstat(fd).st_mode)
