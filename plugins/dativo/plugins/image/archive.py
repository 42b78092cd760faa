"""What an archive holds: files by name, out of a folder or a tar file, without unpacking it.

A folder is walked by descriptor, link by link refused. Of a tar file the headers are read once; contents are read where they lie.
"""

from __future__ import annotations

import io
import os
import posixpath
import stat
import tarfile
from pathlib import Path
from typing import Final, Protocol

from dativo.plugins.image.refusal import Refused

_MAX_MEMBERS: Final = 20_000
_MAX_LINKS: Final = 8
# RFC 1952, RFC 8878.
GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
DAMAGE: Final = (tarfile.TarError, EOFError, ValueError, OverflowError)
"""What ``tarfile`` raises on bytes that are no tar file."""


class Blob(io.RawIOBase):
    """Part of an open file: ``size`` bytes from ``offset`` on. Closes the descriptor when it ``owns`` it."""

    def __init__(self, fd: int, offset: int, size: int, *, owns: bool) -> None:
        self._fd = fd
        self._offset = offset
        self._owns = owns
        self.size = size
        self.position = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # typeshed: any buffer
        """Read on. Raises Refused where the file is shorter than it was said to be."""
        wanted = min(len(buffer), self.size - self.position)
        data = os.pread(self._fd, wanted, self._offset + self.position)
        if wanted and not data:
            raise Refused("the archive ends too early")
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)

    def begins_with(self, magic: bytes) -> bool:
        """Tell whether the content starts with ``magic``, from any position."""
        return os.pread(self._fd, min(len(magic), self.size), self._offset) == magic

    def close(self) -> None:
        """Close it; twice is harmless."""
        if self._owns and not self.closed:
            os.close(self._fd)
        super().close()


class Archive(Protocol):
    """Files by name."""

    def open(self, name: str) -> Blob | None:
        """Return the file ``name``, None when there is none. Raises Refused for what is no file."""
        ...

    def close(self) -> None:
        """Let it go, after the last read of a file of it."""
        ...


def open_archive(path: Path) -> Archive:
    """Return what lies at ``path``. Raises Refused."""
    return Folder(path) if path.is_dir() else Tar(path)


class Folder:
    """An OCI image layout as a folder."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def open(self, name: str) -> Blob | None:
        """See Archive."""
        *folders, last = name.split("/")
        held = os.dup(self._fd)
        try:
            for folder in folders:
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                inner = os.open(folder, flags, dir_fd=held)
                os.close(held)
                held = inner
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(last, flags, dir_fd=held)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Refused(
                f"a file of the archive cannot be read: {error.strerror}", name
            ) from error
        finally:
            os.close(held)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise Refused("what should be a file of the archive is none", name)
        return Blob(fd, 0, found.st_size, owns=True)

    def close(self) -> None:
        """See Archive."""
        os.close(self._fd)


class Tar:
    """A tar file, as ``docker save`` and the like write it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = os.fstat(self._fd).st_size
        self._files: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        try:
            whole = Blob(self._fd, 0, self._size, owns=False)
            if whole.begins_with(GZIP) or whole.begins_with(ZSTD):
                raise Refused(
                    "the archive is compressed as a whole: unpack it to a plain .tar first"
                )
            self._index(path)
        except DAMAGE as error:
            self.close()
            raise Refused("the archive is neither a folder nor a tar file", str(error)) from error
        except Refused:
            self.close()
            raise

    def open(self, name: str) -> Blob | None:
        """See Archive. A link in the archive leads to another file of it, as old versions of Docker wrote it."""
        for _ in range(_MAX_LINKS):
            if name in self._files:
                return Blob(self._fd, *self._files[name], owns=False)
            if name not in self._links:
                return None
            name = self._links[name]
        raise Refused("links of the archive lead to one another", name)

    def close(self) -> None:
        """See Archive."""
        os.close(self._fd)

    def _index(self, path: Path) -> None:
        with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as tar:
            while (entry := tar.next()) is not None:
                # It keeps all that it has seen otherwise.
                tar.members.clear()  # type: ignore[attr-defined]  # typeshed does not know it
                self._enter(entry)
                if len(self._files) + len(self._links) > _MAX_MEMBERS:
                    raise Refused(f"the archive has more than {_MAX_MEMBERS} files")

    def _enter(self, entry: tarfile.TarInfo) -> None:
        name = posixpath.normpath(entry.name).lstrip("/")
        if entry.issym():
            target = posixpath.join(posixpath.dirname(name), entry.linkname)
            self._links[name] = posixpath.normpath(target).lstrip("/")
        elif entry.islnk():
            self._links[name] = posixpath.normpath(entry.linkname).lstrip("/")
        elif entry.isreg() and not entry.issparse():
            if name in self._files:
                raise Refused("a file is in the archive twice", name)
            if entry.size < 0 or entry.offset_data + entry.size > self._size:
                raise Refused("the archive ends too early", name)
            self._files[name] = (entry.offset_data, entry.size)
