"""What a relay is told: the streams on their way from one dialect into another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dativo.kernel.limits import ReadLimits
from dativo.protocol.catalog import Catalog, Dialect
from dativo.protocol.singerschema import singer_schema
from dativo.protocol.state import StateEntry, Stream
from dativo.protocol.translate import singer_key, singer_names


@dataclass(frozen=True, slots=True)
class PassedStream:
    """One stream on its way. ``name``: in a Singer output; ``schema``: its SCHEMA's text there; ``drop``: fields left out."""

    stream: Stream
    name: str
    key: tuple[str, ...] = ()
    schema: str | None = None
    drop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """What a relay is to do.

    ``max_records`` is per stream; ``statuses``: tell an Airbyte reader when streams are complete; ``initial``: the states that
    the source starts from; ``max_output_bytes`` None is any number; ``exchange`` is where both plugins see the files that
    messages may name, None where there are none.
    """

    dialect: Dialect
    to: Dialect
    streams: tuple[PassedStream, ...]
    limits: ReadLimits
    declare: bool = False
    strict: bool = False
    statuses: bool = False
    max_records: int | None = None
    initial: tuple[StateEntry, ...] = ()
    max_output_bytes: int | None = None
    exchange: str | None = None


def passed_streams(discovered: Catalog, selected: Catalog, to: Dialect) -> Iterator[PassedStream]:
    """Yield the streams of ``selected`` as a relay into dialect ``to`` is told of them."""
    translated = discovered.dialect == "airbyte" and to == "singer"
    names = singer_names(discovered)
    for entry in selected.streams:
        yield PassedStream(
            stream=entry.stream,
            name=names[entry.stream],
            key=singer_key(entry) if translated else entry.key,
            schema=singer_schema(entry.selected_schema(), entry.stream) if translated else None,
            drop=tuple(sorted(entry.deselected)),
        )


def _limits(limits: ReadLimits, max_output_bytes: int | None) -> dict[str, int | None]:
    return {
        "max_output_bytes": max_output_bytes,
        "max_line_bytes": limits.max_line_bytes,
        "max_depth": limits.max_depth,
        "max_columns": limits.max_columns,
        "max_streams": limits.max_streams,
        "max_state_bytes": limits.max_state_bytes,
        "max_text_lines": limits.max_text_lines,
        "max_withheld_bytes": limits.max_state_bytes * 16,
    }


def open_acknowledgements(
    dialect: Dialect, limits: ReadLimits, max_output_bytes: int | None
) -> dict[str, object]:
    """Return the ``open`` message of the relay that reads what a target acknowledges."""
    return {
        "type": "open",
        "input": "0",
        "role": "acks",
        "dialect": dialect,
        "strict": False,
        "limits": _limits(limits, max_output_bytes),
    }


def open_relay(passage: Passage, *, report_states: bool) -> dict[str, object]:
    """Return the ``open`` message of a relay (docs/spec/events.md)."""
    return {
        "type": "open",
        "input": "0",
        "role": "pass",
        "dialect": passage.dialect,
        "as": passage.to,
        "strict": passage.strict,
        "undeclared": "accept" if passage.declare else "refuse",
        "streams": [
            {
                "stream": entry.stream.to_event(),
                "name": entry.name,
                "key": list(entry.key),
                "schema": entry.schema,
                "drop": list(entry.drop),
            }
            for entry in passage.streams
        ],
        "initial": [entry.to_event() for entry in passage.initial],
        "states": "pass",
        "report_states": report_states,
        "statuses": passage.statuses,
        "max_records": passage.max_records,
        "exchange": passage.exchange,
        "limits": _limits(passage.limits, passage.max_output_bytes),
    }
