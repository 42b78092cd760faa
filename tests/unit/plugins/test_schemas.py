"""Iceberg schemas out of columns and back, and what others put into them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from pyiceberg.schema import Schema
from pyiceberg.types import (
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    UUIDType,
)
from tests.unit.plugins.schemas import SCHEMAS, schema, struct

from dativo.plugins.commit.columns import evolve
from dativo.plugins.commit.contracts import Contract
from dativo.plugins.commit.types import Column, List, Struct, Wanted, WantedList, field_ids
from dativo.plugins.iceberg import schemas

NEW = Contract(new_columns=True)


@given(SCHEMAS)
def test_columns_become_a_schema_and_back(wanted: list[dict[str, Wanted]]) -> None:
    columns: tuple[Column, ...] = ()
    iceberg, last = Schema(), 0
    for asked in wanted:
        growth = evolve(schema(*asked.items(), contract=NEW), columns, last)
        fields = schemas.grown_fields(iceberg, columns, growth.columns)
        iceberg, last, columns = Schema(*fields), growth.last_field_id, growth.columns
        assert iceberg.highest_field_id == last
        assert schemas.columns(iceberg, schemas.name_map(columns)) == columns
        # Through JSON, as metadata files have it; made at once it is the same.
        again = Schema.model_validate_json(iceberg.model_dump_json())
        assert again == iceberg == Schema(*schemas.fields(columns))
        assert sorted(iceberg._lazy_id_to_field) == sorted(field_ids(columns))


def theirs(*fields: NestedField) -> Schema:
    """Return a schema that another tool has changed: a struct of ours with a field of theirs, and a map by uuid."""
    ours = NestedField(1, "a", StructType(NestedField(2, "x", IntegerType()), *fields), doc="A")
    by_uuid = MapType(4, UUIDType(), 5, ListType(6, StringType(), element_required=True))
    return Schema(ours, NestedField(3, "m", by_uuid, required=False, doc="by whom"))


def test_what_others_put_in_stays_as_it_is() -> None:
    before = theirs(NestedField(7, "u", UUIDType(), required=True, doc="theirs"))
    columns = schemas.columns(before, json.dumps([[1, "A"]]))
    assert columns == (
        Column(
            "A",
            "a",
            Struct((Column("x", "x", "int", 2), Column("u", "u", "uuid", 7, True))),
            1,
        ),
        Column("m", "m", "map<uuid,list<string>>", 3),
    )
    wanted = schema(("A", struct(x="long", y=WantedList("date"))), ("b", "long"))
    growth = evolve(wanted, columns, 7)
    assert {c.name: c.field_id for c in growth.columns} == {"a": 1, "m": 3, "b": 8}
    after = Schema(*schemas.grown_fields(before, columns, growth.columns))
    assert after.find_field("m") == before.find_field("m")
    assert after.find_field("a").doc == "A"
    assert after.find_type("a.x") == LongType()
    relaxed = after.find_field("a.u")
    assert (relaxed.field_type, relaxed.required, relaxed.doc) == (UUIDType(), False, "theirs")
    assert after.find_field("a.y").field_id == 9


def test_a_name_given_by_another_tool_is_a_property() -> None:
    renamed = Schema(NestedField(1, "mail", StringType()), NestedField(2, "Other", StringType()))
    columns = schemas.columns(renamed, json.dumps([[1, "E-Mail"]]))
    assert [column.property for column in columns] == ["E-Mail", "Other"]


def test_a_map_of_names_of_older_versions() -> None:
    before = Schema(
        NestedField(1, "user_id", LongType()),
        NestedField(2, "s", StructType(NestedField(3, "user_id", LongType()))),
    )
    columns = schemas.columns(before, '{"User Id": "user_id", "gone": "dropped"}')
    assert columns[0].property == "User Id"
    assert columns[1].type == Struct((Column("user_id", "user_id", "long", 3),))
    assert json.loads(schemas.name_map(columns)) == [[1, "User Id"]]


@pytest.mark.parametrize("names", ["[[1]]", "[1]", '[["x", "y"]]', "7", "null", '{"a": []}', "{"])
def test_a_map_that_was_changed(names: str) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        schemas.columns(Schema(NestedField(1, "a", LongType())), names)


def test_doc_goes_with_the_property() -> None:
    (before,) = schemas.fields([Column("User Id", "user_id", "long", 1)])
    assert before.doc == "User Id"
    old = Schema(before)
    columns = schemas.columns(old, '[[1, "User Id"]]')

    def doc(new: Column) -> Any:
        return schemas.grown_fields(old, columns, [new])[0].doc

    assert doc(Column("user_id", "user_id", "long", 1)) is None
    assert doc(Column("USER", "user", "long", 1)) == "USER"
    assert doc(Column("User Id", "user_id", List(2, "long"), 1)) == "User Id"
