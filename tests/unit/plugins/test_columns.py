from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dativo.plugins.commit.columns import MAX_TABLE_COLUMNS, evolve, is_type, widen
from dativo.plugins.commit.faults import CommitFault
from dativo.plugins.commit.messages import Column, StreamSchema, WantedColumn
from dativo.protocol.state import Stream

SIMPLE = ["boolean", "int", "long", "float", "double", "date", "time", "timestamp", "timestamptz"]
TYPES = st.sampled_from([*SIMPLE, "string", "binary"]) | st.tuples(
    st.integers(1, 38), st.integers(0, 38)
).filter(lambda parts: parts[1] <= parts[0]).map(lambda parts: f"decimal({parts[0]},{parts[1]})")


def schema(*columns: tuple[str, str]) -> StreamSchema:
    return StreamSchema(Stream("", "users"), 1, tuple(WantedColumn(*column) for column in columns))


@pytest.mark.parametrize(
    ("table", "wanted", "expected"),
    [
        ("int", "long", "long"),
        ("long", "int", "long"),
        ("float", "double", "double"),
        ("decimal(5,2)", "decimal(9,2)", "decimal(9,2)"),
        ("decimal(9,2)", "decimal(5,2)", "decimal(9,2)"),
        ("decimal(5,2)", "decimal(9,3)", None),
        ("decimal(9,0)", "long", None),
        ("int", "double", None),
        ("long", "double", None),
        ("string", "binary", None),
        ("timestamp", "timestamptz", None),
    ],
)
def test_widen(table: str, wanted: str, expected: str | None) -> None:
    assert widen(table, wanted) == expected


@given(TYPES, TYPES, TYPES)
def test_widen_has_no_memory_of_order(a: str, b: str, c: str) -> None:
    assert widen(a, b) == widen(b, a)
    assert widen(a, a) == a
    ab, bc = widen(a, b), widen(b, c)
    if ab and bc:
        assert widen(ab, c) == widen(a, bc)


@pytest.mark.parametrize(
    "name",
    ["", "uuid", "decimal(0,0)", "decimal(39,0)", "decimal(5,6)", "decimal(5, 2)", "list<int>"],
)
def test_types_that_are_none(name: str) -> None:
    assert not is_type(name)


def test_new_table() -> None:
    growth = evolve(schema(("b", "long"), ("a", "string")), (), 0)
    assert growth.columns == (Column("b", "b", "long", 1), Column("a", "a", "string", 2))
    assert growth.planned == growth.columns
    assert growth.changed
    assert growth.last_field_id == 2


def test_nothing_new_changes_nothing() -> None:
    table = evolve(schema(("a", "long"), ("b", "string")), (), 0).columns
    growth = evolve(schema(("b", "string"), ("a", "int")), table, 2)
    assert growth.columns == table
    assert not growth.changed
    assert growth.planned == (table[1], table[0])


def test_field_ids_of_dropped_columns_are_not_used_again() -> None:
    growth = evolve(schema(("new", "long")), (Column("a", "a", "long", 1),), 7)
    assert [column.field_id for column in growth.columns] == [1, 8]


def test_a_legal_name_keeps_its_own_column() -> None:
    growth = evolve(schema(("User Id", "long"), ("user_id", "long")), (), 0)
    assert growth.planned[1].name == "user_id"
    assert growth.planned[0].name.startswith("user_id_")


def test_names_do_not_move_when_a_better_owner_comes_later() -> None:
    table = evolve(schema(("User Id", "long")), (), 0).columns
    growth = evolve(schema(("user_id", "long"), ("User Id", "long")), table, 1)
    assert growth.planned[1].name == "user_id"
    assert growth.planned[0].name != "user_id"


def test_conflict_names_everything() -> None:
    with pytest.raises(CommitFault) as raised:
        evolve(schema(("age", "string")), (Column("age", "age", "long", 1),), 1)
    fault = raised.value
    assert fault.code == "schema.conflict"
    assert fault.exit_status == 7
    assert fault.field == "age"
    assert all(part in fault.message for part in ("users", "age", "long", "string"))


def test_tables_do_not_grow_without_end() -> None:
    table = [Column(f"c{n}", f"c{n}", "long", n) for n in range(1, MAX_TABLE_COLUMNS + 1)]
    with pytest.raises(CommitFault) as raised:
        evolve(schema(("one_more", "long")), table, MAX_TABLE_COLUMNS)
    assert raised.value.code == "limit.table_columns"
    assert raised.value.exit_status == 6
