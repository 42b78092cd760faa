"""Strategies: schemas of all types that are read, and tables of them."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
LONGS = st.integers(-(2**63), 2**63 - 1)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
# Nothing that pyarrow turns into a date outside the years 0001 to 9999.
MOMENTS = st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29))


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    """All numbers of at most ``precision`` digits, ``scale`` of them behind the point."""
    most = 10**precision - 1
    digits = st.integers(-most, most)
    return digits.map(lambda value: Decimal(f"{value}e-{scale}"))


# A JSON null is a null of the column, not a text.
JSON_TEXTS = (
    st.recursive(
        st.booleans() | LONGS | DOUBLES | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=6,
    )
    .map(lambda value: json.dumps(value, ensure_ascii=False))
    .filter(lambda text: text != "null")
)


Typed = tuple[pa.DataType, st.SearchStrategy[Any]]


@st.composite
def primitives(draw: st.DrawFn) -> Typed:
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    zone = draw(st.sampled_from(["UTC", "Europe/Berlin"]))
    kinds: list[Typed] = [
        (pa.bool_(), st.booleans()),
        (pa.int64(), LONGS),
        (pa.float64(), DOUBLES),
        (pa.decimal128(precision, scale), decimals(precision, scale)),
        (pa.date32(), st.dates()),
        (pa.time64("us"), st.times()),
        (pa.timestamp("us"), st.datetimes()),
        (pa.timestamp("us", zone), MOMENTS.map(lambda at: at.replace(tzinfo=dt.UTC))),
        (pa.string(), TEXT),
        (pa.binary(), st.binary(max_size=12)),
    ]
    chosen: Typed = draw(st.sampled_from(kinds))
    return chosen


@st.composite
def structs(draw: st.DrawFn, inner: st.SearchStrategy[Typed]) -> Typed:
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    members = {name: draw(inner) for name in names}
    required = {name: draw(st.booleans()) for name in names}
    fields = [pa.field(name, kind, not required[name]) for name, (kind, _) in members.items()]
    values = {
        name: value if required[name] else st.none() | value for name, (_, value) in members.items()
    }
    return pa.struct(fields), st.fixed_dictionaries(values)


def lists(inner: Typed) -> Typed:
    return pa.list_(inner[0]), st.lists(st.none() | inner[1], max_size=3)


def maps(inner: Typed) -> Typed:
    values = st.dictionaries(TEXT, st.none() | inner[1], max_size=3)
    return pa.map_(pa.string(), inner[0]), values.map(lambda entries: list(entries.items()))


TYPES: st.SearchStrategy[Typed] = st.recursive(
    primitives(),
    lambda inner: structs(inner) | inner.map(lists) | inner.map(maps),
    max_leaves=4,
)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A table of any types, with nulls where they may be."""
    rows = draw(st.integers(0, 5))
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    fields, columns = [], []
    for name in names:
        kind, values = draw(TYPES)
        nullable = draw(st.booleans())
        values = st.none() | values if nullable else values
        fields.append(pa.field(name, kind, nullable))
        columns.append(pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), type=kind))
    return pa.table(columns, schema=pa.schema(fields))
