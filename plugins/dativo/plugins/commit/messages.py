"""Control messages as the committers read and write them (docs/spec/events.md).

The kernel has checked every relayed message against schemas/events.json; these constructors check again what a commit leans on,
because a committer believes nobody with its data.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dativo.plugins.commit.contracts import Contract
from dativo.plugins.commit.faults import config_fault, protocol_fault
from dativo.plugins.commit.layouts import NO_LAYOUT, Layout, WantedLayout
from dativo.plugins.commit.partitions import partition_from
from dativo.plugins.commit.types import Column, WantedColumn, wanted_column
from dativo.protocol.layouts import PartitionValue
from dativo.protocol.state import StateEntry, Stream

T = TypeVar("T")

_STAGED_NAME = re.compile(r"[0-9a-z-]{1,100}\.parquet")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# 16 characters of at most four bytes.
_MAX_BOUND_BYTES = 64
_PIPELINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_RUN = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


def _take(event: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = event.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise protocol_fault(
            f"{event.get('type', 'message')}: {key} is not {kind.__name__}", value=repr(value)
        )
    return value


def _count(event: Mapping[str, Any], key: str) -> int:
    value = _take(event, key, int)
    if value < 0:
        raise protocol_fault(f"{key} is negative", value=str(value))
    return value


def _optional_count(event: Mapping[str, Any], key: str) -> int | None:
    return None if event.get(key) is None else _count(event, key)


def _optional_items(event: Mapping[str, Any], key: str) -> list[Any]:
    return [] if key not in event else _take(event, key, list)


def _by_stream(
    event: Mapping[str, Any], key: str, take: Callable[[Mapping[str, Any]], T]
) -> dict[Stream, T]:
    """Read a list of streams with a number each. Raises CommitFault for a stream that comes twice."""
    numbers: dict[Stream, T] = {}
    for item in _optional_items(event, key):
        if not isinstance(item, Mapping):
            raise protocol_fault(f"an item of {key} is no object", value=repr(item))
        stream = Stream.from_event(item.get("stream"))
        if stream in numbers:
            raise protocol_fault(f"{key} names a stream twice", value=str(stream))
        numbers[stream] = take(item)
    return numbers


@dataclass(frozen=True, slots=True)
class Open:
    """What to open: the target and who asks. ``overwrites``: the streams that overwrite although the mode is append, each
    with the number of its generation; None has it numbered here. ``contracts``: what holds for streams that do not declare
    themselves; one that is not in it evolves, and a conflict ends the run. ``layouts``: how their tables are to be laid out."""

    input: str
    run: str
    pipeline: str
    partition: str
    owner: str
    warehouse: Path
    namespace: str
    staging: Path
    mode: str
    overwrites: Mapping[Stream, int | None] = field(default_factory=dict)
    contracts: Mapping[Stream, Contract] = field(default_factory=dict)
    layouts: Mapping[Stream, WantedLayout] = field(default_factory=dict)

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Open:
        """Read an ``open`` event. Raises CommitFault."""
        opened = cls(
            input=_take(event, "input", str),
            run=_take(event, "run", str),
            pipeline=_take(event, "pipeline", str),
            partition=_take(event, "partition", str),
            owner=_take(event, "owner", str),
            warehouse=Path(_take(event, "warehouse", str)),
            namespace=_take(event, "namespace", str),
            staging=Path(_take(event, "staging", str)),
            mode=_take(event, "mode", str),
            overwrites=_by_stream(
                event, "overwrites", lambda item: _optional_count(item, "generation")
            ),
            contracts=_by_stream(event, "contracts", Contract.from_event),
            layouts=_by_stream(event, "layouts", WantedLayout.from_event),
        )
        for what, value, pattern in (
            ("pipeline", opened.pipeline, _PIPELINE),
            ("partition", opened.partition or "0", _PIPELINE),
            ("run", opened.run, _RUN),
        ):
            if not pattern.fullmatch(value):
                raise config_fault(
                    what,
                    f"the {what}'s name cannot be part of a file name",
                    value=value,
                    hint="Use letters, digits, '.', '-' and '_', at most 100 characters.",
                )
        if opened.mode not in ("append", "overwrite", "read"):
            raise config_fault(
                "mode",
                "this target cannot write in that mode",
                value=opened.mode,
                hint="Set target.mode to append or overwrite.",
            )
        if not opened.warehouse.is_absolute() or not opened.staging.is_absolute():
            raise protocol_fault("open: warehouse and staging are absolute paths")
        return opened

    @property
    def read_only(self) -> bool:
        """Whether the kernel only looks: nothing is fenced, recovered or written."""
        return self.mode == "read"

    @property
    def key(self) -> str:
        """Pipeline and partition as one folder name; ``@`` is in neither."""
        return f"{self.pipeline}@{self.partition}" if self.partition else self.pipeline


@dataclass(frozen=True, slots=True)
class StreamSchema:
    """The columns a stream has from now on. ``contract``, ``layout``: of a stream which declared itself; the kernel adds them."""

    stream: Stream
    revision: int
    columns: tuple[WantedColumn, ...]
    contract: Contract | None = None
    layout: WantedLayout | None = None

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> StreamSchema:
        """Read a ``stream_schema`` event. Raises CommitFault, ProtocolViolation."""
        columns = tuple(wanted_column(column) for column in _take(event, "columns", list))
        stream = Stream.from_event(event.get("stream"))
        contract, layout = event.get("contract"), event.get("layout")
        return cls(
            stream,
            _count(event, "revision"),
            columns,
            None if contract is None else Contract.from_event(contract),
            None if layout is None else WantedLayout.from_event(layout),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """The table a stream lands in and the columns for its properties.

    ``sources``: the types of the columns that the table is partitioned by. ``epoch``: the last one that was committed before the
    run; ``generation``: that of the stream's rows, if it overwrites.
    """

    table: str
    schema_id: int
    columns: tuple[Column, ...]
    layout: Layout = NO_LAYOUT
    sources: tuple[str, ...] = ()
    epoch: int = 0
    generation: int | None = None

    def to_event(self, input_id: str, schema: StreamSchema) -> dict[str, object]:
        """Return the ``stream_plan`` event that answers ``schema``."""
        return {
            "type": "stream_plan",
            "input": input_id,
            "stream": schema.stream.to_event(),
            "revision": schema.revision,
            "table": self.table,
            "schema_id": self.schema_id,
            "columns": [column.to_event() for column in self.columns],
            **self.layout.to_event(),
            "epoch": self.epoch,
            **({} if self.generation is None else {"generation": self.generation}),
        }


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file that the writer says it closed in staging. ``version``: that of all its Singer records, if they have one.

    ``partition``: what they have in common, None where the table has no partitions.
    """

    stream: Stream
    revision: int
    name: str
    rows: int
    bytes: int
    sha256: str
    version: int | None = None
    partition: tuple[PartitionValue, ...] | None = None

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> StagedFile:
        """Read an item of ``sealed.files``. Raises CommitFault, ProtocolViolation."""
        name, sha256 = _take(event, "path", str), _take(event, "sha256", str)
        if not _STAGED_NAME.fullmatch(name):
            raise protocol_fault("not a name of a staged file", code="staged_file", value=name)
        if not _SHA256.fullmatch(sha256):
            raise protocol_fault("not a SHA-256", code="staged_file", value=sha256)
        return cls(
            stream=Stream.from_event(event.get("stream")),
            revision=_count(event, "revision"),
            name=name,
            rows=_count(event, "rows"),
            bytes=_count(event, "bytes"),
            sha256=sha256,
            version=_optional_count(event, "version"),
            partition=partition_from(event.get("partition")),
        )


@dataclass(frozen=True, slots=True)
class Metrics:
    """What one column of a file holds: ``size`` in bytes in the file, ``values`` with nulls, ``nans`` only of floats.

    ``lower`` and ``upper`` are Iceberg's single values; None where there is no bound.
    """

    field_id: int
    size: int
    values: int
    nulls: int
    nans: int | None
    lower: bytes | None
    upper: bytes | None

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Metrics:
        """Read an item of ``inspected.columns``. Raises CommitFault."""
        return cls(
            field_id=_count(event, "field_id"),
            size=_count(event, "bytes"),
            values=_count(event, "values"),
            nulls=_count(event, "nulls"),
            nans=_optional_count(event, "nans"),
            lower=_bound(event, "lower"),
            upper=_bound(event, "upper"),
        )

    def to_record(self) -> list[object]:
        """Return the metrics as targets keep them."""
        bounds = [
            None if bound is None else base64.b64encode(bound).decode()
            for bound in (self.lower, self.upper)
        ]
        return [self.field_id, self.size, self.values, self.nulls, self.nans, *bounds]

    @classmethod
    def from_record(cls, record: Any) -> Metrics:
        """Read kept metrics back. Raises CommitFault, ValueError, TypeError."""
        keys = ("field_id", "bytes", "values", "nulls", "nans", "lower", "upper")
        return cls.from_event(dict(zip(keys, record, strict=True)))


def _bound(event: Mapping[str, Any], key: str) -> bytes | None:
    if event.get(key) is None:
        return None
    text = _take(event, key, str)
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise protocol_fault(f"inspected: {key} is not base64", value=text) from error
    if len(value) > _MAX_BOUND_BYTES:
        raise protocol_fault(f"inspected: {key} has {len(value)} bytes", value=text)
    return value


@dataclass(frozen=True, slots=True)
class Inspected:
    """A file that the inspector found to be what the writer says."""

    name: str
    rows: int
    bytes: int
    sha256: str
    columns: tuple[Metrics, ...]

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Inspected:
        """Read an ``inspected`` event. Raises CommitFault."""
        return cls(
            name=_take(event, "path", str),
            rows=_count(event, "rows"),
            bytes=_count(event, "bytes"),
            sha256=_take(event, "sha256", str),
            columns=tuple(map(Metrics.from_event, _take(event, "columns", list))),
        )

    def is_of(self, file: StagedFile) -> bool:
        """Whether this is the file that the writer sealed."""
        said = (file.name, file.rows, file.bytes, file.sha256)
        return said == (self.name, self.rows, self.bytes, self.sha256)


@dataclass(frozen=True, slots=True)
class Sealed:
    """One epoch as the writer sealed it. ``complete``: the last one of a source that is known to have given everything.

    ``activations``: the version of each stream that alone is to stay, if the epoch is complete.
    """

    sequence: int
    files: tuple[StagedFile, ...]
    states: tuple[StateEntry, ...]
    complete: bool = False
    activations: Mapping[Stream, int] = field(default_factory=dict)

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Sealed:
        """Read a ``sealed`` event. Raises CommitFault, ProtocolViolation."""
        files = tuple(StagedFile.from_event(file) for file in _take(event, "files", list))
        if len({file.name for file in files}) != len(files):
            raise protocol_fault("sealed names a file twice", code="staged_file")
        states = tuple(StateEntry.from_event(state) for state in _take(event, "states", list))
        complete = event.get("complete", False)
        if not isinstance(complete, bool) or (complete and event.get("final") is not True):
            raise protocol_fault("only the final sealed is complete", value=repr(complete))
        activations = _by_stream(event, "activations", lambda item: _count(item, "version"))
        return cls(_count(event, "sequence"), files, states, complete, activations)


@dataclass(frozen=True, slots=True)
class TableCommit:
    """What an epoch brought to one table. Rows that are hidden still have neither snapshot nor metadata."""

    stream: Stream
    table: str
    rows: int
    files: int
    bytes: int
    metadata_location: str | None
    snapshot_id: str | None = None

    def to_event(self) -> dict[str, object]:
        """Return the item of ``committed.tables``."""
        return {
            "stream": self.stream.to_event(),
            "table": self.table,
            "rows": self.rows,
            "files": self.files,
            "bytes": self.bytes,
            "snapshot_id": self.snapshot_id,
            "metadata_location": self.metadata_location,
        }
