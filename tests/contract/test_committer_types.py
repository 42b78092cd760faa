"""Nested columns through a real committer: planned, grown, and read back by DuckDB, pyarrow and pyiceberg."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.table import StaticTable
from tests.faults.committers import Warehouse

from dativo.plugins.commit import types

Event = dict[str, Any]


@pytest.fixture(params=["iceberg", "parquet"])
def warehouse(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Warehouse]:
    root = tmp_path / "lake"
    root.mkdir()
    warehouse = Warehouse(root, request.param)
    yield warehouse
    warehouse.end()


def struct(**fields: Any) -> Event:
    return {
        "type": "struct",
        "fields": [{"property": name, "type": kind} for name, kind in fields.items()],
    }


def items(element: Any) -> Event:
    return {"type": "list", "element": element}


def by_string(value: Any) -> Event:
    return {"type": "map", "value": value}


def ids(plan: Event) -> list[int]:
    return list(types.field_ids(types.kept_column(column) for column in plan["columns"]))


def land(warehouse: Warehouse, columns: list[tuple[str, Any]], *rows: Event) -> Event:
    """Commit ``rows`` of stream ``t`` in a run of their own; return the plan."""
    committer = warehouse.opened()
    plan = committer.plan("t", columns)
    assert plan["type"] == "stream_plan", plan
    assert committer.seal([committer.stage("t", list(rows))], [])["type"] == "committed"
    assert committer.close() == 0
    return plan


def test_nested_columns_are_read_back(warehouse: Warehouse) -> None:
    columns = [
        ("id", "long"),
        ("address", struct(city="string", at=struct(x="double", y="double"))),
        ("tags", items("string")),
        ("lines", items(struct(price="decimal(9,2)", days=items("date")))),
        ("scores", by_string("long")),
        ("free", "json"),
    ]
    day = datetime.date(2026, 1, 2)
    row = {
        "id": 1,
        "address": {"city": "Ulm", "at": {"x": 0.5, "y": None}},
        "tags": ["a", None],
        "lines": [{"price": Decimal("1.50"), "days": [day]}, None, {"price": None, "days": []}],
        "scores": {"a": 1, "b": None},
        "free": {"k": [1]},
    }
    plan = land(warehouse, columns, row, {"id": 2})
    assert ids(plan) == [1, 2, 7, 8, 9, 10, 3, 11, 4, 12, 13, 14, 15, 5, 16, 17, 6]
    assert plan["columns"][5]["type"] == "string"
    assert len(set(ids(plan))) == 17
    (file,) = warehouse.live_files("t")
    assert warehouse.rows("t", "id, address, tags, lines, scores, free") == [
        (1, *list(row.values())[1:5], '{"k": [1]}'),
        (2, None, None, None, None, None),
    ]
    assert pq.read_table(file).to_pylist()[0]["lines"] == row["lines"]
    if warehouse.plugin == "iceberg":
        table = StaticTable.from_metadata(warehouse.pointer("t"))
        assert table.scan().to_arrow().to_pylist()[0]["address"] == row["address"]


def test_fields_are_added_and_leaves_widen(warehouse: Warehouse) -> None:
    first = land(
        warehouse,
        [
            ("id", "long"),
            ("a", struct(n="int", gone="string")),
            ("l", items(struct(p="decimal(5,2)"))),
            ("m", by_string("float")),
        ],
        {
            "id": 1,
            "a": {"n": 1, "gone": "x"},
            "l": [{"p": Decimal("1.50")}],
            "m": {"k": 0.5},
        },
    )
    second = land(
        warehouse,
        [
            ("id", "long"),
            ("l", items(struct(new=items("long"), p="decimal(9,2)"))),
            ("m", by_string("double")),
            ("a", struct(deep=struct(x="boolean"), n="long")),
        ],
        {
            "id": 2,
            "a": {"n": 2**40, "deep": {"x": True}},
            "l": [{"p": Decimal("1234567.89"), "new": [1, 2]}],
            "m": {"k": 1e300},
        },
    )
    last = max(ids(first))
    assert {id for id in ids(second) if id > last} == set(range(last + 1, last + 5))
    assert warehouse.rows("t", "id, a.n, a.gone, a.deep.x, m['k']") == [
        (1, 1, "x", None, 0.5),
        (2, 2**40, None, True, 1e300),
    ]
    assert warehouse.rows("t", "l[1].p, l[1].new") == [
        (Decimal("1.50"), None),
        (Decimal("1234567.89"), [1, 2]),
    ]
    # The first schema again asks for nothing new: same ids, the wider types.
    third = warehouse.opened().plan("t", [("a", struct(gone="string", n="int"))])
    assert third["schema_id"] == second["schema_id"]
    assert set(ids(third)) < set(ids(first)) | set(ids(second))
    assert [field["type"] for field in third["columns"][0]["type"]["fields"]] == ["string", "long"]
    if warehouse.plugin == "iceberg":
        rows = StaticTable.from_metadata(warehouse.pointer("t")).scan().to_arrow().to_pylist()
        found = {row["id"]: row["a"] for row in rows}
        assert found[1] == {"n": 1, "gone": "x", "deep": None}
        assert found[2] == {"n": 2**40, "gone": None, "deep": {"x": True}}


def test_a_table_of_json_text_stays_one(warehouse: Warehouse) -> None:
    """What a writer without nested types made of objects and arrays goes on as text, also inside a struct."""
    land(warehouse, [("id", "long"), ("a", "json")], {"id": 1, "a": {"x": 1}})
    plan = land(
        warehouse,
        [("id", "long"), ("a", struct(x="long")), ("b", struct(c="json"))],
        {"id": 2, "a": {"x": 2}, "b": {"c": [1]}},
    )
    assert plan["columns"][1]["type"] == "string"
    plan = land(
        warehouse,
        [("id", "long"), ("a", items("long")), ("b", struct(c=by_string("long")))],
        {"id": 3, "a": [3], "b": {"c": {"k": 1}}},
    )
    assert warehouse.rows("t", "id, a, b.c") == [
        (1, '{"x": 1}', None),
        (2, '{"x": 2}', "[1]"),
        (3, "[3]", '{"k": 1}'),
    ]


def test_names_of_fields_are_folded_and_kept(warehouse: Warehouse) -> None:
    columns = [
        ("Adr", struct(**{"Zip Code": "long", "zip_code": "string", "0": "long", "..": "long"})),
        ("L", items({"type": "list", "element": struct(Ä="long")})),
    ]
    row = {"Adr": {"Zip Code": 1, "zip_code": "2", "0": 3, "..": 4}, "L": [[{"Ä": 5}]]}
    plan = land(warehouse, columns, row)
    fields = plan["columns"][0]["type"]["fields"]
    names = {field["property"]: field["column"] for field in fields}
    assert (names["zip_code"], names["0"]) == ("zip_code", "_0")
    assert names["Zip Code"].startswith("zip_code_")
    assert len(set(names.values())) == 4
    again = land(warehouse, list(reversed(columns)), row)
    assert sorted(ids(again)) == sorted(ids(plan))
    quoted = ", ".join(f'adr."{name}"' for name in names.values())
    assert warehouse.rows("t", quoted) == [(1, "2", 3, 4)] * 2


def test_a_conflict_inside_is_named(warehouse: Warehouse) -> None:
    land(warehouse, [("a", items(struct(b=by_string(struct(c="long")))))], {})
    answer = warehouse.opened().plan("t", [("a", items(struct(b=by_string(struct(c="string")))))])
    assert (answer["code"], answer["field"]) == ("schema.conflict", "a")
    assert "column a.element.b.value.c is long in the table" in answer["message"]
    assert "now declares string" in answer["message"]


def test_a_name_map_of_an_older_version_is_read(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "lake", "iceberg")
    warehouse.root.mkdir()
    plan = land(warehouse, [("User Id", "long"), ("b", "long")], {"User Id": 1})
    pointer = Path(warehouse.pointer("t"))
    text = pointer.read_text()
    new, old = (
        r'"dativo.name-map":"[[1, \"User Id\"]]"',
        r'"dativo.name-map":"{\"User Id\": \"user_id\"}"',
    )
    assert new in text
    pointer.write_text(text.replace(new, old))
    columns = [("User Id", "long"), ("user_id", struct(x="long"))]
    grown = land(warehouse, columns, {"User Id": 2, "user_id": {"x": 3}})
    assert grown["columns"][0] == plan["columns"][0]
    assert grown["columns"][1]["column"] != "user_id"
    assert warehouse.rows("t", "user_id") == [1, 2]
    assert new.removesuffix('"').removesuffix("]") in Path(warehouse.pointer("t")).read_text()
    warehouse.end()
