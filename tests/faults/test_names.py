"""Names that the suites of others send: every stream its own table, every property its own column, read back by DuckDB."""

from __future__ import annotations

import json

import pytest
from tests.faults.committers import Warehouse, state

STRANGE = [
    "test:SpecialChars!in?attributes",
    "a:b",
    "a b",
    " a_b ",
    "ab$%&",
    "\N{UNICORN FACE}",
    "\N{UNICORN FACE}\N{UNICORN FACE}",
    "ÄÖÜ straße",
    "naïve",
    "x" * 300,
    "x" * 299 + "y",
    "X" * 300,
    "123abc",
    "_",
    "__",
    "select",
    "a.b",
    "a/b",
    "..",
    "a\nb\x00c",
    'quote"d',
    "it's",
    "_dativo_private",
]


def test_strange_stream_names(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    files, states, tables = [], [], {}
    for number, name in enumerate(STRANGE):
        tables[name] = committer.plan(name)["table"].removeprefix("shop.")
        files.append(committer.stage(name, [{"id": number, "name": name.replace("\x00", "")}]))
        states.append(state(name, json.dumps(number)))
    assert len(set(tables.values())) == len(STRANGE)
    assert committer.seal(files, states)["type"] == "committed"
    assert committer.close() == 0
    for number, name in enumerate(STRANGE):
        assert warehouse.rows(tables[name]) == [number], name
    later = warehouse.start()
    assert later.open()["states"] == states
    for name in reversed(STRANGE):
        assert later.plan(name)["table"] == f"shop.{tables[name]}"


def test_strange_property_names(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    plan = committer.plan("t", [(name, "long") for name in STRANGE])
    columns = [column["column"] for column in plan["columns"]]
    assert [column["property"] for column in plan["columns"]] == STRANGE
    assert len(set(columns)) == len(STRANGE)
    file = committer.stage("t", [{name: number for number, name in enumerate(STRANGE)}])
    assert committer.seal([file], [])["type"] == "committed"
    quoted = ", ".join(f'"{column}"' for column in columns)
    assert warehouse.rows("t", quoted) == [tuple(range(len(STRANGE)))]
    again = warehouse.opened().plan("t", [(name, "long") for name in reversed(STRANGE)])
    assert [column["column"] for column in again["columns"]] == columns[::-1]


def test_columns_that_come_one_by_one(warehouse: Warehouse) -> None:
    """singer-sdk's schema_updates: a1 at first, a3 to a6 added while the tap runs, objects and arrays as JSON text."""
    committer = warehouse.opened()
    columns = [("id", "long"), ("a1", "double")]
    for revision, (name, kind) in enumerate(
        [("a2", "string"), ("a3", "boolean"), ("a4", "string"), ("a5", "string"), ("a6", "long")], 1
    ):
        columns.append((name, kind))
        committer.plan("t", columns, revision=revision)
        row = {"id": revision, "a4": '{"b":[1]}', "a5": "[1,2]", "a6": revision}
        answer = committer.seal([committer.stage("t", [row])], [])
        assert answer["type"] == "committed"
    found = warehouse.rows("t", "id, a4, a5, a6")
    assert found == [
        (1, None, None, None),
        (2, None, None, None),
        (3, '{"b":[1]}', None, None),
        (4, '{"b":[1]}', "[1,2]", None),
        (5, '{"b":[1]}', "[1,2]", 5),
    ]


def test_revisions_within_one_epoch(warehouse: Warehouse) -> None:
    """Files of an older revision may be sealed after a newer plan; a dropped property's column stays."""
    committer = warehouse.opened()
    committer.plan("t", [("id", "long"), ("old", "string")], revision=1)
    first = committer.stage("t", [{"id": 1, "old": "x"}])
    committer.plan("t", [("id", "long"), ("new", "string")], revision=2)
    second = committer.stage("t", [{"id": 2, "new": "y"}])
    assert committer.seal([first, second], [])["tables"][0]["files"] == 2
    assert warehouse.rows("t", "id, old, new") == [(1, "x", None), (2, None, "y")]


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_stream_without_rows(warehouse: Warehouse, mode: str) -> None:
    committer = warehouse.opened(mode=mode)
    table = committer.plan("empty")["table"]
    answer = committer.seal([], [state("empty", "1")], complete=True)
    assert answer["type"] == "committed"
    assert committer.close() == 0
    reading = warehouse.start(mode="read")
    assert reading.open()["states"] == [state("empty", "1")]
    listed = reading.receive()
    assert (listed["type"], listed["table"], listed["files"]) == ("table", table, [])
