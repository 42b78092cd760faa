"""Control messages as values (docs/spec/events.md; schemas/events.json is the same contract for other languages).

``parse`` is the one edge where an event of a confined process becomes a value: every field is checked for type and bound there,
and nothing behind it checks again. Messages that the kernel relays keep their original object beside the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from dativo.protocol import columntypes
from dativo.protocol.control import Event
from dativo.protocol.errors import Blame, ProtocolViolation, shown
from dativo.protocol.fields import MAX_NAME_CHARS, Reader
from dativo.protocol.layouts import (
    MAX_LAYOUT_FIELDS,
    PartitionValue,
    check_partition_field,
    check_sort_field,
    partition_value,
)
from dativo.protocol.state import StateEntry, Stream

MAX_TEXT_CHARS: Final = 1024 * 1024
MAX_CLIENTS: Final = 64
MAX_METRICS: Final = 1000
MAX_PATH_CHARS: Final = 4096

VERDICTS: Final = (
    "ok",
    "limit_connections",
    "limit_rate",
    "limit_names",
    "limit_resolving",
    "limit_upload",
    "not_granted",
    "host_blocked",
    "name_not_found",
    "resolver_failed",
    "address_blocked",
    "address_cloud",
    "address_own",
    "address_special",
    "address_private",
    "connect_failed",
    "connect_timeout",
    "proxy_refused",
    "sni_mismatch",
    "sni_missing",
    "tls_malformed",
)
"""What becomes of a connection or a lookup behind a broker (docs/spec/network.md, What is checked)."""

_FILE = re.compile(r"[0-9a-z-]{1,100}\.parquet")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BOUND = re.compile(r"[A-Za-z0-9+/]{0,88}={0,2}")
_BLAME = re.compile("|".join(Blame))
_MESSAGE_KIND = re.compile(
    r"log|trace_error|trace_status|trace_estimate|trace_other|control|text|unknown"
)
_STREAM_OF_THREE = re.compile(r"stdin|stdout|stderr")
_PUMP_END = re.compile(r"eof|closed|error")
_PRINTABLE = re.compile(r"[!-~]{1,1024}")
_ADDRESS = re.compile(r"[0-9a-f.:]{2,45}")
_VERDICT = re.compile("|".join(VERDICTS))


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of every process that has a control socket."""

    protocol: str
    program: str
    version: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recovered:
    """An epoch that an earlier run left unfinished, and what became of it."""

    epoch: int
    action: str
    files: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The committer holds the target; ``epoch`` and ``states`` are the last committed."""

    input: str
    epoch: int
    states: tuple[StateEntry, ...]
    recovered: tuple[Recovered, ...]


@dataclass(frozen=True, slots=True)
class StreamSchema:
    """Columns of a stream as the writer compiled them."""

    input: str
    stream: Stream
    revision: int
    columns: int


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """The table that a stream lands in."""

    input: str
    stream: Stream
    revision: int
    table: str


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A data file that readers of a table see; ``path`` is absolute."""

    path: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table whose files are read by field ids; ``type`` is a planned one (columntypes.py), as it was told."""

    field_id: int
    name: str
    type: Any


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a pipeline; its files may come in several of these. ``columns``: where nothing else tells them to readers."""

    input: str
    stream: Stream
    table: str
    metadata_location: str | None
    files: tuple[LiveFile, ...]
    columns: tuple[TableColumn, ...] = ()


@dataclass(frozen=True, slots=True)
class StateSeen:
    """A STATE was read and accepted."""

    input: str
    line: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of one stream: read = written + rejected + filtered once everything is sealed. In rows that are written, ``discarded``
    values became null, and ``changed`` ones are not what they were where the source found them: it says so itself."""

    stream: Stream
    read: int
    written: int
    rejected: int
    filtered: int
    discarded: int = 0
    changed: int = 0


@dataclass(frozen=True, slots=True)
class StagedFile:
    """One file that the writer closed and synced. ``partition``: that of its rows, None where there is no spec."""

    stream: Stream
    path: str
    rows: int
    bytes: int
    sha256: str
    partition: tuple[PartitionValue, ...] | None = None


@dataclass(frozen=True, slots=True)
class Echo:
    """One STATE that an epoch makes durable, as the source wrote it; ``number`` counts those of the input from 1."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Activation:
    """Singer's ACTIVATE_VERSION: rows of any other version are obsolete."""

    stream: Stream
    version: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """One epoch, ready to be committed. ``complete``: the source is known to have given everything. ``consumed``: files of the
    exchange folder, all of whose rows it and earlier ones hold."""

    input: str
    sequence: int
    final: bool
    files: tuple[StagedFile, ...]
    states: tuple[StateEntry, ...]
    counts: tuple[Counts, ...]
    complete: bool = False
    echo: tuple[Echo, ...] = ()
    activations: tuple[Activation, ...] = ()
    consumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspected:
    """One staged file was read: it is what the writer said, and hashes to ``sha256``."""

    input: str
    sequence: int
    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TableCommit:
    """What one epoch added to one table."""

    stream: Stream
    table: str
    rows: int
    files: int
    bytes: int
    snapshot_id: str | None
    metadata_location: str | None


@dataclass(frozen=True, slots=True)
class Committed:
    """An epoch is durable, data and state together."""

    input: str
    sequence: int
    epoch: int
    tables: tuple[TableCommit, ...]


@dataclass(frozen=True, slots=True)
class Stats:
    """Running totals of a writer or relay. ``ended``: the source's output has ended and every whole line of it is taken.

    ``idle_s``: for how long the pipe has been empty now; ``waited_s``: in all; ``blocked_s``: how long, in all, reading stood
    still because what comes behind did not take more. ``oddities``: what was tolerated, by name.
    """

    input: str
    bytes: int
    lines: int
    text_lines: int
    idle_s: float
    blocked_s: float
    staged_bytes: int
    ended: bool
    counts: tuple[Counts, ...]
    waited_s: float = 0.0
    oddities: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class SourceMessage:
    """What the source said besides records and states. ``text`` is hostile."""

    input: str
    kind: str
    level: str
    text: str
    line: int | None
    suppressed: int


@dataclass(frozen=True, slots=True)
class StatePassed:
    """A STATE has gone on to the reader; ``sent`` is what it got, the source's own text where that is the same."""

    input: str
    number: int
    state: StateEntry
    sent: str


@dataclass(frozen=True, slots=True)
class Limited:
    """Every stream has given as many records as were asked for."""

    input: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A foreign target says that a state is durable. ``text`` is hostile."""

    input: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Passed:
    """A relay has handed everything on, and ends."""

    input: str
    lines: int
    counts: tuple[Counts, ...]


@dataclass(frozen=True, slots=True)
class Pumped:
    """One direction of a pump has ended: ``eof`` of what it reads, ``closed`` by who reads from it, or ``error``."""

    name: str
    bytes: int
    end: str
    message: str | None


@dataclass(frozen=True, slots=True)
class Served:
    """The broker has understood its orders; ``clients`` are the processes that it serves, by name."""

    clients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection of a client has ended or was refused. ``name`` None: a literal address; ``address`` None: none was chosen.

    ``verdict`` is ``ok`` or why it was refused (docs/spec/network.md); ``detail`` is the system's word for it.
    """

    client: str
    name: str | None
    address: str | None
    port: int
    verdict: str
    up_bytes: int
    down_bytes: int
    seconds: float
    detail: str | None


@dataclass(frozen=True, slots=True)
class Lookup:
    """A name that a client asked for in vain, ``count`` times so far. ``name`` is written as master files do (RFC 1035 5.1)."""

    client: str
    name: str
    kind: str
    verdict: str
    count: int


@dataclass(frozen=True, slots=True)
class ClientTotals:
    """All that one client of the broker did. ``suppressed`` connections were not told one by one."""

    client: str
    connections: int
    refused: int
    up_bytes: int
    down_bytes: int
    lookups: int
    suppressed: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The broker has ended every connection and told everything, and ends."""

    clients: tuple[ClientTotals, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """The committer has released everything."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Last words of a process that gives up. ``value``, ``field`` and ``message`` may hold hostile text."""

    code: str
    blame: Blame
    message: str
    stream: Stream | None
    line: int | None
    byte: int | None
    field: str | None
    value: str | None
    hint: str | None


ControlMessage: TypeAlias = (
    Hello
    | Opened
    | StreamSchema
    | StreamPlan
    | Table
    | StateSeen
    | Sealed
    | Inspected
    | Committed
    | Stats
    | SourceMessage
    | StatePassed
    | Limited
    | Acknowledged
    | Passed
    | Pumped
    | Served
    | Connection
    | Lookup
    | Finished
    | Closed
    | Failure
)


def parse(event: Event) -> ControlMessage:
    """Return the value of an event that a confined process sent. Raises ProtocolViolation."""
    kind = event["type"]
    read = _PARSERS.get(kind)
    if read is None:
        raise ProtocolViolation("unknown control message", value=str(kind))
    return read(Reader(event, kind))


def _hello(r: Reader) -> Hello:
    features = r.items("features", _short_text, max_items=100)
    return Hello(r.text("protocol", max_chars=16), r.text("program"), r.text("version"), features)


def _short_text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_NAME_CHARS:
        raise ProtocolViolation("not a short text", value=shown(value))
    return value


def _opened(r: Reader) -> Opened | Served:
    if r.has("clients"):
        return Served(r.items("clients", _short_text, max_items=MAX_CLIENTS))
    return Opened(
        r.text("input"),
        r.count("epoch"),
        r.items("states", StateEntry.from_event),
        r.items("recovered", _recovered),
    )


def _recovered(value: Any) -> Recovered:
    r = Reader(value, "opened.recovered")
    return Recovered(r.count("epoch"), r.text("action"), r.count("files"))


def _stream_schema(r: Reader) -> StreamSchema:
    columns = r.items("columns", lambda column: columntypes.check_column(column, planned=False))
    r.items("key", _short_text, max_items=1000)
    return StreamSchema(r.text("input"), r.stream(), r.count("revision"), len(columns))


def _stream_plan(r: Reader) -> StreamPlan:
    r.items("columns", lambda column: columntypes.check_column(column, planned=True))
    r.count("schema_id")
    r.optional_count("epoch")
    r.optional_count("generation")
    r.optional_items("partition", check_partition_field, max_items=MAX_LAYOUT_FIELDS)
    r.optional_items("sort", check_sort_field, max_items=MAX_LAYOUT_FIELDS)
    return StreamPlan(r.text("input"), r.stream(), r.count("revision"), r.text("table"))


def _live_file(value: Any) -> LiveFile:
    r = Reader(value, "table.files")
    return LiveFile(r.text("path", max_chars=8192), r.count("rows"), r.count("bytes"))


def _table(r: Reader) -> Table:
    return Table(
        r.text("input"),
        r.stream(),
        r.text("table"),
        r.optional_text("metadata_location", max_chars=8192),
        r.items("files", _live_file),
        r.optional_items("columns", _table_column),
    )


def _table_column(value: Any) -> TableColumn:
    columntypes.check_column(value, planned=True)
    return TableColumn(value["field_id"], value["column"], value["type"])


def _state_seen(r: Reader) -> StateSeen:
    r.text("kind")
    r.optional_stream()
    return StateSeen(r.text("input"), r.count("line"))


def _counts(value: Any) -> Counts:
    r = Reader(value, "counts")
    return Counts(
        r.stream(),
        r.count("read"),
        r.count("written"),
        r.count("rejected"),
        r.count("filtered"),
        r.optional_count("discarded") or 0,
        r.optional_count("changed") or 0,
    )


def _file(value: Any) -> StagedFile:
    r = Reader(value, "sealed.files")
    r.count("revision")
    r.optional_count("version")
    return StagedFile(
        r.stream(),
        r.text("path", pattern=_FILE),
        r.count("rows"),
        r.count("bytes"),
        r.text("sha256", pattern=_SHA256),
        _partition(r),
    )


def _partition(r: Reader) -> tuple[PartitionValue, ...] | None:
    if not r.has("partition"):
        return None
    found = r.items("partition", partition_value, max_items=MAX_LAYOUT_FIELDS)
    if not found:
        raise ProtocolViolation("sealed.files.partition is empty", value="[]")
    return found


def _echo(value: Any) -> Echo:
    r = Reader(value, "sealed.echo")
    return Echo(r.count("number"), r.state_text("text"))


def _activation(value: Any) -> Activation:
    r = Reader(value, "sealed.activations")
    return Activation(r.stream(), r.count("version"))


def _sealed(r: Reader) -> Sealed:
    return Sealed(
        r.text("input"),
        r.count("sequence"),
        r.flag("final"),
        r.items("files", _file),
        r.items("states", StateEntry.from_event),
        r.items("counts", _counts),
        r.optional_flag("complete"),
        r.optional_items("echo", _echo),
        r.optional_items("activations", _activation, max_items=1000),
        r.optional_items("consumed", _path, max_items=10_000),
    )


def _path(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_PATH_CHARS:
        raise ProtocolViolation(
            f"sealed.consumed is not a text of 1 to {MAX_PATH_CHARS} characters", value=shown(value)
        )
    return value


def _metrics(value: Any) -> None:
    r = Reader(value, "inspected.columns")
    for key in ("field_id", "bytes", "values", "nulls"):
        r.count(key)
    for key in ("nans", "lower", "upper"):
        r.present(key)
    r.optional_count("nans")
    for key in ("lower", "upper"):
        r.optional_text(key, pattern=_BOUND)


def _inspected(r: Reader) -> Inspected:
    r.items("columns", _metrics, max_items=MAX_METRICS)
    return Inspected(
        r.text("input"),
        r.count("sequence"),
        r.text("path", pattern=_FILE),
        r.count("rows"),
        r.count("bytes"),
        r.text("sha256", pattern=_SHA256),
    )


def _table_commit(value: Any) -> TableCommit:
    r = Reader(value, "committed.tables")
    return TableCommit(
        r.stream(),
        r.text("table"),
        r.count("rows"),
        r.count("files"),
        r.count("bytes"),
        r.optional_text("snapshot_id"),
        r.optional_text("metadata_location", max_chars=8192),
    )


def _committed(r: Reader) -> Committed:
    return Committed(
        r.text("input"), r.count("sequence"), r.count("epoch"), r.items("tables", _table_commit)
    )


def _stats(r: Reader) -> Stats:
    return Stats(
        r.text("input"),
        r.count("bytes"),
        r.count("lines"),
        r.count("text_lines"),
        r.seconds("idle_s"),
        r.seconds("blocked_s"),
        r.count("staged_bytes"),
        r.flag("ended"),
        r.items("counts", _counts),
        r.seconds("waited_s") if r.has("waited_s") else 0.0,
        r.oddities() if r.has("oddities") else (),
    )


def _message(r: Reader) -> SourceMessage:
    return SourceMessage(
        r.text("input"),
        r.text("kind", pattern=_MESSAGE_KIND),
        r.text("level"),
        r.text("text", max_chars=MAX_TEXT_CHARS),
        r.optional_count("line"),
        r.count("suppressed"),
    )


def _error(r: Reader) -> Failure:
    return Failure(
        r.text("code"),
        Blame(r.text("blame", pattern=_BLAME)),
        r.text("message", max_chars=MAX_TEXT_CHARS),
        r.optional_stream(),
        r.optional_count("line"),
        r.optional_count("byte"),
        r.optional_text("field"),
        r.optional_text("value"),
        r.optional_text("hint", max_chars=4096),
    )


def _state_passed(r: Reader) -> StatePassed:
    sent = None if r.has("sent") and r.is_null("sent") else r.state_text("sent")
    state = r.state()
    return StatePassed(
        r.text("input"), r.count("number"), state, state.text if sent is None else sent
    )


def _acknowledged(r: Reader) -> Acknowledged:
    return Acknowledged(r.text("input"), r.count("line"), r.state_text("text"))


def _passed(r: Reader) -> Passed:
    return Passed(r.text("input"), r.count("lines"), r.items("counts", _counts))


def _pumped(r: Reader) -> Pumped:
    return Pumped(
        r.text("name", pattern=_STREAM_OF_THREE),
        r.count("bytes"),
        r.text("end", pattern=_PUMP_END),
        r.optional_text("message"),
    )


def _connection(r: Reader) -> Connection:
    return Connection(
        client=r.text("client"),
        name=r.optional_text("name", pattern=_PRINTABLE),
        address=r.optional_text("address", pattern=_ADDRESS),
        port=r.port("port"),
        verdict=r.text("verdict", pattern=_VERDICT),
        up_bytes=r.count("up_bytes"),
        down_bytes=r.count("down_bytes"),
        seconds=r.seconds("seconds"),
        detail=r.optional_text("detail"),
    )


def _lookup(r: Reader) -> Lookup:
    return Lookup(
        r.text("client"),
        r.text("name", pattern=_PRINTABLE),
        r.text("kind", max_chars=32, pattern=_PRINTABLE),
        r.text("verdict", pattern=_VERDICT),
        r.count("count"),
    )


def _client_totals(value: Any) -> ClientTotals:
    r = Reader(value, "finished.clients")
    return ClientTotals(
        r.text("client"),
        r.count("connections"),
        r.count("refused"),
        r.count("up_bytes"),
        r.count("down_bytes"),
        r.count("lookups"),
        r.count("suppressed"),
    )


_PARSERS: Final[dict[str, Callable[[Reader], ControlMessage]]] = {
    "hello": _hello,
    "opened": _opened,
    "stream_schema": _stream_schema,
    "stream_plan": _stream_plan,
    "table": _table,
    "state_seen": _state_seen,
    "sealed": _sealed,
    "inspected": _inspected,
    "committed": _committed,
    "stats": _stats,
    "message": _message,
    "state_passed": _state_passed,
    "limited": lambda r: Limited(r.text("input")),
    "acknowledged": _acknowledged,
    "passed": _passed,
    "pumped": _pumped,
    "connection": _connection,
    "lookup": _lookup,
    "finished": lambda r: Finished(r.items("clients", _client_totals, max_items=MAX_CLIENTS)),
    "closed": lambda _: Closed(),
    "error": _error,
}
