"""What a stream's contract lets its schema do to its table: frozen, new columns, renamed ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.plugins.schemas import SCHEMAS, check_growth, schema, struct

from dativo.plugins.commit.columns import Evolution, evolve
from dativo.plugins.commit.contracts import Contract
from dativo.plugins.commit.faults import CommitFault
from dativo.plugins.commit.types import (
    JSON,
    Column,
    List,
    Struct,
    Wanted,
    WantedList,
    WantedMap,
    text,
)

NEW = Contract(new_columns=True)


def grow(contract: Contract, growth: Evolution, **wanted: Wanted) -> Evolution:
    asked = schema(*wanted.items(), contract=contract)
    return evolve(asked, growth.columns, growth.last_field_id)


EMPTY = Evolution((), (), 0, False)


def shown(growth: Evolution) -> dict[str, str]:
    """Return name and type of the table's columns."""
    return {column.name: text(column.type) for column in growth.columns}


# --- new columns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("long", "double", "a__double"),
        ("double", "long", "a__long"),
        ("long", "string", "a__string"),
        ("string", "boolean", "a__boolean"),
        ("decimal(9,2)", "decimal(9,3)", "a__decimal_9_3"),
        ("timestamp", "timestamptz", "a__timestamptz"),
        ("long", JSON, "a__string"),
        (struct(x="long"), "string", "a__string"),
        (struct(x="long"), JSON, "a__string"),
        ("long", struct(x="long"), "a__struct"),
        (struct(x="long"), WantedMap("long"), "a__map"),
        (WantedMap("long"), WantedList("long"), "a__list"),
        (WantedList("long"), WantedList("string"), "a__list"),
        (WantedMap(WantedList("long")), WantedMap(WantedList("date")), "a__map"),
    ],
)
def test_what_does_not_fit_gets_a_column_of_its_own(
    before: Wanted, after: Wanted, name: str
) -> None:
    first = grow(NEW, EMPTY, a=before)
    second = grow(NEW, first, a=after)
    assert second.columns[0] == first.columns[0]
    assert [column.name for column in second.columns] == ["a", name]
    (planned,) = second.planned
    assert (planned.property, planned.name) == ("a", name)
    # Later, too; and what fits the older column goes there again.
    assert grow(NEW, second, a=after) == Evolution(
        second.columns, second.planned, second.last_field_id, False
    )
    back = grow(NEW, second, a=before)
    assert not back.changed
    assert back.planned == first.planned


def test_what_fits_grows_no_column() -> None:
    growth = grow(NEW, EMPTY, a="int", b="string", c=struct(x="float"))
    growth = grow(NEW, growth, a="long", b=WantedList("long"), c=struct(x="double", y="long"))
    assert shown(growth) == {"a": "long", "b": "string", "c": "struct<x: double, y: long>"}


def test_the_newest_that_fits_is_taken() -> None:
    growth = EMPTY
    for kind in ("int", "string", "double", "boolean", "decimal(5,2)"):
        growth = grow(NEW, growth, a=kind)
    before = shown(growth)
    assert list(before) == ["a", "a__string", "a__double", "a__boolean", "a__decimal_5_2"]
    again: list[tuple[Wanted, str]] = [
        ("long", "a"),
        ("float", "a__double"),
        (JSON, "a__string"),
        (struct(x="long"), "a__string"),
        ("decimal(9,2)", "a__decimal_5_2"),
    ]
    for wanted, name in again:
        growth = grow(NEW, growth, a=wanted)
        assert growth.planned[0].name == name
    assert shown(growth) == {**before, "a": "long", "a__decimal_5_2": "decimal(9,2)"}


def test_text_is_for_what_has_no_column_of_its_type() -> None:
    growth = grow(NEW, EMPTY, a=struct(x="long"))
    growth = grow(NEW, growth, a="string")
    assert grow(NEW, growth, a=struct(x="int")).planned[0].name == "a"
    assert grow(NEW, growth, a=WantedList("long")).planned[0].name == "a__string"


def test_what_does_not_fit_inside_gets_a_field() -> None:
    growth = grow(NEW, EMPTY, a=WantedList(struct(x="long", y=WantedList("long"))))
    growth = grow(NEW, growth, a=WantedList(struct(x="string", y=WantedList(struct(z="long")))))
    assert shown(growth) == {
        "a": "list<struct<x: long, y: list<long>, x__string: string, y__list: list<struct<z: long>>>>"
    }
    assert text(growth.planned[0].type) == (
        "list<struct<x__string: string, y__list: list<struct<z: long>>>>"
    )


def test_names_of_new_columns_are_unique() -> None:
    growth = grow(NEW, EMPTY, a="long", a__string="long", b=WantedList("long"))
    growth = grow(NEW, growth, a="string", a__string="date", b=WantedList("string"))
    growth = grow(NEW, growth, a=JSON, b=WantedList("date"), a__string__date="long")
    names = [column.name for column in growth.columns]
    assert len(names) == len(set(names)) == 8
    assert names[:5] == ["a", "a__string", "b", names[3], "a__string__date"]
    assert names[3].startswith("a__string_")
    assert [name.startswith("b__list") for name in names[5:7]] == [True, True]


def test_without_new_columns_those_there_are_go_on() -> None:
    growth = grow(NEW, grow(NEW, EMPTY, a="long"), a="string")
    for kind, name in (("int", "a"), (JSON, "a__string")):
        assert grow(Contract(), growth, a=kind).planned[0].name == name
    with pytest.raises(CommitFault, match="column a__string is string in the table"):
        grow(Contract(), growth, a="date")
    inside = grow(NEW, grow(NEW, EMPTY, a=struct(x="long")), a=struct(x="string"))
    assert not grow(Contract(), inside, a=struct(x="int")).changed
    with pytest.raises(CommitFault, match=r"column a\.x__string is string in the table"):
        grow(Contract(), inside, a=struct(x="date"))


# --- frozen ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "change"),
    [
        ({"a": "long", "new": "date"}, "column new, date, would be new"),
        ({"b": "long"}, "column b would change from int to long"),
        ({"s": struct(x="long")}, "column s.x would change from int to long"),
        ({"s": struct(y="long")}, "column s.y, long, would be new"),
        (
            {"l": WantedList(struct(x=WantedMap("double")))},
            "column l.x would change from map<string, float> to map<string, double>",
        ),
        ({"a": "string"}, "column a__string, string, would be new"),
    ],
)
def test_a_frozen_table_does_not_change(wanted: dict[str, Wanted], change: str) -> None:
    there: dict[str, Wanted] = {
        "a": "long",
        "b": "int",
        "s": struct(x="int"),
        "l": WantedList(struct(x=WantedMap("float"))),
    }
    frozen = Contract(frozen=True, new_columns=True)
    growth = grow(frozen, EMPTY, **there)  # a new table is made
    assert grow(frozen, growth, **there).columns == growth.columns
    assert not grow(frozen, growth, a="int").changed
    with pytest.raises(CommitFault) as raised:
        grow(frozen, growth, **wanted)
    fault = raised.value
    assert (fault.code, fault.exit_status) == ("schema.frozen", 7)
    assert change in fault.message
    assert "users" in fault.message
    assert "schema: evolve" in (fault.hint or "")


def test_what_fits_no_column_of_a_frozen_table_is_a_conflict_where_that_ends_the_run() -> None:
    frozen = Contract(frozen=True)
    with pytest.raises(CommitFault) as raised:
        grow(frozen, grow(frozen, EMPTY, a="long"), a="string")
    assert raised.value.code == "schema.conflict"


def test_a_frozen_table_is_neither_relaxed_nor_renamed() -> None:
    frozen = Contract(frozen=True, rename={"a": "b"})
    growth = Evolution((Column("a", "a", "long", 1),), (), 1, False)
    with pytest.raises(CommitFault, match="column a would be renamed to b"):
        grow(frozen, growth, b="long")
    growth = Evolution((Column("a", "a", "long", 1, True),), (), 1, False)
    with pytest.raises(CommitFault, match="column a would become nullable"):
        grow(frozen, growth, a="long")


# --- renamed ---------------------------------------------------------------------------------------------------------------


def test_a_renamed_property_keeps_its_column() -> None:
    growth = grow(Contract(), EMPTY, old="int", other="long")
    rename = Contract(rename={"old": "New One", "never": "there"})
    assert grow(rename, growth, old="int") == grow(Contract(), growth, old="int")  # not sent yet
    growth = grow(rename, growth, **{"New One": "long", "other": "long"})
    assert growth.columns == (
        Column("New One", "new_one", "long", 1),
        Column("other", "other", "long", 2),
    )
    assert growth.changed
    assert not grow(rename, growth, **{"New One": "long"}).changed
    # The old name is free again, for something else.
    growth = grow(rename, growth, old="date", **{"New One": "long"})
    assert growth.planned[0] == Column("old", "old", "date", 3)
    assert not grow(rename, growth, old="date", **{"New One": "long"}).changed


def test_a_renamed_property_keeps_all_its_columns() -> None:
    growth = grow(NEW, grow(NEW, EMPTY, a="long", b__string="long"), a="string")
    rename = Contract(new_columns=True, rename={"a": "b"})
    growth = grow(rename, growth, b="string")
    names = {column.field_id: column.name for column in growth.columns}
    assert names[1] == "b"
    assert names[3].startswith("b__string_")
    assert growth.planned[0].field_id == 3
    assert grow(rename, growth, b="int").planned[0].field_id == 1


def test_a_name_that_folds_alike_stays() -> None:
    growth = grow(Contract(), EMPTY, **{"User Id": "long"})
    growth = grow(Contract(rename={"User Id": "user_id"}), growth, user_id="long")
    assert growth.columns == (Column("user_id", "user_id", "long", 1),)
    assert growth.changed


def test_a_name_that_is_taken_is_not_taken_twice() -> None:
    growth = grow(Contract(), EMPTY, old="long", **{"N!": "long"})
    growth = grow(Contract(rename={"old": "n_"}), growth, n_="long")
    assert [column.property for column in growth.columns] == ["n_", "N!"]
    assert growth.columns[0].name.startswith("n__")


def test_old_and_new_name_at_once_are_no_rename() -> None:
    growth = grow(Contract(), EMPTY, old="long")
    with pytest.raises(CommitFault) as raised:
        grow(Contract(rename={"old": "new"}), growth, old="long", new="long")
    assert (raised.value.code, raised.value.exit_status) == ("config.rename", 3)
    # Without it, and from then on, they are two.
    growth = grow(Contract(), growth, old="long", new="long")
    assert not grow(Contract(rename={"old": "new"}), growth, old="long", new="long").changed


# --- for any schemas -------------------------------------------------------------------------------------------------------

CONTRACTS = st.sampled_from(
    [NEW, Contract(), Contract(new_columns=True, rename={"a": "A", "b": "a__string"})]
)


@given(SCHEMAS, st.lists(CONTRACTS, min_size=5, max_size=5))
def test_evolution_keeps_its_promises(
    schemas: list[dict[str, Wanted]], contracts: list[Contract]
) -> None:
    growth = EMPTY
    for wanted, contract in zip(schemas, contracts, strict=False):
        try:
            newer = grow(contract, growth, **wanted)
        except CommitFault as fault:
            assert fault.code == ("config.rename" if contract.rename else "schema.conflict")
            continue
        check_growth(growth, newer, wanted)
        kinds = {column.field_id: column.type for column in growth.columns}
        for column in newer.columns:
            assert same_kind(kinds.get(column.field_id, column.type), column.type)
        again = grow(contract, newer, **wanted)
        assert not again.changed
        assert again.planned == newer.planned
        growth = newer


def same_kind(before: Any, after: Any) -> bool:
    """Whether files of the one can be read as the other: widened at most."""
    if isinstance(before, str) or isinstance(after, str):
        wider = {("int", "long"), ("float", "double")}
        return before == after or (before, after) in wider or str(before).startswith("decimal")
    if isinstance(before, Struct):
        fields = {field.field_id: field.type for field in after.fields}
        return all(same_kind(field.type, fields[field.field_id]) for field in before.fields)
    if isinstance(before, List):
        return before.element_id == after.element_id and same_kind(before.element, after.element)
    ids = (before.key_id, before.value_id) == (after.key_id, after.value_id)
    return ids and same_kind(before.value, after.value)


# --- messages --------------------------------------------------------------------------------------------------------------


def test_a_contract_is_read() -> None:
    assert Contract.from_event({}) == Contract()
    event = {"schema": "freeze", "conflict": "new_column", "rename": {"a": "b"}}
    assert Contract.from_event(event) == Contract(True, True, {"a": "b"})
    assert Contract.from_event({"schema": "evolve", "conflict": "fail"}) == Contract()


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        {"schema": "thaw"},
        {"conflict": True},
        {"rename": []},
        {"rename": {"a": 1}},
        {"rename": {"a": "c", "b": "c"}},
        {"rename": {"a": "b", "b": "c"}},
        {"rename": {"a": "a"}},
    ],
)
def test_what_is_no_contract(event: Any) -> None:
    with pytest.raises(CommitFault):
        Contract.from_event(event)
