"""Types as trees: told and read back, and what is no type."""

from __future__ import annotations

from typing import Any

import pytest

from dativo.plugins.commit import types
from dativo.plugins.commit.types import (
    Column,
    List,
    Map,
    Struct,
    WantedColumn,
    WantedList,
    WantedMap,
    WantedStruct,
)
from dativo.protocol.columntypes import MAX_TYPE_DEPTH
from dativo.protocol.errors import ProtocolViolation

ADDRESS = Column(
    "Address",
    "address",
    Struct(
        (
            Column("zip code", "zip_code", "string", 4),
            Column("tags", "tags", List(6, Map(7, 8, "decimal(9,2)")), 5),
        )
    ),
    2,
)


def nested(levels: int, of: Any = "long") -> Any:
    for _ in range(levels):
        of = {"type": "list", "element": of}
    return of


def test_a_column_is_told_and_read_back() -> None:
    event = ADDRESS.to_event()
    assert event["type"] == {
        "type": "struct",
        "fields": [
            {
                "property": "zip code",
                "column": "zip_code",
                "type": "string",
                "field_id": 4,
                "required": False,
            },
            {
                "property": "tags",
                "column": "tags",
                "type": {
                    "type": "list",
                    "element_id": 6,
                    "element": {"type": "map", "key_id": 7, "value_id": 8, "value": "decimal(9,2)"},
                },
                "field_id": 5,
                "required": False,
            },
        ],
    }
    assert types.kept_column(event) == ADDRESS
    assert list(types.field_ids([ADDRESS])) == [2, 4, 5, 6, 7, 8]
    assert types.leaves(ADDRESS.type) == 3  # the string, and keys and values of the maps
    assert (
        types.text(ADDRESS.type)
        == "struct<zip_code: string, tags: list<map<string, decimal(9,2)>>>"
    )


def test_a_wanted_column_is_read() -> None:
    kind = {
        "type": "struct",
        "fields": [
            {"property": "any", "type": "json"},
            {"property": "tags", "type": nested(1, {"type": "map", "value": "date"})},
        ],
    }
    column = types.wanted_column({"property": "a", "type": kind})
    assert column.type == WantedStruct(
        (
            WantedColumn("any", types.JSON),
            WantedColumn("tags", WantedList(WantedMap("date"))),
        )
    )
    assert types.text(column.type) == "struct<any: json, tags: list<map<string, date>>>"


@pytest.mark.parametrize(
    "kind",
    [
        None,
        1,
        [],
        {},
        "table",
        "list<int>",
        {"type": "struct"},
        {"type": "struct", "fields": []},
        {"type": "struct", "fields": ["long"]},
        {"type": "struct", "fields": [{"property": 1, "type": "long"}]},
        {"type": "list"},
        {"type": "list", "element": None},
        {"type": "map", "value": {"type": "set"}},
        nested(MAX_TYPE_DEPTH + 1),
        nested(900),
    ],
)
def test_what_is_no_type(kind: Any) -> None:
    for read in (types.wanted_column, types.kept_column):
        event = {"property": "a", "column": "a", "field_id": 1, "type": kind}
        with pytest.raises(ProtocolViolation, match=r"column\.\w+ is not|column is not"):
            read(event)


def test_the_deepest_type() -> None:
    column = types.wanted_column({"property": "a", "type": nested(MAX_TYPE_DEPTH)})
    assert types.text(column.type).count("list<") == MAX_TYPE_DEPTH


@pytest.mark.parametrize(
    "change",
    [
        {"type": None},
        {"property": None},
        {"property": "x" * 1025},
    ],
)
def test_what_is_no_wanted_column(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolation):
        types.wanted_column({"property": "a", "type": "string", **change})


@pytest.mark.parametrize(
    "change",
    [
        {"type": "json"},
        {"field_id": -1},
        {"field_id": True},
        {"required": 1},
        {"type": {"type": "list", "element": "long"}},
        {"type": {"type": "map", "key_id": 3, "value": "long"}},
    ],
)
def test_what_is_no_planned_column(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolation):
        types.kept_column({**Column("a", "a", "long", 1).to_event(), **change})


def test_a_text_is_short() -> None:
    wide = WantedStruct(tuple(WantedColumn(f"p{n}", "long") for n in range(1000)))
    assert len(types.text(wide)) == types.MAX_TEXT_CHARS
