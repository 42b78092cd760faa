"""One uid and gid per process, from a range that nobody else uses.

The range starts where systemd's container range ends (systemd.io/UIDS-GIDS); no distribution and no person has uids
there. Its first number is left out: it owns warehouses that root makes. A slot is a file under /run/dativo/uids held by
flock(2), so that concurrent runs never share one, and a launcher that dies frees its own.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dativo.sandbox.errors import SandboxError, WallMissing
from dativo.sandbox.program import Identity

FIRST_UID: Final = 1879048192  # 0x70000000
COUNT: Final = 65536
SLOTS: Final = Path("/run/dativo/uids")


class IdentityLease:
    """An identity that no other process has while this is open. Close it after everything that used it is dead."""

    def __init__(self, identity: Identity, path: Path, fd: int) -> None:
        self.identity = identity
        self._path = path
        self._fd = fd

    def close(self) -> None:
        """Give the identity back. Closing twice is harmless."""
        if self._fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def allocate_identity(slots: Path = SLOTS) -> IdentityLease:
    """Take a free uid and gid at random. Root only; raises SandboxError otherwise or when all are taken, WallMissing where
    none can be held.
    """
    if os.geteuid() != 0:
        raise SandboxError("only root can give a process an identity of its own")
    try:
        return _take(slots)
    except OSError as error:
        raise WallMissing(
            "identity",
            f"{slots}: {error.strerror}",
            "Run as a plain user, or with a /run that can be written.",
        ) from error


def _take(slots: Path) -> IdentityLease:
    slots.mkdir(mode=0o755, parents=True, exist_ok=True)
    # At random, so that a uid is not soon used again while files of its last owner may lie about.
    start = int.from_bytes(os.urandom(4), "little")
    for step in range(COUNT - 1):
        slot = 1 + (start + step) % (COUNT - 1)
        path = slots / str(slot)
        if (fd := _lock(path)) is not None:
            uid = FIRST_UID + slot
            return IdentityLease(Identity(uid, uid), path, fd)
    raise SandboxError(
        f"all {COUNT - 1} identities are in use",
        f"Look for runs that do not end: lsof {slots}/*",
    )


def _lock(path: Path) -> int | None:
    """Lock the slot's file, or return None when another process has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The last owner may have removed the file between our open and our lock: then the lock is worth nothing.
        if path.stat().st_ino == os.fstat(fd).st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):
        os.close(fd)
        return None
    os.close(fd)
    return None
