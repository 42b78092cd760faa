"""Nested columns through a real committer: planned, grown, and read back by DuckDB, pyarrow and pyiceberg."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.table import StaticTable
from tests.faults.committers import Warehouse, stream

from dativo.plugins.commit import types

Event = dict[str, Any]


def struct(**fields: Any) -> Event:
    return {
        "type": "struct",
        "fields": [{"property": name, "type": kind} for name, kind in fields.items()],
    }


def items(element: Any) -> Event:
    return {"type": "list", "element": element}


def by_string(value: Any) -> Event:
    return {"type": "map", "value": value}


def under(contract: Event | None) -> Event:
    """Return what ``open`` says besides."""
    return {} if contract is None else {"contracts": [{"stream": stream("t"), **contract}]}


def ids(plan: Event) -> list[int]:
    return list(types.field_ids(types.kept_column(column) for column in plan["columns"]))


def land(
    warehouse: Warehouse,
    columns: list[tuple[str, Any]],
    *rows: Event,
    contract: Event | None = None,
) -> Event:
    """Commit ``rows`` of stream ``t`` in a run of their own; return the plan."""
    committer = warehouse.opened(**under(contract))
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


# --- contracts -------------------------------------------------------------------------------------------------------------

NEW_COLUMN = {"schema": "evolve", "conflict": "new_column", "rename": {}}


def test_what_does_not_fit_goes_on_beside_it(warehouse: Warehouse) -> None:
    rows: list[tuple[Any, Any, Event]] = [
        ("long", struct(x="long"), {"amount": 1, "s": {"x": 1}}),
        ("string", struct(x="string"), {"amount": "two", "s": {"x": "2"}}),
        ("double", "string", {"amount": 3.5, "s": "3"}),
        ("int", struct(x="long"), {"amount": 4, "s": {"x": 4}}),
    ]
    taken = []
    for amount, s, row in rows:
        plan = land(warehouse, [("amount", amount), ("s", s)], row, contract=NEW_COLUMN)
        taken.append([column["column"] for column in plan["columns"]])
        assert [column["property"] for column in plan["columns"]] == ["amount", "s"]
    assert taken == [
        ["amount", "s"],
        ["amount__string", "s"],
        ["amount__double", "s__string"],
        ["amount", "s"],
    ]
    found = warehouse.rows(
        "t", "amount, amount__string, amount__double, s.x, s.x__string, s__string"
    )
    assert found == [
        (1, None, None, 1, None, None),
        (4, None, None, 4, None, None),
        (None, "two", None, None, "2", None),
        (None, None, 3.5, None, None, "3"),
    ]
    if warehouse.plugin == "iceberg":
        table = StaticTable.from_metadata(warehouse.pointer("t"))
        assert table.scan().to_arrow().num_rows == 4
        assert table.schema().find_field("amount__double").doc == "amount"


def test_a_frozen_table(warehouse: Warehouse) -> None:
    freeze = {"schema": "freeze", "conflict": "new_column", "rename": {}}
    columns: list[tuple[str, Any]] = [("id", "long"), ("a", struct(x="int"))]
    first = land(warehouse, columns, {"id": 1}, contract=freeze)
    same = land(warehouse, columns[::-1], {"id": 2}, contract=freeze)
    assert sorted(ids(same)) == sorted(ids(first))
    committer = warehouse.opened(**under(freeze))
    answer = committer.plan("t", [("id", "long"), ("a", struct(x="long"))])
    assert (answer["code"], answer["field"], answer["blame"]) == ("schema.frozen", "a", "plugin")
    assert "column a.x would change from int to long" in answer["message"]
    assert "schema: evolve" in answer["hint"]
    assert committer.status() == 7
    assert warehouse.rows("t") == [1, 2]


def test_a_renamed_property(warehouse: Warehouse) -> None:
    rename = {"schema": "evolve", "conflict": "fail", "rename": {"mail": "E-Mail"}}
    before = land(warehouse, [("id", "long"), ("mail", "string")], {"id": 1, "mail": "a"})
    columns = [("id", "long"), ("E-Mail", "string")]
    after = land(warehouse, columns, {"id": 2, "E-Mail": "b"}, contract=rename)
    assert ids(after) == ids(before)
    assert after["columns"][1]["column"] == "e_mail"
    again = land(warehouse, columns, {"id": 3, "E-Mail": "c"}, contract=rename)
    assert (again["columns"], again["schema_id"]) == (after["columns"], after["schema_id"])
    without = land(warehouse, columns, {"id": 4, "E-Mail": "d"})
    assert without["columns"] == after["columns"]
    if warehouse.plugin == "iceberg":
        expected = [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
        assert warehouse.rows("t", "id, e_mail") == expected
        rows = StaticTable.from_metadata(warehouse.pointer("t")).scan().to_arrow().to_pylist()
        assert sorted((row["id"], row["e_mail"]) for row in rows) == expected
    else:  # a Parquet file keeps the names that it was written with; whoever reads by id finds them under one
        (table,) = [t for entry in warehouse.log_entries() for t in entry["tables"]][-1:]
        assert table["columns"][1]["column"] == "e_mail"
        found = {pq.read_schema(path).names[1] for path in warehouse.live_files("t")}
        assert found == {"mail", "e_mail"}


def test_a_stream_that_declares_itself_has_its_contract_with_its_schema(
    warehouse: Warehouse,
) -> None:
    committer = warehouse.opened(**under({"schema": "freeze", "conflict": "fail", "rename": {}}))
    committer.plan("t", [("a", "long")], contract=NEW_COLUMN)
    plan = committer.plan("t", [("a", "string")], revision=2, contract=NEW_COLUMN)
    assert plan["columns"][0]["column"] == "a__string"
    assert committer.plan("t", [("a", "date")], revision=3)["code"] == "schema.conflict"


def test_a_rename_of_both_names_is_refused(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "lake", "parquet")
    warehouse.root.mkdir()
    rename = {"schema": "evolve", "conflict": "fail", "rename": {"a": "b"}}
    land(warehouse, [("a", "long")], {"a": 1})
    committer = warehouse.opened(**under(rename))
    answer = committer.plan("t", [("a", "long"), ("b", "long")])
    assert (answer["code"], answer["value"]) == ("config.rename", "a: b")
    assert committer.status() == 3
    warehouse.end()
