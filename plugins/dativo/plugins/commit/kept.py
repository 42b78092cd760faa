"""Reading back what a committer has kept in the warehouse, where somebody else may have put something in its place."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from dativo.plugins.commit.target import corrupt

MAX_KEPT_BYTES: Final = 256 * 1024 * 1024


def check_regular(path: Path) -> None:
    """Raise CommitFault for a name that stands for a link, a pipe, a folder or a device; a missing one is none."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise corrupt("this is not a regular file", str(path))


def read_kept(path: Path, max_bytes: int = MAX_KEPT_BYTES) -> bytes:
    """Return the bytes of a regular file: links are not followed, and a pipe is not waited for.

    Raises FileNotFoundError and other OSErrors, and CommitFault for what is no file or longer than ``max_bytes``.
    """
    check_regular(path)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise corrupt("this is not a regular file", str(path))
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise corrupt(f"this has more than {max_bytes} bytes", str(path))
    return data
