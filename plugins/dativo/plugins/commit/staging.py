"""Taking files out of a folder that another, possibly hostile, process writes.

The writer still owns the folder while we read it, so nothing is looked up twice: a file is opened once, by name below the
folder's descriptor, checked on that descriptor, and copied from it. The copy is what gets hashed and placed; the writer
cannot reach it.
Sources: openat(2), fifo(7); notes on descriptors that outlive a rename are in docs/spec/commit.md.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from dativo.plugins.commit.durable import SyncedFile
from dativo.plugins.commit.faults import CommitFault, io_fault
from dativo.plugins.commit.messages import StagedFile
from dativo.protocol.errors import Blame

COPY_BYTES = 1024 * 1024
PARQUET_MAGIC = b"PAR1"
# Magic, one byte of footer, its length, magic again: anything shorter is no Parquet file.
MIN_PARQUET_BYTES = 4 + 1 + 4 + 4


class Staging:
    """The folder ``path`` where the writer leaves closed files. Raises CommitFault on whatever is not such a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(path, flags)
        except OSError as error:
            raise io_fault(error, "open the staging folder", path) from error

    def take(self, file: StagedFile, destination: Path) -> None:
        """Copy ``file`` to the new file ``destination``, synced, once all that the writer said of it is proved."""
        source = self._open(file)
        try:
            with SyncedFile(destination) as copy:
                self._copy(file, source, copy)
        except OSError as error:
            raise io_fault(error, "copy a staged file", destination) from error
        finally:
            os.close(source)

    def remove(self, file: StagedFile) -> None:
        """Delete ``file`` from the folder; a file that the writer took away itself is no error."""
        try:
            os.unlink(file.name, dir_fd=self._descriptor)
        except FileNotFoundError:
            return
        except OSError as error:
            raise io_fault(error, "delete a staged file", self._path / file.name) from error

    def close(self) -> None:
        """Release the folder."""
        os.close(self._descriptor)

    def _open(self, file: StagedFile) -> int:
        # O_NONBLOCK: opening a FIFO would wait for its other end. It means nothing to a regular file.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        try:
            descriptor = os.open(file.name, flags, dir_fd=self._descriptor)
        except OSError as error:
            raise _refusal(file, f"cannot be opened: {error.strerror}") from error
        status = os.fstat(descriptor)
        fault = None
        if not stat.S_ISREG(status.st_mode):
            fault = "is not a regular file"
        elif status.st_nlink != 1:
            fault = f"has {status.st_nlink} links"
        elif status.st_size != file.bytes:
            fault = f"has {status.st_size} bytes, the manifest says {file.bytes}"
        elif status.st_size < MIN_PARQUET_BYTES:
            fault = "is too short for Parquet"
        if fault is not None:
            os.close(descriptor)
            raise _refusal(file, fault)
        return descriptor

    def _copy(self, file: StagedFile, source: int, copy: SyncedFile) -> None:
        hashed = hashlib.sha256()
        buffer = memoryview(bytearray(COPY_BYTES))
        copied, head, tail = 0, b"", b""
        while got := os.readv(source, [buffer]):
            chunk = buffer[:got]
            copied += got
            if copied > file.bytes:
                raise _refusal(file, "grew while it was read")
            hashed.update(chunk)
            copy.write(chunk)
            if len(head) < 4:
                head = (head + bytes(chunk[:4]))[:4]
            tail = (tail + bytes(chunk[-4:]))[-4:]
        if copied != file.bytes:
            raise _refusal(file, "shrank while it was read")
        if hashed.hexdigest() != file.sha256:
            raise _refusal(file, f"hashes to {hashed.hexdigest()}, the manifest says {file.sha256}")
        if head != PARQUET_MAGIC or tail != PARQUET_MAGIC:
            raise _refusal(file, "does not begin and end with PAR1")


def _refusal(file: StagedFile, why: str) -> CommitFault:
    return CommitFault(
        f"the writer's staged file {file.name} {why}",
        code="protocol.staged_file",
        stream=file.stream,
        value=file.name,
        hint="The writer and the staging folder disagree; the epoch was not committed.",
        blame=Blame.DATIVO,
    )
