"""The exchange folder of a run: files that a source leaves for its reader (Singer's BATCH, Airbyte's file transfer).

    source ──writes──▶ <state>/exchange/<run> ◀──reads── foreign target, or our writer          both see it as /exchange

It is there for one run, and nobody else sees it: as root it is the source's own with the target's group, below a folder that is
closed to everybody. The source can make files and folders in it and no links (``Grants.exchange`` of the sandbox); the target
cannot change it. Its size is measured while the run lasts, so a fast disk takes somewhat more before the run is ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dativo.kernel import limits, quantities, show
from dativo.kernel.grants import Grants
from dativo.kernel.job import ForeignTargetJob, Job
from dativo.kernel.removal import remove_tree, remove_unlocked
from dativo.protocol.catalog import Dialect
from dativo.protocol.errors import (
    Blame,
    ConfigError,
    DativoError,
    LimitExceeded,
    ProtocolViolation,
    Where,
)
from dativo.sandbox import Identity

INSIDE: Final = "/exchange"
_FOLDER: Final = "exchange"
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK_BYTES: Final = 512
_EVERY_S: Final = 0.1
_SHARE_OF_TIME: Final = 0.05
_MAX_DEPTH: Final = 32


def agreed(
    job: Job, source: Grants, target: Grants | None, dialects: tuple[Dialect, Dialect]
) -> int:
    """Return how many bytes the folder of ``job`` may hold, 0 for none: the smaller of what source and target were granted.

    dativo's own targets need no grant to read what the source may leave. Raises ConfigError where one of them has nobody to
    exchange with, or speaks another dialect.
    """
    where = Where(file=str(job.path), pointer="/source/grants/exchange")
    if not isinstance(job.target, ForeignTargetJob):
        if source.exchange_bytes and dialects[0] != "singer":
            raise ConfigError(
                "dativo's own targets take rows, and no files of an Airbyte source",
                where,
                hint="Take `exchange` out of source.grants, and leave out streams that transfer files",
            )
        return source.exchange_bytes
    given = source.exchange_bytes, target.exchange_bytes if target is not None else 0
    if any(given) and not all(given):
        lacking = "target" if given[0] else "source"
        raise ConfigError(
            "an exchange folder is asked for by source and target, or by neither",
            Where(file=str(job.path), pointer=f"/{lacking}/grants"),
            hint=f"Write {lacking}.grants.exchange: {quantities.show_bytes(max(given))}",
        )
    if all(given) and dialects[0] != dialects[1]:
        raise ConfigError(
            "files are exchanged by connectors of one dialect alone",
            where,
            value=f"{dialects[0]} to {dialects[1]}",
            hint="Take `exchange` out of both grants, and have the source write records",
        )
    return min(given)


def variables(dialect: Dialect, max_bytes: int) -> tuple[tuple[str, str], ...]:
    """Return what tells a connector of the folder, as Airbyte's platform does; Singer plugins are told by their configuration."""
    if dialect == "singer":
        return ()
    return (
        ("AIRBYTE_STAGING_DIRECTORY", INSIDE),
        ("USE_FILE_TRANSFER", "true"),
        ("CONNECTOR_STORAGE_LIMIT_BYTES", str(max_bytes)),
    )


@dataclass(slots=True)
class ExchangeFolder:
    """The folder of a run under way. ``most`` is what it was seen to hold at once, in bytes."""

    path: Path
    max_bytes: int
    fd: int
    most: int = 0
    _due_at: float = 0.0

    def watch(self) -> None:
        """Measure the folder now and then; ``measure`` says what is raised."""
        if time.monotonic() >= self._due_at:
            self.measure()

    def measure(self) -> None:
        """Raise LimitExceeded for a folder that holds too much, ProtocolViolation for what is neither file nor folder."""
        began = time.monotonic()
        try:
            held = self._held()
        except OSError as error:
            raise ProtocolViolation(
                f"the exchange folder cannot be measured: {error.strerror}",
                Where(plugin="source"),
                hint="The source has to leave its folders open to their owner",
            ) from error
        ended = time.monotonic()
        self._due_at = ended + max(_EVERY_S, (ended - began) / _SHARE_OF_TIME)
        self.most = max(self.most, held)
        if held > self.max_bytes:
            raise LimitExceeded(
                f"the exchange folder holds more than {quantities.show_bytes(self.max_bytes)}",
                Where(plugin="source"),
                value=f"{held} bytes",
                hint="grants.exchange of source and target is the cap: let the job ask for more, and the operator approve it or "
                "raise the policy's ceiling",
                blame=Blame.PLUGIN,
            )

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files that nobody needs any more, which the reader of the folder names. One that is gone already is fine.

        Raises ProtocolViolation for what is no plain name below the folder, or leads to no file.
        """
        for path in paths:
            check_name(path)
            *way, name = path.split("/")
            try:
                with _opened(self.fd, tuple(way)) as fd:
                    if fd is not None:
                        os.unlink(name, dir_fd=fd)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ProtocolViolation(
                    f"a file of the exchange folder cannot be removed: {error.strerror}",
                    value=show.foreign(path),
                ) from error

    def _held(self) -> int:
        held, entries = 0, 0
        seen: set[tuple[int, int]] = set()
        folders: list[tuple[str, ...]] = [()]
        while folders:
            way = folders.pop()
            with _opened(self.fd, way) as fd:
                names = _names(fd)
                entries += len(names)
                if entries > limits.EXCHANGE_FILES or len(way) > _MAX_DEPTH:
                    raise LimitExceeded(
                        f"the exchange folder holds more than {int(limits.EXCHANGE_FILES)} files, or {_MAX_DEPTH} levels",
                        Where(plugin="source"),
                    )
                for name in names:
                    found = _status(name, fd)
                    if found is None or (found.st_dev, found.st_ino) in seen:
                        continue
                    seen.add((found.st_dev, found.st_ino))
                    held += found.st_blocks * _BLOCK_BYTES
                    if stat.S_ISDIR(found.st_mode):
                        folders.append((*way, name))
                    elif not stat.S_ISREG(found.st_mode):
                        raise ProtocolViolation(
                            "the exchange folder holds what is neither file nor folder",
                            Where(plugin="source"),
                            value=show.foreign(name, max_chars=limits.MAX_VALUE_CHARS),
                        )
        return held


def check_name(path: str) -> None:
    """Raise ProtocolViolation unless ``path`` is made of plain names."""
    if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ProtocolViolation("no file of the exchange folder", value=show.foreign(path))


@contextlib.contextmanager
def _opened(top: int, way: tuple[str, ...]) -> Iterator[int | None]:
    """Give the folder that ``way`` leads to, step by step and through no link; None where it is gone."""
    fd = os.dup(top)
    try:
        for name in way:
            try:
                below = os.open(name, _OPEN, dir_fd=fd)
            except FileNotFoundError:
                yield None
                return
            os.close(fd)
            fd = below
        # A copy shares the position of the original, and so would two readings of it.
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def _names(fd: int | None) -> list[str]:
    if fd is None:
        return []
    with os.scandir(fd) as found:
        return [entry.name for entry in itertools.islice(found, limits.EXCHANGE_FILES + 1)]


def _status(name: str, fd: int | None) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None  # removed meanwhile


@contextlib.contextmanager
def exchange_folder(
    state: Path, run: str, max_bytes: int, *, source: Identity | None, target: Identity | None
) -> Iterator[ExchangeFolder]:
    """Make the folder of ``run`` below ``state``, after what dead runs have left is cleared; it is removed at the end.

    Leave the context after both processes are gone. Raises ConfigError where the target could read nothing in it, DativoError
    where it cannot be made.
    """
    mask = os.umask(0o022)
    os.umask(mask)
    if source != target and mask & stat.S_IRGRP:
        raise ConfigError(
            f"with the umask {mask:04o} the target cannot read what the source writes",
            hint="umask 022",
        )
    try:
        parent = _parent(state)
        try:
            fd = _make(parent, run, source, target)
        except BaseException:
            os.close(parent)
            raise
    except OSError as error:
        raise DativoError(
            f"cannot make the exchange folder: {error.strerror}",
            Where(file=str(state / _FOLDER)),
            blame=Blame.MACHINE,
        ) from error
    try:
        yield ExchangeFolder(state / _FOLDER / run, max_bytes, fd)
    finally:
        try:
            remove_tree(run, parent)
        except OSError as error:  # fails no run
            show.note(
                f"the exchange folder {state / _FOLDER / run} cannot be removed: {error.strerror}; the next run clears it"
            )
        os.close(fd)
        os.close(parent)


def _parent(state: Path) -> int:
    folder = state / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    return os.open(folder, _OPEN)


def _make(parent: int, run: str, source: Identity | None, target: Identity | None) -> int:
    """Return the new folder, locked for as long as it is open, so that others know that it is in use."""
    fcntl.flock(parent, fcntl.LOCK_EX)
    try:
        for name in _names(parent):
            remove_unlocked(name, parent)
        os.mkdir(run, 0o700, dir_fd=parent)
        fd = os.open(run, _OPEN, dir_fd=parent)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if source is not None and target is not None:
            # Whatever is made in it is of the target's group.
            os.fchown(fd, source.uid, target.gid)
            os.fchmod(fd, 0o2750)
        return fd
    finally:
        fcntl.flock(parent, fcntl.LOCK_UN)
