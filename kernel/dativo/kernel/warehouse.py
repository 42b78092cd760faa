"""Make the warehouse and a run's staging folder, and tell who owns them.

As root every confined process has its own uid, so the folders decide who may do what: the warehouse belongs to the committer,
a run's staging folder to its writer with the committer's group. All steps go through directory descriptors that follow no link,
since the committer's uid can change what lies in the warehouse while root works in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dativo.kernel.removal import remove_tree, remove_unlocked
from dativo.protocol.errors import ConfigError, TargetFailed, Where
from dativo.sandbox import Identity

# The owner of warehouses that root makes where nobody else owns the parent. First of the range that the sandbox takes its
# uids from; the sandbox never gives it to a process of its own choice.
WAREHOUSE_UID: Final = 1879048192

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Staging:
    """A run's staging folder; ``lock_fd`` holds it against the clearing of leftovers."""

    path: Path
    parent_fd: int
    lock_fd: int

    def remove(self) -> None:
        """Delete the folder and release it. Never fails a run that has committed: leftovers are cleared by the next run."""
        try:
            with contextlib.suppress(OSError):
                remove_tree(self.path.name, self.parent_fd)
        finally:
            os.close(self.lock_fd)
            os.close(self.parent_fd)


def prepare(path: Path, what: str = "warehouse") -> tuple[Identity | None, bool]:
    """Make the warehouse where it is missing; return who the committer becomes and whether the folder is new.

    The identity is None for a plain user, whose processes run as that user. Raises ConfigError when root owns the folder.
    The same holds for ``what`` else a process writes: whoever owns the folder is who the process becomes.
    """
    try:
        created = _make_durable(path)
    except OSError as error:
        raise TargetFailed(
            f"cannot make the {what}: {error.strerror}", Where(file=str(path))
        ) from error
    try:
        fd = os.open(path, _FOLDER)
    except OSError as error:
        raise ConfigError(
            f"the {what} is not a folder: {error.strerror}", Where(file=str(path))
        ) from error
    try:
        if os.geteuid() != 0:
            return None, created
        if created:
            parent = path.parent.stat()
            owner = (
                (parent.st_uid, parent.st_gid) if parent.st_uid else (WAREHOUSE_UID, WAREHOUSE_UID)
            )
            os.fchown(fd, *owner)
        info = os.fstat(fd)
        if info.st_uid == 0 or info.st_gid == 0:
            raise ConfigError(
                f"the {what} belongs to root, and no confined process runs as root",
                Where(file=str(path)),
                hint=f"Give it an owner: chown -R {WAREHOUSE_UID}:{WAREHOUSE_UID} {path}",
            )
        return Identity(info.st_uid, info.st_gid), created
    finally:
        os.close(fd)


def _make_durable(path: Path) -> bool:
    """Make a folder and its missing parents, each name synced; return whether it is new. What exists already may be no folder."""
    missing = []
    folder = path
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        try:
            folder.mkdir(mode=0o755)
        except FileExistsError:
            return False
        parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    return bool(missing)


def remove_unused(path: Path) -> None:
    """Remove a warehouse that this run has made and that nothing was written to, as when a wall was missing.

    Never fails a run: what cannot be removed stays.
    """
    fds: list[int] = []
    with contextlib.suppress(OSError):
        fds.append(os.open(path, _FOLDER))
        for name in ("_dativo", "staging"):
            if [entry.name for entry in os.scandir(fds[-1])] != [name]:
                break
            fds.append(os.open(name, _FOLDER, dir_fd=fds[-1]))
        else:
            os.rmdir("staging", dir_fd=fds[1])
            os.rmdir("_dativo", dir_fd=fds[0])
            path.rmdir()
    for fd in fds:
        os.close(fd)


def make_staging(
    warehouse: Path, run: str, *, writer: Identity | None, committer: Identity | None
) -> Staging:
    """Make ``<warehouse>/_dativo/staging/<run>`` for this run and clear folders of runs that are gone."""
    root = os.open(warehouse, _FOLDER)
    try:
        private = _folder(root, "_dativo", committer)
        try:
            parent = _folder(private, "staging", committer)
        finally:
            os.close(private)
    except OSError as error:
        raise TargetFailed(
            f"cannot make the staging folder: {error.strerror}",
            Where(file=str(warehouse / "_dativo")),
        ) from error
    finally:
        os.close(root)
    _clear_leftovers(parent)
    os.mkdir(run, 0o700, dir_fd=parent)
    fd = os.open(run, _FOLDER, dir_fd=parent)
    if writer is not None and committer is not None:
        os.fchown(fd, writer.uid, committer.gid)
    os.fchmod(fd, 0o2770)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return Staging(warehouse / "_dativo" / "staging" / run, parent, fd)


def _folder(parent_fd: int, name: str, owner: Identity | None) -> int:
    try:
        os.mkdir(name, 0o755, dir_fd=parent_fd)
        made = True
    except FileExistsError:
        made = False
    fd = os.open(name, _FOLDER, dir_fd=parent_fd)
    if made:
        if owner is not None:
            os.fchown(fd, owner.uid, owner.gid)
        os.fsync(parent_fd)
    return fd


def _clear_leftovers(parent_fd: int) -> None:
    """Delete staging folders whose run no longer holds its lock."""
    for name in os.listdir(parent_fd):
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            continue
        remove_unlocked(name, parent_fd)
