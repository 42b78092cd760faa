"""Remove a folder that a hostile process has filled: without recursion, with few descriptors, in bounded memory.

``shutil.rmtree`` keeps a descriptor and a frame for each level, so that a folder of 1,000 levels ends its caller. Here what lies
deeper is moved up instead. Nothing is followed: whoever filled the folder must be dead, but what it left may point anywhere.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import stat
import uuid
from collections.abc import Iterator
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_AT_ONCE: Final = 10_000


def remove_tree(name: str, parent_fd: int) -> None:
    """Remove the folder ``name`` and all that is below it. Raises OSError; what is removed by then stays removed."""
    top = _open(name, parent_fd)
    new_names = (f"{uuid.uuid4().hex}-{number}" for number in itertools.count())
    try:
        while entries := _some(top):
            for entry, is_folder in entries:
                if not is_folder:
                    os.unlink(entry, dir_fd=top)
                    continue
                _empty(entry, top, new_names)
                os.rmdir(entry, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent_fd)


def remove_unlocked(name: str, parent_fd: int) -> None:
    """Remove the folder ``name`` of a run that is dead: nobody holds its lock (flock(2)). Raises OSError."""
    fd = _open(name, parent_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    finally:
        os.close(fd)
    remove_tree(name, parent_fd)


def _empty(name: str, top: int, new_names: Iterator[str]) -> None:
    """Delete the files of the folder ``name`` and move its folders up."""
    fd = _open(name, top)
    try:
        while entries := _some(fd):
            for entry, is_folder in entries:
                if is_folder:
                    _unlock(entry, fd)  # its entry `..` is written when it moves
                    os.rename(entry, next(new_names), src_dir_fd=fd, dst_dir_fd=top)
                else:
                    os.unlink(entry, dir_fd=fd)
    finally:
        os.close(fd)


def _some(fd: int) -> list[tuple[str, bool]]:
    with os.scandir(fd) as entries:
        return [
            (entry.name, entry.is_dir(follow_symlinks=False))
            for entry in itertools.islice(entries, _AT_ONCE)
        ]


def _open(name: str, parent_fd: int) -> int:
    with contextlib.suppress(PermissionError):
        return os.open(name, _FOLDER, dir_fd=parent_fd)
    _unlock(name, parent_fd)
    return os.open(name, _FOLDER, dir_fd=parent_fd)


def _unlock(name: str, parent_fd: int) -> None:
    """Let its owner into a folder that was closed against everybody; root needs no leave."""
    if os.geteuid() == 0:
        return
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
    os.chmod(name, 0o700, dir_fd=parent_fd)
