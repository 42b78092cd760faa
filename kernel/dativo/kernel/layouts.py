"""Layouts: how the tables of a job's streams are partitioned, and how rows are sorted in their files (docs/guide/layout.md).

``partition_by`` and ``sort_by`` are lists of texts, whose grammar is here. Patterns name streams as those of contracts do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dativo.kernel import patterns
from dativo.kernel.contracts import REJECTS
from dativo.protocol.catalog import CatalogStream
from dativo.protocol.errors import ConfigError, Where
from dativo.protocol.fields import MAX_NAME_CHARS
from dativo.protocol.layouts import MAX_TRANSFORM_NUMBER
from dativo.protocol.state import Stream

TIMES: Final = ("year", "month", "day", "hour")
NUMBERED: Final = ("bucket", "truncate")

_NAME: Final = r'(?P<name>\w+|"(?:[^"]|"")+")'
_CALL: Final = re.compile(
    rf"(?P<function>\w+)\s*\(\s*(?:(?P<number>-?[0-9]{{1,20}})\s*,\s*)?{_NAME}\s*\)"
)
_COLUMN: Final = re.compile(_NAME)
_SORTED: Final = re.compile(
    rf"{_NAME}(?:\s+(?P<order>asc|desc))?(?:\s+nulls\s+(?P<nulls>first|last))?", re.IGNORECASE
)
_WORD: Final = re.compile(r"\w+")
_OF_NO_CATALOGUE: Final = "_"
"""Metadata columns begin so, and what connectors add beside their catalogue: only the committer knows whether they are there."""


@dataclass(frozen=True, slots=True)
class PartitionField:
    """What rows of one file have in common: ``transform``, by Iceberg's name, of a property."""

    property: str
    transform: str = "identity"

    def __str__(self) -> str:
        """Write it as a job does."""
        name, _, number = self.transform.rstrip("]").partition("[")
        column = _quoted(self.property)
        if name == "identity":
            return column
        return f"{name}({number}, {column})" if number else f"{name}({column})"


@dataclass(frozen=True, slots=True)
class SortField:
    """A property that the rows of a file are sorted by."""

    property: str
    descending: bool = False
    nulls_first: bool = True

    def __str__(self) -> str:
        """Write it as a job does."""
        order = " desc" if self.descending else ""
        usual = self.nulls_first is not self.descending
        nulls = "" if usual else f" nulls {'first' if self.nulls_first else 'last'}"
        return _quoted(self.property) + order + nulls


@dataclass(frozen=True, slots=True)
class Layout:
    """What a job says of one stream's table; None leaves it as it is, () is none."""

    partition: tuple[PartitionField, ...] | None = None
    sort: tuple[SortField, ...] | None = None

    @property
    def properties(self) -> tuple[str, ...]:
        """Every property that it names."""
        partition = (field.property for field in self.partition or ())
        sort = (field.property for field in self.sort or ())
        return (*partition, *sort)

    def to_committer(self) -> dict[str, object]:
        """Return it as the committer is told it (docs/spec/events.md)."""
        said: dict[str, object] = {}
        if self.partition is not None:
            said["partition"] = [
                {"property": field.property, "transform": field.transform}
                for field in self.partition
            ]
        if self.sort is not None:
            said["sort"] = [
                {
                    "property": field.property,
                    "descending": field.descending,
                    "nulls_first": field.nulls_first,
                }
                for field in self.sort
            ]
        return said

    def document(self) -> dict[str, object]:
        """Return it as a plan shows it: as a job says it."""
        said = {"partition_by": self.partition, "sort_by": self.sort}
        return {key: [str(f) for f in fields] for key, fields in said.items() if fields is not None}


NONE: Final = Layout()


@dataclass(frozen=True, slots=True)
class Layouts:
    """The layouts of a job, by pattern, in their order."""

    patterns: tuple[tuple[str, Layout], ...] = ()

    @classmethod
    def read(cls, said: Mapping[str, Mapping[str, Any]]) -> Layouts:
        """Return the layouts of a parsed ``shapes.LAYOUTS``."""
        return cls(
            tuple(
                (pattern, Layout(one.get("partition_by"), one.get("sort_by")))
                for pattern, one in said.items()
            )
        )

    def of(self, stream: Stream) -> Layout:
        """Return what is said of ``stream``; nothing of rejects, whose table is dativo's."""
        return NONE if stream == REJECTS else patterns.of(stream, self.patterns) or NONE

    def check(self, streams: Iterable[Stream], where: Where) -> None:
        """Raise ConfigError for a pattern that meets none of ``streams``."""
        patterns.check((pattern for pattern, _ in self.patterns), streams, where, "layout")

    def check_properties(self, entry: CatalogStream, where: Where) -> None:
        """Raise ConfigError for a property that the rows of a selected stream will not have, as far as its catalogue tells."""
        named = self.of(entry.stream).properties
        if not named:
            return
        left_out = entry.deselected.difference(entry.key)
        known = entry.properties()
        for name in named:
            if name.startswith(_OF_NO_CATALOGUE):
                continue
            if name in left_out:
                message = f"the property {name!r} is left out of the stream"
                hint = "By a rule of `source.streams`, or because the source says that it never sends it"
            elif known and name not in known:
                message = f"the stream has no property {name!r}"
                hint = "It has: " + ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
            else:
                continue
            raise ConfigError(f"layout: {message}", where, value=name, hint=hint)


def partition_field(text: str) -> PartitionField:
    """Return the item of ``partition_by`` that ``text`` writes. Raises ConfigError."""
    text = text.strip()
    if column := _COLUMN.fullmatch(text):
        return PartitionField(_property(column))
    call = _CALL.fullmatch(text)
    if call is None:
        raise ConfigError(
            "expected a column, year, month, day or hour of one, bucket(N, column) or truncate(W, column)",
            hint=_hint(text),
        )
    function, number = call["function"], call["number"]
    if function not in (*TIMES, *NUMBERED):
        raise ConfigError(
            f"{function!r} is no transform",
            hint="This version knows: " + ", ".join((*TIMES, *NUMBERED)),
        )
    if function in TIMES:
        if number is not None:
            raise ConfigError(
                f"{function!r} takes a column alone", hint=f"{function}({call['name']})"
            )
        return PartitionField(_property(call), function)
    if number is None or not 1 <= int(number) <= MAX_TRANSFORM_NUMBER:
        raise ConfigError(
            f"{function!r} takes a number from 1 to {MAX_TRANSFORM_NUMBER} before the column",
            hint=f"{function}(16, {call['name']})",
        )
    return PartitionField(_property(call), f"{function}[{int(number)}]")


def sort_field(text: str) -> SortField:
    """Return the item of ``sort_by`` that ``text`` writes. Raises ConfigError."""
    found = _SORTED.fullmatch(text.strip())
    if found is None:
        raise ConfigError(
            "expected a column, then asc or desc, then nulls first or nulls last",
            hint=_hint(text),
        )
    descending = (found["order"] or "asc").lower() == "desc"
    nulls_first = not descending if found["nulls"] is None else found["nulls"].lower() == "first"
    return SortField(_property(found), descending, nulls_first)


def repeated(fields: Iterable[PartitionField | SortField]) -> str | None:
    """Return a property that is named twice to the same end, None for none. Days are of one month, so two times are the same."""
    seen: set[tuple[str, str]] = set()
    for field in fields:
        by = field.transform if isinstance(field, PartitionField) else "sort"
        key = (field.property, "time" if by in TIMES else by)
        if key in seen:
            return field.property
        seen.add(key)
    return None


def _property(found: re.Match[str]) -> str:
    name = found["name"]
    if name.startswith('"'):
        name = name[1:-1].replace('""', '"')
    if len(name) > MAX_NAME_CHARS:
        raise ConfigError(f"expected a name of at most {MAX_NAME_CHARS} characters")
    return name


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return name if _WORD.fullmatch(name) else f'"{escaped}"'


def _hint(text: str) -> str:
    if text.count("(") != text.count(")"):
        return 'A comma parts the items of a [list]: put quotes around the whole, "bucket(16, id)"'
    return 'A name that is no plain word stands in double quotes: "order id"'
