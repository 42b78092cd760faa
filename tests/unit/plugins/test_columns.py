from __future__ import annotations

import pytest
from hypothesis import given
from tests.unit.plugins.schemas import SCHEMAS, TYPES, check_growth, schema, struct

from dativo.plugins.commit.columns import MAX_TABLE_COLUMNS, Evolution, evolve, widen
from dativo.plugins.commit.faults import CommitFault
from dativo.plugins.commit.types import (
    JSON,
    Column,
    List,
    Map,
    Struct,
    Type,
    Wanted,
    WantedColumn,
    WantedList,
    WantedMap,
    WantedStruct,
    is_primitive,
)


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
    assert not is_primitive(name)


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


# --- trees -----------------------------------------------------------------------------------------------------------------


def grown(*wanted: Wanted) -> Evolution:
    """Return a table with one column ``a`` after each of ``wanted`` was asked for in turn."""
    growth = Evolution((), (), 0, False)
    for kind in wanted:
        growth = evolve(schema(("a", kind)), growth.columns, growth.last_field_id)
    return growth


def test_ids_of_a_new_struct() -> None:
    wanted = schema(("a", struct(x="long", y=struct(z="long"))), ("b", WantedMap(WantedList(JSON))))
    assert evolve(wanted, (), 0).columns == (
        Column(
            "a",
            "a",
            Struct(
                (
                    Column("x", "x", "long", 3),
                    Column("y", "y", Struct((Column("z", "z", "long", 5),)), 4),
                )
            ),
            1,
        ),
        Column("b", "b", Map(6, 7, List(8, "string")), 2),
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (struct(x="int"), struct(x="long"), Struct((Column("x", "x", "long", 2),))),
        (WantedList("float"), WantedList("double"), List(2, "double")),
        (WantedList("double"), WantedList("float"), List(2, "double")),
        (WantedMap("decimal(5,2)"), WantedMap("decimal(9,2)"), Map(2, 3, "decimal(9,2)")),
        ("string", struct(x="long"), "string"),
        ("string", WantedList("long"), "string"),
        ("string", WantedMap("long"), "string"),
        ("string", JSON, "string"),
        (JSON, "string", "string"),
        (WantedList("string"), WantedList(struct(x="long")), List(2, "string")),
        (
            WantedList(struct(x="long")),
            WantedList(struct(y="long")),
            List(2, Struct((Column("x", "x", "long", 3), Column("y", "y", "long", 4)))),
        ),
    ],
)
def test_what_a_tree_takes(before: Wanted, after: Wanted, expected: Type) -> None:
    assert grown(before, after).columns[0].type == expected
    assert not evolve(schema(("a", after)), grown(before, after).columns, 9).changed


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        (struct(x="long"), "string", "a"),
        (struct(x="long"), JSON, "a"),
        (struct(x="long"), WantedMap("long"), "a"),
        (struct(x="long"), WantedList("long"), "a"),
        (WantedMap("long"), struct(x="long"), "a"),
        (WantedList("long"), "long", "a"),
        ("long", WantedList("long"), "a"),
        ("long", JSON, "a"),
        ("binary", struct(x="long"), "a"),
        (struct(x="long"), struct(x="string"), "a.x"),
        (WantedList("long"), WantedList("string"), "a.element"),
        (WantedMap(struct(X="date")), WantedMap(struct(X="time")), "a.value.x"),
    ],
)
def test_what_no_tree_takes(before: Wanted, after: Wanted, path: str) -> None:
    with pytest.raises(CommitFault, match=rf"stream users: column {path} is ") as raised:
        grown(before, after)
    assert (raised.value.code, raised.value.field) == ("schema.conflict", "a")


def test_the_plan_has_what_was_asked_for_and_no_more() -> None:
    growth = grown(struct(x="long", y="long"), struct(z="long", y="int"))
    assert growth.planned[0].type == Struct(
        (Column("z", "z", "long", 4), Column("y", "y", "long", 3))
    )
    assert growth.changed


def test_names_of_fields_are_unique_in_their_struct_alone() -> None:
    inner = ("B!", "long"), ("b_", "long"), ("a", struct(a="long"))
    wanted = WantedStruct(tuple(WantedColumn(*each) for each in inner))
    fields = grown(wanted).columns[0].type
    assert isinstance(fields, Struct)
    names = [field.name for field in fields.fields]
    assert names[1:] == ["b_", "a"]
    assert names[0].startswith("b__")
    assert len(set(names)) == 3


def test_what_is_asked_for_twice_inside_is_refused() -> None:
    twice = WantedStruct((WantedColumn("x", "long"), WantedColumn("x", "long")))
    for wanted in (twice, WantedList(WantedMap(twice))):
        with pytest.raises(CommitFault) as raised:
            grown(wanted)
        assert (raised.value.code, raised.value.field) == ("schema.duplicate", "a.x")
    with pytest.raises(CommitFault) as raised:
        grown(struct(x=WantedMap("decimal(39,0)")))
    assert (raised.value.code, raised.value.field) == ("schema.type", "a.x")


def test_what_is_required_is_relaxed() -> None:
    inner = Struct((Column("x", "x", "long", 3, True),))
    table = (Column("a", "a", inner, 1, True), Column("gone", "gone", "long", 2, True))
    growth = evolve(schema(("a", struct(x="long"))), table, 3)
    assert growth.changed
    assert growth.columns == (
        Column("a", "a", Struct((Column("x", "x", "long", 3),)), 1),
        Column("gone", "gone", "long", 2),
    )


def test_leaves_count_against_the_limit() -> None:
    wide = struct(**{f"c{n}": "long" for n in range(MAX_TABLE_COLUMNS - 1)})
    grown(wide)
    with pytest.raises(CommitFault, match="would have 10001 columns"):
        evolve(schema(("a", wide), ("m", WantedMap("long"))), (), 0)


@given(SCHEMAS)
def test_evolution_keeps_its_promises(schemas: list[dict[str, Wanted]]) -> None:
    growth = Evolution((), (), 0, False)
    for wanted in schemas:
        asked = schema(*wanted.items())
        try:
            newer = evolve(asked, growth.columns, growth.last_field_id)
        except CommitFault as fault:
            assert fault.code == "schema.conflict"
            continue
        check_growth(growth, newer, wanted)
        again = evolve(asked, newer.columns, newer.last_field_id)
        assert not again.changed
        assert again.planned == newer.planned
        growth = newer
