"""The kernel's memory, which holds secrets, is closed to other processes of its user, and never written to a core file."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from dativo.protocol.errors import Blame, InternalError

_PR_SET_DUMPABLE: Final = 4


def make_undumpable() -> None:
    """Let nobody but root trace this process, read its memory, environment or descriptors (PR_SET_DUMPABLE(2const)).

    What it starts is as ever: execve(2) gives a process a new memory. Raises InternalError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise InternalError(f"cannot make dativo undumpable: {reason}", blame=Blame.MACHINE)
