"""The digest of a folder's every file, and its fast re-check before each launch.

A listing has one line per entry, sorted by path: kind, executable bit, size, SHA-256 (or link target), path. The digest of the
folder is the SHA-256 of that text, so the listing kept beside the folder proves itself and can name the file that changed.

A check reads the metadata of every entry (mode, size, ctime, inode: no write leaves ctime as it was, inode(7)) and hashes again
only what changed since the last check. That memory lies in dativo's own state, outside every workspace.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from dativo.kernel import limits
from dativo.kernel.document import write_atomic
from dativo.kernel.paths import make_folder
from dativo.protocol.errors import (
    Blame,
    DativoError,
    ExitStatus,
    InternalError,
    LimitExceeded,
    Where,
)

Metadata: TypeAlias = "tuple[int, int, int, int]"
"""Mode, size, ctime in ns, inode."""

CLOCK_TICK_S: Final = 0.1
"""A file changed this shortly before it was looked at may change again without a new ctime: the kernel's clock ticks."""


class TreeMismatch(DativoError):
    """An installed plugin is not what was installed; names the first file that differs."""

    status = ExitStatus.CONFIGURATION
    default_blame = Blame.USER


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of a folder as text, one line each."""

    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of the listing, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def entries(self) -> dict[str, str]:
        """Return each path with the rest of its line."""
        found = {}
        for line in self.text.splitlines():
            kind, executable, size, content, path = line.split(" ", 4)
            found[json.loads(path)] = f"{kind} {executable} {size} {content}"
        return found

    def totals(self) -> tuple[int, int]:
        """Return files and bytes."""
        sizes = [line.split(" ", 3)[2] for line in self.text.splitlines() if line[0] == "f"]
        return len(sizes), sum(map(int, sizes))

    @classmethod
    def of(cls, entries: dict[str, str]) -> Listing:
        """Return the listing of ``entries``, whatever their order."""
        return cls("".join(f"{entries[path]} {json.dumps(path)}\n" for path in sorted(entries)))


def measure(root: Path) -> Listing:
    """Hash every file below ``root``. Raises TreeMismatch for what no plugin may hold (devices, set-uid, second links)."""
    return Listing.of({path: _entry(root, path, seen) for path, seen in _walk(root)})


def make_read_only(root: Path) -> None:
    """Take the write bits from every entry below ``root`` and give everybody what the owner may read and run."""
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o555 if path.stat().st_mode & stat.S_IXUSR else 0o444)
        Path(folder).chmod(0o555)


def make_removable(root: Path) -> None:
    """Give the owner back the write bits of the folders below ``root``, so that it can be deleted."""
    for folder, _, _ in os.walk(root):
        Path(folder).chmod(0o755)


def check(root: Path, listing: Path, digest: str, cache: Path, *, always: bool = False) -> int:
    """Check ``root`` against the ``listing`` file, whose digest must be ``digest``; return how many files were hashed.

    ``cache``: folder of what is remembered between checks. ``always``: hash everything (``dativo plugin verify``).
    Blocks for about 5 µs per entry, and 1 s per 300 MB to hash. Raises TreeMismatch.
    """
    started = time.time()
    memory = cache / "trees" / f"{digest}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"
    fingerprint, newest = _fingerprint(root)
    if not always and _remembered_fingerprint(memory) == fingerprint:
        return 0
    now = dict(_walk(root))
    expected = _expected(listing, digest)
    known = {} if always else _remembered(memory)
    hashed = 0
    for path in sorted(now.keys() | expected.keys()):
        if path not in now or path not in expected:
            what = "is missing" if path in expected else "was added"
            raise _mismatch(root, path, what)
        if known.get(path) == list(now[path]):
            continue
        hashed += stat.S_ISREG(now[path][0])
        if _entry(root, path, now[path]) != expected[path]:
            raise _mismatch(root, path, "was changed")
    if newest < (started - CLOCK_TICK_S) * 1e9:
        make_folder(cache, 0o700)
        make_folder(cache / "trees", 0o700)
        write_atomic(memory, fingerprint + "\n" + json.dumps(now) + "\n", mode=0o600)
    return hashed


def _expected(listing: Path, digest: str) -> dict[str, str]:
    try:
        kept = Listing(listing.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise TreeMismatch(
            "the list of a plugin's files cannot be read", Where(file=str(listing))
        ) from error
    if kept.digest != digest:
        raise TreeMismatch("the list of a plugin's files was changed", Where(file=str(listing)))
    return kept.entries()


def _mismatch(root: Path, path: str, what: str) -> TreeMismatch:
    return TreeMismatch(f"a file of an installed plugin {what}", Where(file=str(root / path)))


def _fingerprint(root: Path) -> tuple[str, int]:
    """Return a digest of every entry's metadata and the newest ctime. It is all that a launch pays for: no dict, no sorting."""
    digest = hashlib.sha256()
    newest = 0
    for folder, rows in _folders(root):
        newest = max(newest, max((row[3] for row in rows), default=0))
        digest.update(repr((folder, rows)).encode(errors="replace"))
    return digest.hexdigest(), newest


def _walk(root: Path) -> Iterator[tuple[str, Metadata]]:
    """Yield each entry below ``root`` with its metadata."""
    for folder, rows in _folders(root):
        for name, *seen in rows:
            yield f"{folder}/{name}" if folder else name, (seen[0], seen[1], seen[2], seen[3])


def _folders(root: Path) -> Iterator[tuple[str, list[tuple[str, int, int, int, int]]]]:
    """Yield each folder with name and metadata of its entries, in the order of the file system."""
    base = os.fspath(root)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folders = [""]
    count = 0
    try:
        while folders:
            folder = folders.pop()
            rows = []
            fd = os.open(f"{base}/{folder}", flags)
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        seen = entry.stat(follow_symlinks=False)
                        mode = seen.st_mode
                        rows.append((entry.name, mode, seen.st_size, seen.st_ctime_ns, seen.st_ino))
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(f"{folder}/{entry.name}" if folder else entry.name)
            finally:
                os.close(fd)
            count += len(rows)
            if count > limits.TREE_FILES:
                raise LimitExceeded(
                    f"a plugin has more than {limits.TREE_FILES} files", Where(file=str(root))
                )
            yield folder, rows
    except OSError as error:
        raise TreeMismatch(
            f"a plugin's files cannot be read: {error.strerror}",
            Where(file=str(error.filename or root)),
        ) from error


def _entry(root: Path, path: str, seen: Metadata) -> str:
    """Return the line of one entry without its path."""
    mode = seen[0]
    full = root / path
    try:
        if stat.S_ISDIR(mode):
            return "d - 0 -"
        if stat.S_ISLNK(mode):
            # A space would end the field.
            target = json.dumps(str(full.readlink())).replace(" ", "\\u0020")
            return f"l - 0 {target}"
        if not stat.S_ISREG(mode) or mode & (stat.S_ISUID | stat.S_ISGID):
            raise _mismatch(root, path, "is neither a plain file, a folder nor a link")
        fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as stream:  # noqa: PTH123  # the descriptor is open already
            status = os.fstat(fd)
            if status.st_nlink != 1:
                raise _mismatch(root, path, "has a second name (hard link)")
            if (status.st_ino, status.st_ctime_ns) != (seen[3], seen[2]):
                raise _mismatch(root, path, "changed while it was read")
            content = hashlib.file_digest(stream, "sha256").hexdigest()
            size = status.st_size
    except OSError as error:
        raise InternalError(
            f"cannot read a plugin's file: {error.strerror}", Where(file=str(full))
        ) from error
    return f"f {'x' if mode & stat.S_IXUSR else '-'} {size} {content}"


def _remembered_fingerprint(memory: Path) -> str | None:
    try:
        with memory.open() as stream:
            return stream.readline(65).rstrip("\n")
    except FileNotFoundError:
        return None


def _remembered(memory: Path) -> dict[str, list[int]]:
    """Return the metadata at the last check; nothing when there was none or its memory is damaged."""
    try:
        _, _, table = memory.read_text().partition("\n")
        found = json.loads(table)
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
