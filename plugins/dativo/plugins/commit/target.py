"""What a target must do for ``committer.Committer``; ``iceberg`` and ``parquet`` each do it their way."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dativo.plugins.commit.faults import CommitFault
from dativo.plugins.commit.layouts import NO_PLACEMENT, Placement
from dativo.plugins.commit.messages import Metrics, Open, Plan, StreamSchema, TableCommit
from dativo.plugins.commit.types import Column
from dativo.protocol.errors import Blame, ProtocolViolation
from dativo.protocol.state import StateEntry, Stream, digest


@dataclass(frozen=True, slots=True)
class Generation:
    """How far the overwriting of a stream is. ``published``: the generation that readers see, 0 before the first one;
    ``pending``: the one that is being filled unseen."""

    stream: Stream
    published: int
    pending: int | None

    def to_record(self) -> dict[str, object]:
        """Return the generation as targets keep it."""
        return {
            "stream": self.stream.to_event(),
            "published": self.published,
            "pending": self.pending,
        }


@dataclass(frozen=True, slots=True)
class Head:
    """The last committed epoch of a pipeline; ``attempt`` is the try that committed it.

    ``states`` go with what readers see, ``pending`` with the rows of the hidden generations.
    """

    epoch: int
    attempt: str
    states: tuple[StateEntry, ...]
    pending: tuple[StateEntry, ...] = ()
    generations: tuple[Generation, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A data file at its final path, ``path`` relative to the warehouse, written by the table's schema ``schema_id``.

    ``version``: that of its Singer records, if they have one. ``generation``: the hidden one it was written for, if any.
    ``metrics``: what its columns hold, as far as it is known, and ``placement``: both only until readers see the file.
    """

    stream: Stream
    path: str
    schema_id: int
    rows: int
    bytes: int
    sha256: str
    version: int | None = None
    generation: int | None = None
    metrics: tuple[Metrics, ...] = ()
    placement: Placement = NO_PLACEMENT


@dataclass(frozen=True, slots=True)
class TableListing:
    """A table as readers find it. ``files`` are live, at absolute paths, and have ``columns``; an Iceberg table names its own in
    its metadata."""

    stream: Stream
    table: str
    metadata_location: str | None
    files: tuple[PlacedFile, ...]
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """One try to commit an epoch, written down before its first file is placed.

    ``states`` and ``pending``: as in ``Head``, after this epoch. ``generations``: those that it changes. ``dropped``: streams
    whose hidden files of earlier epochs go unseen. ``swaps``: streams whose table becomes the generation. ``activations``:
    streams that keep the files of one version only. What is kept for recovery is the try, its files and its states.
    """

    epoch: int
    attempt: str
    run: str
    files: tuple[PlacedFile, ...]
    states: tuple[StateEntry, ...]
    pending: tuple[StateEntry, ...] = ()
    generations: tuple[Generation, ...] = ()
    dropped: frozenset[Stream] = frozenset()
    swaps: frozenset[Stream] = frozenset()
    activations: Mapping[Stream, int] = field(default_factory=dict)

    @property
    def changes_tables(self) -> bool:
        """Whether more than the states changes."""
        return bool(self.files or self.swaps or self.activations)

    @property
    def parent(self) -> int:
        """The epoch this one follows."""
        return self.epoch - 1

    def by_stream(self) -> dict[Stream, tuple[PlacedFile, ...]]:
        """Return the files grouped by stream."""
        grouped: dict[Stream, tuple[PlacedFile, ...]] = {}
        for file in self.files:
            grouped[file.stream] = (*grouped.get(file.stream, ()), file)
        return grouped


class Target(Protocol):
    """A place that takes epochs. Every method blocks and raises CommitFault.

    ``keeps_metrics``: it tells readers what columns hold.
    """

    program: str
    keeps_metrics: bool

    def attach(self, request: Open) -> Head:
        """Take the pipeline over from whoever held it and return what is committed. Imports nothing heavy."""
        ...

    def inspect(self, request: Open) -> tuple[Head, Sequence[TableListing]]:
        """Return what is committed and the pipeline's tables; changes nothing and disturbs no run. Imports nothing heavy."""
        ...

    def placing(self) -> Path:
        """Return the folder for copies that have no final name yet, on the file system of the tables, ours alone."""
        ...

    def intents(self) -> Sequence[Intent]:
        """Return the tries that earlier runs left behind."""
        ...

    def load(self) -> None:
        """Import what ``plan`` and ``publish`` need; called while the source starts."""
        ...

    def plan(self, schema: StreamSchema) -> Plan:
        """Make or grow the stream's table."""
        ...

    def data_folder(self, stream: Stream) -> Path:
        """Return the existing folder where the stream's files are placed; the stream has a plan."""
        ...

    def check_held(self) -> None:
        """Raise ``conflict.epoch`` when another run has taken the pipeline over."""
        ...

    def record(self, intent: Intent) -> None:
        """Write ``intent`` down, durably, if the pipeline is still ours; else ``conflict.epoch``."""
        ...

    def publish(self, intent: Intent) -> list[TableCommit]:
        """Take files and states of ``intent`` over in one step, show what is not for a pending generation, and forget it.

        Raises ``conflict.epoch`` when another run has taken the pipeline over, and only if nothing was shown: the caller then
        deletes the files. Any other error leaves open whether the epoch is committed.
        """
        ...

    def discard(self, intent: Intent) -> None:
        """Delete what ``publish`` left of a try that never was committed. Data files are the caller's."""
        ...

    def forget(self, intent: Intent) -> None:
        """Remove a recorded intent that needs nothing more."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


def states_text(states: Sequence[StateEntry]) -> str:
    """Return the states as the JSON text that targets keep."""
    return json.dumps([state.to_event() for state in states], ensure_ascii=False)


def parsed(text: str, where: str) -> Any:
    """Return the value of JSON that we kept in ``where``. Raises CommitFault."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise corrupt(f"a kept record is not JSON: {error}", where) from error


def states_from(items: Any, sha256: str, where: str) -> tuple[StateEntry, ...]:
    """Read kept states back. Raises CommitFault when they do not hash to ``sha256``."""
    try:
        states = tuple(StateEntry.from_event(item) for item in items)
    except (ValueError, TypeError, ProtocolViolation) as error:
        raise corrupt(f"the kept state cannot be read: {error}", where) from error
    if digest(states) != sha256:
        raise corrupt("the kept state does not match its hash", where)
    return states


def corrupt(what: str, where: str) -> CommitFault:
    """Return the error for records of ours that nobody but us may write and that no longer fit."""
    return CommitFault(
        what,
        code="target.corrupt",
        value=where,
        hint="Something else changed it. Restore it from a backup; nothing was written.",
        blame=Blame.MACHINE,
    )


def files_text(files: Sequence[PlacedFile]) -> str:
    """Return the files of an intent as the JSON text that targets keep."""
    return json.dumps([file_record(file) for file in files], ensure_ascii=False)


def file_record(file: PlacedFile) -> dict[str, object]:
    """Return one file as a JSON object; ``version``, ``generation`` and what a layout gives it only where it has them."""
    record: dict[str, object] = {
        "stream": file.stream.to_event(),
        "path": file.path,
        "schema_id": file.schema_id,
        "rows": file.rows,
        "bytes": file.bytes,
        "sha256": file.sha256,
    }
    for key, number in (("version", file.version), ("generation", file.generation)):
        if number is not None:
            record[key] = number
    return record | file.placement.to_record()


def files_from(items: Any, where: str) -> tuple[PlacedFile, ...]:
    """Read kept files back, with metrics where they were kept too.

    Raises CommitFault, for a path that leaves the warehouse too: recovery deletes by it.
    """
    try:
        files = tuple(
            PlacedFile(
                Stream.from_event(item["stream"]),
                item["path"],
                item["schema_id"],
                item["rows"],
                item["bytes"],
                item["sha256"],
                item.get("version"),
                item.get("generation"),
                tuple(map(Metrics.from_record, item.get("metrics", ()))),
                Placement.from_record(item),
            )
            for item in items
        )
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        ProtocolViolation,
        CommitFault,
    ) as error:
        raise corrupt(f"the kept list of files cannot be read: {error}", where) from error
    for file in files:
        check_inside(file.path, where)
    return files


def check_inside(path: str, where: str) -> None:
    """Raise CommitFault unless the kept ``path`` is a relative one that stays below its root: files are deleted by it."""
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise corrupt(f"a kept record names a file outside the warehouse: {path}", where)


def generation_from(item: Any, where: str) -> Generation:
    """Read a kept generation back. Raises CommitFault."""
    try:
        stream = Stream.from_event(item["stream"])
        published, pending = item["published"], item["pending"]
        if not isinstance(published, int) or not isinstance(pending, int | None):
            raise TypeError("numbers are integers")
    except (TypeError, KeyError, ProtocolViolation) as error:
        raise corrupt(f"a kept generation cannot be read: {error}", where) from error
    return Generation(stream, published, pending)
