"""The Airbyte face of a standalone target: ``spec``, the configured catalogue, and what a ``write`` says on stdout.

Sources: airbyte-protocol 0.18, ConfiguredAirbyteCatalog and AirbyteTraceMessage; the reference orchestrator, which takes a state
for stored when the destination echoes it, and sends COMPLETE for every stream when the source has exited with 0.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dativo.kernel import target_config
from dativo.kernel.document import read_bounded
from dativo.kernel.limits import MAX_DOCUMENT_BYTES, MAX_WITHHELD_BYTES
from dativo.kernel.target_config import Target, TargetConfig
from dativo.protocol import jsontext
from dativo.protocol.airbyte import stream_of
from dativo.protocol.errors import (
    ConfigError,
    Conflict,
    DativoError,
    LimitExceeded,
    NotPermitted,
    ProtocolViolation,
    Where,
)
from dativo.protocol.state import Stream

if TYPE_CHECKING:
    from dativo.kernel.landing import PlatformNumbers, Table
    from dativo.protocol import events

PROTOCOL_VERSION: Final = "0.18.0"
SYNC_MODES: Final = ("append", "overwrite")
_NOT_BUILT: Final = ("append_dedup", "update", "soft_delete")


# --- messages --------------------------------------------------------------------------------------------------------------


def spec(target: Target) -> str:
    """Return the SPEC message."""
    return _message(
        "SPEC",
        spec={
            "protocol_version": PROTOCOL_VERSION,
            "connectionSpecification": target_config.json_schema(target, "airbyte"),
            "supported_destination_sync_modes": list(SYNC_MODES),
            "supportsIncremental": True,
        },
    )


def connection_status(error: DativoError | None) -> str:
    """Return the CONNECTION_STATUS message of a check that failed with ``error``, or did not."""
    if error is None:
        return _message("CONNECTION_STATUS", connectionStatus={"status": "SUCCEEDED"})
    return _message(
        "CONNECTION_STATUS", connectionStatus={"status": "FAILED", "message": str(error)}
    )


def trace_error(error: DativoError) -> str:
    """Return the TRACE message of a failure."""
    if isinstance(error, ConfigError | NotPermitted):
        kind = "config_error"
    else:
        kind = "transient_error" if isinstance(error, Conflict) else "system_error"
    return _message(
        "TRACE",
        trace={
            "type": "ERROR",
            "emitted_at": time.time() * 1000,
            "error": {
                "message": error.message,
                "internal_message": str(error),
                "failure_type": kind,
            },
        },
    )


def log(level: str, message: str) -> str:
    """Return a LOG message."""
    return _message("LOG", log={"level": level, "message": message})


def _message(kind: str, **payload: dict[str, Any]) -> str:
    return json.dumps({"type": kind, **payload}, separators=(",", ":"))


class States:
    """Echoes every STATE of the input in its order: a later one is held back until all before it are durable."""

    def __init__(self, max_held_bytes: int = MAX_WITHHELD_BYTES) -> None:
        self._next = 1
        self._held: dict[int, str] = {}
        self._held_bytes = 0
        self._max_held_bytes = max_held_bytes

    def __call__(self, sealed: events.Sealed) -> Iterator[str]:
        """Yield the messages that a committed epoch lets go. Raises LimitExceeded when too much waits for an earlier state."""
        for echo in sealed.echo:
            self._held[echo.number] = echo.text
            self._held_bytes += len(echo.text)
        while (text := self._held.pop(self._next, None)) is not None:
            self._next += 1
            self._held_bytes -= len(text)
            yield f'{{"type":"STATE","state":{text}}}'
        if self._held_bytes > self._max_held_bytes:
            raise LimitExceeded(
                f"limit.withheld_states: {self._held_bytes} characters of states wait for state {self._next}, whose rows are not "
                f"stored yet",
                hint="A stream of the source sends rows and no state behind them",
            )


class Statuses:
    """Which of the declared streams the source has called complete, and whether it has told of a failure."""

    def __init__(self, streams: tuple[Stream, ...]) -> None:
        self._waiting = set(streams)
        self._streams = frozenset(streams)
        self._failed = False

    @property
    def failed(self) -> bool:
        """Whether a declared stream was called incomplete, or an error was traced, at any time."""
        return self._failed

    @property
    def complete(self) -> bool:
        """Whether every declared stream is complete, and nothing has failed."""
        return not (self._waiting or self._failed)

    def take(self, message: events.SourceMessage) -> None:
        """Look at a message of the input; only a TRACE of an error or a well-formed STREAM_STATUS says anything."""
        self._failed = self._failed or message.kind == "trace_error"
        if message.kind != "trace_status":
            return
        try:
            status = jsontext.loads(message.text, "stream_status")
            if not isinstance(status, dict):
                return
            stream = Stream.from_event(status.get("stream_descriptor"))
        except ProtocolViolation:
            return  # says nothing about any stream, so nothing becomes complete by it
        if status.get("status") == "COMPLETE":
            self._waiting.discard(stream)
        elif status.get("status") == "INCOMPLETE":
            self._failed = self._failed or stream in self._streams


# --- the configured catalogue ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Configured:
    """The streams of a ``write``, and those that overwrite with their generation (None: the target numbers it).

    ``platform``: what its metadata columns say of each.
    """

    tables: tuple[Table, ...]
    overwrites: tuple[tuple[Stream, int | None], ...]
    platform: tuple[PlatformNumbers, ...]
    warnings: tuple[str, ...]

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The declared streams."""
        return tuple(table.stream for table in self.tables)


def load_catalog(file: Path, config: TargetConfig) -> Configured:
    """Read the configured catalogue. Raises ConfigError, also by name for a sync mode that is not built."""
    if config.mode != "append":
        raise ConfigError(
            "config: `mode` is for Singer; the catalogue says it for each stream",
            Where(file=str(config.file), pointer="/mode"),
        )
    data = read_bounded(file, "catalogue", MAX_DOCUMENT_BYTES)
    try:
        return _catalog(data.decode(), file, config)
    except UnicodeDecodeError as error:
        raise ConfigError(
            "catalogue is not UTF-8", Where(file=str(file), byte=error.start)
        ) from error
    except ProtocolViolation as error:
        where = Where(file=str(file), stream=error.where.stream, byte=error.where.byte)
        raise ConfigError(error.message, where, value=error.value, hint=error.hint) from error


def _catalog(text: str, file: Path, config: TargetConfig) -> Configured:
    from dativo.kernel.landing import PlatformNumbers

    streams = jsontext.members(text, "catalogue").get("streams")
    if streams is None:
        raise ProtocolViolation("the catalogue has no streams")
    entries = jsontext.elements(streams, "streams of the catalogue")
    if len(entries) > config.limits.max_streams:
        raise ProtocolViolation(
            f"the catalogue has {len(entries)} streams, the limit is {config.limits.max_streams}",
            hint="The setting is limits.max_streams",
        )
    tables: dict[Stream, Table] = {}
    overwrites: list[tuple[Stream, int | None]] = []
    platform: list[PlatformNumbers] = []
    appended: list[str] = []
    for index, entry in enumerate(entries):
        stream, table, document = _stream(entry)
        where = Where(file=str(file), pointer=f"/streams/{index}", stream=str(stream))
        if stream in tables:
            raise ConfigError("the catalogue names a stream twice", where)
        tables[stream] = table
        generation, sync = (
            _generation(document, key, where) for key in ("generation_id", "sync_id")
        )
        platform.append(PlatformNumbers(stream, sync, generation))
        if _overwrites(document, config, where):
            overwrites.append((stream, generation))
        if document.get("destination_sync_mode") == "append_dedup":
            appended.append(str(stream))
    return Configured(
        tuple(tables.values()), tuple(overwrites), tuple(platform), _warnings(appended)
    )


def _warnings(appended: list[str]) -> tuple[str, ...]:
    if not appended:
        return ()
    more = f" and {len(appended) - 3} more" if len(appended) > 3 else ""
    return (
        f"append_dedup is not built yet: rows of {', '.join(appended[:3])}{more} are appended, every row of a key stays",
    )


def _stream(entry: str) -> tuple[Stream, Table, dict[str, jsontext.Json]]:
    from dativo.kernel.landing import Table

    document = jsontext.loads(entry, "configured stream")
    text = jsontext.members(entry, "configured stream").get("stream", "null")
    inner = jsontext.loads(text, "stream")
    if not isinstance(document, dict) or not isinstance(inner, dict):
        raise ProtocolViolation("a configured stream has no stream", value=entry)
    stream = stream_of(inner)
    schema = jsontext.members(text, "stream").get("json_schema", "")
    if not schema.startswith("{"):
        raise ProtocolViolation("stream without json_schema", Where(stream=str(stream)))
    return stream, Table(stream, _key(document.get("primary_key")), schema), document


def _key(paths: jsontext.Json) -> tuple[str, ...]:
    """Return a key of top-level columns; a path into an object is no key of a flat table."""
    names: list[str] = []
    for path in paths if isinstance(paths, list) else ():
        if not isinstance(path, list) or len(path) != 1 or not isinstance(path[0], str):
            return ()
        names.append(path[0])
    return tuple(names)


def _overwrites(document: dict[str, jsontext.Json], config: TargetConfig, where: Where) -> bool:
    """Tell whether a stream's rows replace its table (PROTO: minimum_generation_id is the oldest generation that may stay)."""
    mode = document.get("destination_sync_mode")
    if mode == "append_dedup" and config.append_dedup == "append":
        mode = "append"
    if mode not in SYNC_MODES:
        if mode not in _NOT_BUILT:
            raise ConfigError("destination_sync_mode is not known", where, value=str(mode))
        raise ConfigError(
            f"destination_sync_mode {mode} is not built yet",
            where,
            hint="This version knows: "
            + ", ".join(SYNC_MODES)
            + (
                '; the setting {"append_dedup": "append"} appends such rows'
                if mode == "append_dedup"
                else ""
            ),
        )
    generation, minimum = (
        _generation(document, key, where) for key in ("generation_id", "minimum_generation_id")
    )
    if minimum is None:
        return mode == "overwrite"
    if minimum == 0:
        return False
    if minimum == generation:
        return True
    raise ConfigError(
        f"minimum_generation_id is {minimum} and generation_id {generation}: a part of the old generations cannot be kept",
        where,
        hint="minimum_generation_id is 0 (keep everything) or the generation_id (replace everything)",
    )


def _generation(document: dict[str, jsontext.Json], key: str, where: Where) -> int | None:
    value = document.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ConfigError(f"{key} is not a whole number", where, value=str(value))
    return value
