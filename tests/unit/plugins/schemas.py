"""Schemas that a source may send, and what tables grow to by them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hypothesis import strategies as st

from dativo.plugins.commit.columns import Evolution
from dativo.plugins.commit.contracts import Contract
from dativo.plugins.commit.messages import StreamSchema
from dativo.plugins.commit.types import (
    JSON,
    Column,
    List,
    Map,
    Struct,
    Wanted,
    WantedColumn,
    WantedList,
    WantedMap,
    WantedStruct,
    field_ids,
)
from dativo.protocol.state import Stream

SIMPLE = ["boolean", "int", "long", "float", "double", "date", "time", "timestamp", "timestamptz"]
TYPES = st.sampled_from([*SIMPLE, "string", "binary"]) | st.tuples(
    st.integers(1, 38), st.integers(0, 38)
).filter(lambda parts: parts[1] <= parts[0]).map(lambda parts: f"decimal({parts[0]},{parts[1]})")


def schema(*columns: tuple[str, Wanted], contract: Contract | None = None) -> StreamSchema:
    wanted = tuple(WantedColumn(*column) for column in columns)
    return StreamSchema(Stream("", "users"), 1, wanted, contract)


def struct(**fields: Wanted) -> WantedStruct:
    return WantedStruct(tuple(WantedColumn(name, kind) for name, kind in fields.items()))


def wanted_types() -> st.SearchStrategy[Wanted]:
    names = st.sampled_from(["x", "X", "y", "Ä", "amount", "amount__string", ""])
    return st.recursive(
        TYPES | st.just(JSON),
        lambda inner: (
            st.builds(WantedList, inner)
            | st.builds(WantedMap, inner)
            | st.dictionaries(names, inner, min_size=1, max_size=3).map(
                lambda fields: struct(**fields)
            )
        ),
        max_leaves=6,
    )


SCHEMAS = st.lists(
    st.dictionaries(
        st.sampled_from(["a", "A", "b", "a__string", "a__list"]),
        wanted_types(),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=5,
)


def names_of(columns: Iterable[Column]) -> Iterator[list[str]]:
    """Yield the names of a table, and of each struct in it."""
    columns = list(columns)
    yield [column.name for column in columns]
    for column in columns:
        inner = column.type
        while isinstance(inner, List | Map):
            inner = inner.element if isinstance(inner, List) else inner.value
        if isinstance(inner, Struct):
            yield from names_of(inner.fields)


def check_growth(before: Evolution, after: Evolution, wanted: Iterable[str]) -> None:
    """Check what holds of every step of a table: no field is lost, no id or name is given twice, the plan has what is wanted."""
    old, new = list(field_ids(before.columns)), list(field_ids(after.columns))
    assert set(old) <= set(new), "a field is lost"
    assert len(set(new)) == len(new), "an id is used twice"
    added = set(new) - set(old)
    assert added == set(range(before.last_field_id + 1, after.last_field_id + 1))
    assert set(field_ids(after.planned)) <= set(new)
    assert [column.property for column in after.planned] == list(wanted)
    assert all(len(set(names)) == len(names) for names in names_of(after.columns))
    assert after.changed == (after.columns != before.columns)
