"""Tables through the real process: evolution, several streams, names, owners, foreign commits."""

from __future__ import annotations

import datetime
import json
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.faults.committers import Warehouse, reader, state

from dativo.plugins.commit.identifiers import hashed

EVERY_TYPE: list[tuple[str, str, Any]] = [
    ("c_boolean", "boolean", True),
    ("c_int", "int", -(2**31)),
    ("c_long", "long", 2**63 - 1),
    ("c_float", "float", 0.5),
    ("c_double", "double", 1e300),
    ("c_date", "date", datetime.date(1969, 12, 31)),
    ("c_time", "time", datetime.time(23, 59, 59, 999999)),
    ("c_timestamp", "timestamp", datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)),
    ("c_string", "string", "ä\N{SNOWMAN}"),
    ("c_binary", "binary", b"\x00\xff"),
    ("c_decimal", "decimal(38,9)", Decimal("12345678901234567890123456789.123456789")),
]


def test_every_type_round_trips(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    columns = [(name, kind) for name, kind, _ in EVERY_TYPE]
    plan = committer.plan("wide", columns)
    assert [(c["column"], c["type"], c["field_id"]) for c in plan["columns"]] == [
        (name, kind, number) for number, (name, kind) in enumerate(columns, 1)
    ]
    row = {name: value for name, _, value in EVERY_TYPE}
    file = committer.stage("wide", [row, {}])
    assert committer.seal([file], [])["tables"][0]["rows"] == 2
    found = warehouse.rows("wide", ", ".join(name for name, _ in columns))
    assert found == [tuple(row.values()), (None,) * len(row)]


def test_timestamptz(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("events", [("happened", "timestamptz")])
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    file = committer.stage("events", [{"happened": at}])
    committer.seal([file], [])
    assert warehouse.rows("events", "epoch_us(happened)") == [int(at.timestamp() * 1_000_000)]


def test_columns_are_added_and_widened(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("t", [("id", "int"), ("price", "decimal(5,2)"), ("ratio", "float")])
    one = committer.stage("t", [{"id": 1, "price": Decimal("1.50"), "ratio": 0.5}])
    assert committer.seal([one], [])["type"] == "committed"

    wider = [("price", "decimal(9,2)"), ("extra", "string"), ("id", "long"), ("ratio", "double")]
    plan = committer.plan("t", wider, revision=2)
    assert [(c["column"], c["type"], c["field_id"]) for c in plan["columns"]] == [
        ("price", "decimal(9,2)", 2),
        ("extra", "string", 4),
        ("id", "long", 1),
        ("ratio", "double", 3),
    ]
    assert plan["schema_id"] == 1
    row = {"id": 2**40, "price": Decimal("1234567.89"), "extra": "x", "ratio": 1e300}
    two = committer.stage("t", [row])
    assert committer.seal([two], [])["type"] == "committed"
    assert committer.close() == 0
    expected = [(1, Decimal("1.50"), 0.5, None), (2**40, Decimal("1234567.89"), 1e300, "x")]
    assert warehouse.rows("t", "id, price, ratio, extra") == expected

    # A later run whose source sends the old, narrower schema again gets the table's types, and ids stay.
    later = warehouse.opened()
    plan = later.plan("t", [("id", "int"), ("fresh", "boolean")])
    assert [(c["column"], c["type"], c["field_id"]) for c in plan["columns"]] == [
        ("id", "long", 1),
        ("fresh", "boolean", 5),
    ]
    three = later.stage("t", [{"id": 3, "fresh": True}])
    assert later.seal([three], [])["type"] == "committed"
    assert warehouse.rows("t", "id, fresh, extra") == [
        (1, None, None),
        (3, True, None),
        (2**40, None, "x"),
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("long", "string"),
        ("string", "long"),
        ("decimal(5,2)", "decimal(9,3)"),
        ("double", "long"),
        ("timestamp", "timestamptz"),
        ("date", "timestamp"),
    ],
)
def test_conflicting_type_names_stream_column_and_types(
    tmp_path: Path, before: str, after: str
) -> None:
    root = tmp_path / "lake"
    root.mkdir()
    warehouse = Warehouse(root, "parquet")
    committer = warehouse.opened()
    committer.plan("users", [("age", before)])
    answer = committer.plan("users", [("age", after)], revision=2)
    assert answer["code"] == "schema.conflict"
    assert answer["stream"] == {"namespace": None, "name": "users"}
    assert answer["field"] == "age"
    assert before in answer["message"]
    assert after in answer["message"]
    assert committer.status() == 7
    warehouse.end()


def test_streams_without_columns_and_double_properties(warehouse: Warehouse) -> None:
    assert warehouse.opened().plan("empty", [])["code"] == "schema.no_columns"
    twice = [("a", "long"), ("a", "long")]
    assert warehouse.opened().plan("twice", twice)["code"] == "schema.duplicate"


def test_all_streams_of_an_epoch_or_none(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    names = [f"s{number}" for number in range(5)]
    for name in names:
        committer.plan(name)
    files = [committer.stage(name, [{"id": 1, "name": "x"}]) for name in names]
    answer = committer.seal(files[:4], [state(name, "1") for name in names])
    assert [table["table"] for table in answer["tables"]] == [f"shop.{name}" for name in names[:4]]
    more = [committer.stage(name, [{"id": 2, "name": "x"}]) for name in names[:4]]
    (committer.staging / files[4]["path"]).unlink()
    refused = committer.seal([*more, files[4]], [state(name, "2") for name in names])
    assert refused["type"] == "error"
    for name in names[:4]:
        assert warehouse.rows(name) == [1]
    assert warehouse.committed() == (1, [state(name, "1") for name in names])


def test_several_files_of_a_stream(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    files = [committer.stage("users", [{"id": number, "name": "x"}]) for number in range(3)]
    (table,) = committer.seal(files, [])["tables"]
    assert (table["rows"], table["files"]) == (3, 3)
    assert table["bytes"] == sum(file["bytes"] for file in files)
    assert warehouse.rows("users") == [0, 1, 2]


def test_states_alone_touch_no_table(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    file = committer.stage("users", [{"id": 1, "name": "x"}])
    committer.seal([file], [state("users", "1")])
    pointer = warehouse.pointer("users") if warehouse.plugin == "iceberg" else ""
    answer = committer.seal([], [state("users", "2")])
    assert (answer["epoch"], answer["tables"]) == (2, [])
    same = committer.seal([], [state("users", "2")])
    assert (same["epoch"], same["tables"]) == (2, [])
    if pointer:
        assert warehouse.pointer("users") == pointer
    assert warehouse.committed() == (2, [state("users", "2")])
    opened = warehouse.start().open()
    assert (opened["epoch"], opened["states"]) == (2, [state("users", "2")])


def test_state_text_is_kept_to_the_byte(warehouse: Warehouse) -> None:
    text = '{ "big": 123456789012345678901234567890, "exact":1.10, "dup":1,"dup":2, "u":"\\u00e4\ud83d\ude00ä" }'
    text = text.encode("utf-16", "surrogatepass").decode("utf-16")
    committer = warehouse.opened()
    assert committer.seal([], [state("users", text)])["epoch"] == 1
    assert warehouse.start().open()["states"] == [state("users", text)]


def test_states_that_the_next_run_could_not_be_told(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    half = json.dumps("x" * 4_000_000)
    assert committer.seal([], [state("users", half)])["epoch"] == 1
    answer = committer.seal([], [state("orders", half)])
    assert answer["code"] == "limit.states_bytes"
    assert committer.status() == 6
    assert warehouse.start().open()["epoch"] == 1


def test_streams_that_fold_alike_get_their_own_tables(warehouse: Warehouse) -> None:
    plans: dict[str, str] = {}
    for turn in (["Users", "users", "USERS"], ["USERS", "users", "Users"]):
        committer = warehouse.opened()
        for name in turn:
            table = committer.plan(name)["table"]
            assert plans.setdefault(name, table) == table
            file = committer.stage(name, [{"id": len(plans), "name": name}])
            committer.seal([file], [])
        assert committer.close() == 0
    assert plans["Users"] == "shop.users"
    assert len(set(plans.values())) == 3
    for name, table in plans.items():
        assert set(warehouse.rows(table.removeprefix("shop."), "name")) == {name}


def test_source_namespace_is_part_of_the_name(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    assert committer.plan("users", namespace="public")["table"] == "shop.public__users"
    hostile = committer.plan("passwd", namespace="../../etc")["table"]
    assert hostile == "shop.______etc__passwd"
    clash = committer.plan("b__c", namespace="a")["table"]
    other = committer.plan("c", namespace="a__b")["table"]
    assert clash == "shop.a__b__c"
    assert other == f"shop.{hashed('a__b__c', json.dumps(['a__b', 'c']))}"


def test_columns_that_fold_alike(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    columns = [("User Id", "long"), ("user_id", "long"), ("USER-ID", "long"), ("_dativo_x", "long")]
    plan = committer.plan("t", columns)
    names = {c["property"]: c["column"] for c in plan["columns"]}
    assert names["user_id"] == "user_id"
    assert names["_dativo_x"] == "dativo_x"
    assert len(set(names.values())) == 4
    row = {name: number for number, (name, _) in enumerate(columns)}
    file = committer.stage("t", [row])
    assert committer.seal([file], [])["type"] == "committed"
    again = warehouse.opened().plan("t", list(reversed(columns)))
    assert {c["property"]: c["column"] for c in again["columns"]} == names
    assert warehouse.rows("t", ", ".join(names.values())) == [tuple(row.values())]


def test_another_owner_is_refused(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    file = committer.stage("users", [{"id": 1, "name": "x"}])
    committer.seal([file], [])
    stranger = warehouse.start(owner="other/shop", pipeline="shop")
    assert stranger.open()["code"] == "config.pipeline_owned"
    assert stranger.status() == 3
    rival = warehouse.opened(owner="other/rival", pipeline="rival")
    answer = rival.plan("users")
    assert answer["code"] == "config.table_owned"
    assert "shop" in answer["message"]
    assert rival.status() == 3
    assert warehouse.rows("users") == [1]


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        ({"namespace": "../up"}, "config.namespace", 3),
        ({"namespace": "_dativo"}, "config.namespace", 3),
        ({"pipeline": "a/b"}, "config.pipeline", 3),
        ({"partition": ".."}, "config.partition", 3),
        ({"mode": "upsert"}, "config.mode", 3),
        ({"staging": "relative"}, "protocol.control", 7),
    ],
)
def test_open_is_checked(
    warehouse: Warehouse, change: dict[str, Any], code: str, status: int
) -> None:
    committer = warehouse.start(**change)
    assert committer.open()["code"] == code
    assert committer.status() == status


def test_kernel_gone(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.channel.close()
    assert committer.status() == 1
    assert committer.process.stderr is not None
    assert b"went away" in committer.process.stderr.read()


def test_partitions_have_their_own_states(warehouse: Warehouse) -> None:
    for partition in ("", "p1"):
        committer = warehouse.opened(partition=partition)
        committer.seal([], [state("users", json.dumps(partition))])
        assert committer.close() == 0
    opened = warehouse.start(partition="p1").open()
    assert opened["states"] == [state("users", '"p1"')]


def test_warehouse_that_cannot_be_used(warehouse: Warehouse) -> None:
    blocker = "catalog.db" if warehouse.plugin == "iceberg" else "shop"
    (warehouse.root / blocker).write_bytes(b"not what it should be" * 100)
    committer = warehouse.start()
    answer = committer.open()
    assert answer["code"] == "target.io"
    assert str(warehouse.root / blocker) in answer["value"]
    assert committer.status() == 5


def test_tampered_state_is_refused(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.seal([], [state("users", "1")])
    assert committer.close() == 0
    if warehouse.plugin == "iceberg":
        connection = sqlite3.connect(warehouse.root / "catalog.db")
        connection.execute("UPDATE dativo_state SET states = replace(states, '1', '2')")
        connection.commit()
        connection.close()
    else:
        (entry,) = (warehouse.root / "shop/_dativo/shop/log").glob("*.json")
        entry.write_text(entry.read_text().replace('"text":"1"', '"text":"2"'))
    late = warehouse.start()
    assert late.open()["code"] == "target.corrupt"
    assert late.status() == 5


def test_parquet_checkpoint_carries_everything(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    root.mkdir()
    warehouse = Warehouse(root, "parquet")
    committer = warehouse.opened()
    committer.plan("users")
    for epoch in range(1, 53):
        file = committer.stage("users", [{"id": epoch, "name": "x"}])
        assert committer.seal([file], [state("users", str(epoch))])["epoch"] == epoch
    assert committer.close() == 0
    log = root / "shop/_dativo/shop/log"
    (checkpoint,) = log.glob("*.checkpoint.json")
    assert checkpoint.name == f"{50:020d}.checkpoint.json"
    kept = json.loads(checkpoint.read_text())
    assert len(kept["files"]) == 50
    for epoch in range(1, 51):
        (log / f"{epoch:020d}.json").unlink()
    later = warehouse.start()
    opened = later.open()
    assert (opened["epoch"], opened["states"]) == (52, [state("users", "52")])
    assert later.plan("users")["columns"][1]["field_id"] == 2
    paths = [str(root / "shop" / file["path"]) for file in kept["files"]]
    count = reader().execute("SELECT count(*) FROM read_parquet(?)", [paths]).fetchone()
    assert count == (50,)
    warehouse.end()


def test_parquet_log_with_a_gap_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    root.mkdir()
    warehouse = Warehouse(root, "parquet")
    committer = warehouse.opened()
    for epoch in range(3):
        committer.seal([], [state("users", str(epoch))])
    assert committer.close() == 0
    (root / f"shop/_dativo/shop/log/{2:020d}.json").unlink()
    assert warehouse.start().open()["code"] == "target.corrupt"
    warehouse.end()


def test_pipeline_that_moves_to_another_namespace(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    root.mkdir()
    warehouse = Warehouse(root, "iceberg")
    assert warehouse.opened().close() == 0
    moved = warehouse.start(namespace="elsewhere")
    assert moved.open()["code"] == "config.namespace_moved"
    assert moved.status() == 3
    warehouse.end()


def test_folder_of_nobody_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    folder = root / "shop" / "users"
    folder.mkdir(parents=True)
    (folder / "old.parquet").write_bytes(b"PAR1")
    warehouse = Warehouse(root, "parquet")
    answer = warehouse.opened().plan("users")
    assert answer["code"] == "config.table_owned"
    assert "was not made by dativo" in answer["message"]
    assert sorted(path.name for path in folder.iterdir()) == ["old.parquet"]
    warehouse.end()
