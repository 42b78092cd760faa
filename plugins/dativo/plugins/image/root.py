"""Writes a root file system below one folder: plain files, folders and links, never anything outside of it.

Every path is walked by descriptor from the root on, component by component, without following links: a link on the way is read,
and what it says is walked from the root again, as the kernel would do it in a root of its own (openat2(2), RESOLVE_IN_ROOT).
Only this process writes there. Modes are 0755 or 0644; owners, devices, set-uid bits and extended attributes are not kept.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from dativo.plugins.image.refusal import Budget, Refused

_CHUNK_BYTES: Final = 1 << 20
_MAX_LINKS: Final = 40  # as the kernel (path_resolution(7))
_MAX_DEPTH: Final = 200
_MAX_NAME_BYTES: Final = 255
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_S: Final = 1 << 33
"""Times of files are kept up to here; Python's compiled modules hold those of their sources."""


@dataclass(frozen=True, slots=True)
class Folder:
    """An open folder of the root, and its path there without any link: empty for the root itself."""

    fd: int
    path: str

    def inner(self, name: str) -> str:
        """Return the path of an entry."""
        return f"{self.path}/{name}" if self.path else name


class Root:
    """The root file system that is being written."""

    def __init__(self, path: Path, budget: Budget) -> None:
        self._fd = os.open(path, _FOLDER)
        self._budget = budget

    def close(self) -> None:
        """Let it go."""
        os.close(self._fd)

    @contextmanager
    def folder(self, path: str, *, make: bool = False) -> Iterator[Folder]:
        """Give the folder that ``path`` leads to, with ``make`` made where it is missing, open for as long as the context lasts.

        Raises FileNotFoundError without ``make``, Refused for a path through a file or round in a circle.
        """
        held = [(os.dup(self._fd), "")]
        left = deque(path.split("/"))
        links = 0
        try:
            while left:
                part = left.popleft()
                if part in ("", "."):
                    continue
                if part == "..":
                    if len(held) > 1:
                        os.close(held.pop()[0])
                    continue
                here = Folder(*held[-1])
                target = self._enter(here, part, held, make=make)
                if target is None:
                    continue
                links += 1
                if links > _MAX_LINKS:
                    raise Refused("links of the image lead round in a circle", path)
                if target.startswith("/"):
                    while len(held) > 1:
                        os.close(held.pop()[0])
                left.extendleft(reversed(target.split("/")))
            yield Folder(*held[-1])
        finally:
            for fd, _ in held:
                os.close(fd)

    def _enter(
        self, here: Folder, part: str, held: list[tuple[int, str]], *, make: bool
    ) -> str | None:
        """Add the folder ``part`` to ``held``; return its target instead where it is a link."""
        inner = here.inner(part)
        if len(os.fsencode(part)) > _MAX_NAME_BYTES:
            raise Refused("a name of the image is too long", inner[-80:])
        try:
            held.append((os.open(part, _FOLDER, dir_fd=here.fd), inner))
            return None
        except NotADirectoryError:
            found = os.lstat(part, dir_fd=here.fd)
            if stat.S_ISLNK(found.st_mode):
                return os.readlink(part, dir_fd=here.fd)
            raise Refused("a path of the image leads through a file", inner) from None
        except FileNotFoundError:
            if not make:
                raise
        self._check_name(here, part)
        os.mkdir(part, 0o755, dir_fd=here.fd)
        held.append((os.open(part, _FOLDER, dir_fd=here.fd), inner))
        return None

    def make_folder(self, parent: Folder, name: str) -> None:
        """Make a folder; one that is there is kept, anything else replaced."""
        found = _lstat(parent, name)
        if found is not None and stat.S_ISDIR(found.st_mode):
            return
        self._check_name(parent, name)
        self.remove(parent, name)
        os.mkdir(name, 0o755, dir_fd=parent.fd)

    def make_file(
        self, parent: Folder, name: str, content: IO[bytes], *, executable: bool, time_s: float
    ) -> None:
        """Write a file in the place of whatever was there."""
        self._check_name(parent, name)
        self.remove(parent, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o755 if executable else 0o644, dir_fd=parent.fd)
        with open(fd, "wb") as file:  # noqa: PTH123  # the descriptor is open already
            while data := content.read(_CHUNK_BYTES):
                self._budget.data(len(data))
                file.write(data)
            file.flush()
            seconds = min(max(0.0, time_s), _MOST_S)
            os.utime(fd, (seconds, seconds))

    def make_link(self, parent: Folder, name: str, target: str) -> None:
        """Make a symbolic link, whose target is text alone, in the place of whatever was there."""
        self._check_name(parent, name)
        if not 0 < len(os.fsencode(target)) < 4096 or "\0" in target:
            raise Refused("a link of the image leads nowhere", parent.inner(name))
        self.remove(parent, name)
        os.symlink(target, name, dir_fd=parent.fd)

    def copy(self, source: Folder, source_name: str, parent: Folder, name: str) -> None:
        """Make ``name`` a copy of ``source_name``, a file or a link: no file of a root has two names."""
        found = _lstat(source, source_name)
        if found is not None and stat.S_ISLNK(found.st_mode):
            self.make_link(parent, name, os.readlink(source_name, dir_fd=source.fd))
            return
        if found is None or not stat.S_ISREG(found.st_mode):
            raise Refused("a hard link of the image is to no file of it", parent.inner(name))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(source_name, flags, dir_fd=source.fd)
        with open(fd, "rb") as content:  # noqa: PTH123  # the descriptor is open already
            self.make_file(
                parent,
                name,
                content,
                executable=bool(found.st_mode & stat.S_IXUSR),
                time_s=found.st_mtime,
            )

    def remove(self, parent: Folder, name: str) -> None:
        """Remove what is there, whatever it is."""
        found = _lstat(parent, name)
        if found is None:
            return
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(name, dir_fd=parent.fd)
        else:
            os.unlink(name, dir_fd=parent.fd)

    def names(self, folder: Folder) -> list[str]:
        """Return the names in a folder."""
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder.fd)
        try:
            return os.listdir(fd)  # noqa: PTH208  # by descriptor
        finally:
            os.close(fd)

    def is_folder(self, parent: Folder, name: str) -> bool:
        """Tell whether ``name`` is a folder, not a link to one."""
        found = _lstat(parent, name)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def is_program(self, path: str) -> bool:
        """Tell whether ``path``, by its links, leads to an executable file."""
        for _ in range(_MAX_LINKS):
            folder, _, name = path.rstrip("/").rpartition("/")
            try:
                with self.folder(folder) as parent:
                    found = _lstat(parent, name) if name not in ("", ".", "..") else None
                    if found is None:
                        return False
                    if not stat.S_ISLNK(found.st_mode):
                        return stat.S_ISREG(found.st_mode) and bool(found.st_mode & stat.S_IXUSR)
                    target = os.readlink(name, dir_fd=parent.fd)
                    path = target if target.startswith("/") else f"{parent.path}/{target}"
            except FileNotFoundError:
                return False
        return False

    def _check_name(self, parent: Folder, name: str) -> None:
        path = parent.inner(name)
        if len(os.fsencode(name)) > _MAX_NAME_BYTES or path.count("/") >= _MAX_DEPTH:
            raise Refused("a name of the image is too long, or lies too deep", path[-80:])
        self._budget.file(path)


def _lstat(parent: Folder, name: str) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=parent.fd)
    except FileNotFoundError:
        return None
