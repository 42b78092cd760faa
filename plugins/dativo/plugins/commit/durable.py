"""File operations that survive power loss: contents are synced before a name shows them, then the folder is.

Sources: fsync(2), rename(2), link(2), open(2). All functions block and raise OSError.
"""

from __future__ import annotations

import io
import os
import re
import uuid
from collections.abc import Iterable
from pathlib import Path

FILE_MODE = 0o644

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


def sync_directory(path: Path) -> None:
    """Make the names in ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directories(path: Path) -> None:
    """Create ``path`` and its missing parents, each name durable."""
    missing = []
    folder = path
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_directory(folder.parent)


class SyncedFile(io.BufferedWriter):
    """A new file whose ``close`` returns once the contents are on disk. Raises FileExistsError on a name in use."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        super().__init__(io.FileIO(os.open(path, flags, FILE_MODE), "w"))

    def close(self) -> None:
        """Flush, sync and close."""
        if not self.closed:
            try:
                self.flush()
                os.fsync(self.fileno())
            finally:
                super().close()


def create(path: Path, data: bytes) -> None:
    """Write a new file. The caller syncs the folder. Raises FileExistsError."""
    with SyncedFile(path) as file:
        file.write(data)


def create_whole(path: Path, data: bytes) -> None:
    """Make ``path`` appear with all its contents, or raise FileExistsError: the name is taken by link(2)."""
    temporary = _temporary(path)
    create(temporary, data)
    try:
        os.link(temporary, path)
    finally:
        temporary.unlink()
    sync_directory(path.parent)


def replace(path: Path, data: bytes) -> None:
    """Put ``data`` in place of ``path`` in one step."""
    temporary = _temporary(path)
    create(temporary, data)
    temporary.replace(path)
    sync_directory(path.parent)


def remove_files(paths: Iterable[Path]) -> None:
    """Delete ``paths``, those that are gone already too, so that they stay deleted."""
    folders = set()
    for path in paths:
        path.unlink(missing_ok=True)
        folders.add(path.parent)
    for folder in sorted(folders):
        if folder.is_dir():
            sync_directory(folder)


def is_temporary(path: Path) -> bool:
    """Tell whether ``path`` is what a kill inside ``create_whole`` or ``replace`` leaves."""
    return _TEMPORARY.fullmatch(path.name) is not None


def remove_temporaries(folder: Path) -> None:
    """Delete what killed processes left in ``folder``; nobody else may be writing there."""
    for path in folder.iterdir():
        if is_temporary(path):
            path.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
