"""The descriptors of one launch: memory files, pipes, copies of the caller's."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from typing import Final

_LOWEST_FD: Final = 10


class Descriptors:
    """Descriptors of one launch, all above the standard ones and closed at exec; closed by ``close_all`` unless taken."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def own(self, fd: int) -> int:
        """Move a new descriptor out of the way of 0, 1 and 2."""
        if fd < _LOWEST_FD:
            low, fd = fd, self.copy(fd)
            os.close(low)
        self._open.add(fd)
        return fd

    def copy(self, fd: int) -> int:
        """Duplicate a descriptor of the caller."""
        new = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD)
        self._open.add(new)
        return new

    def content(self, name: str, content: bytes) -> int:
        """Hold bytes in a memory file, to be read from its start."""
        fd = self.own(os.memfd_create(name))
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def pipe(self) -> tuple[int, int]:
        """Make a pipe: read end, write end."""
        out, into = os.pipe()
        return self.own(out), self.own(into)

    def take(self, fd: int) -> int:
        """Hand a descriptor to a longer life."""
        self._open.remove(fd)
        return fd

    def close(self, fds: Iterable[int]) -> None:
        """Close some early."""
        for fd in set(fds) & self._open:
            os.close(self.take(fd))

    def close_all(self) -> None:
        """Close what is left."""
        self.close(tuple(self._open))
