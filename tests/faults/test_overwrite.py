"""Overwrite and ACTIVATE_VERSION: until the swap readers see exactly the old rows, after it exactly the new ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.faults.committers import Committer, Warehouse, state, stream


def rows(first: int, count: int = 5) -> list[dict[str, Any]]:
    return [{"id": number, "name": "x"} for number in range(first, first + count)]


def send(
    committer: Committer, name: str, first: int, text: str | None = None, **more: Any
) -> dict[str, Any]:
    """Commit five rows from ``first`` on, with the stream's state ``text``."""
    states = [] if text is None else [state(name, text)]
    return committer.seal([committer.stage(name, rows(first))], states, **more)


def overwrites(**generations: int) -> list[dict[str, Any]]:
    return [{"stream": stream(name), "generation": n} for name, n in generations.items()]


def published(warehouse: Warehouse) -> dict[str, Any]:
    """Return what mode ``read`` tells: states, and the files of each table."""
    reading = warehouse.start(mode="read")
    opened = reading.open()
    found: dict[str, Any] = {"states": opened["states"], "files": {}}
    while (event := reading.receive())["type"] == "table":
        paths = found["files"].setdefault(event["table"], set())
        paths |= {Path(file["path"]) for file in event["files"]}
    assert reading.status() == 0
    return found


def fill(warehouse: Warehouse, *names: str) -> None:
    """Publish the rows 0 to 4 of each stream."""
    committer = warehouse.opened(mode="overwrite")
    for name in names:
        committer.plan(name)
    files = [committer.stage(name, rows(0)) for name in names]
    committer.seal(files, [state(name, '"old"') for name in names], complete=True)
    assert committer.close() == 0


def assert_no_orphans(warehouse: Warehouse, *tables: str) -> None:
    """Every file is live or hidden, besides those that Iceberg's older snapshots still show."""
    known = {path for table in tables for path in warehouse.live_files(table)}
    known |= warehouse.hidden_files()
    placed = warehouse.placed_files()
    assert known <= placed
    if warehouse.plugin == "parquet":
        assert placed == known


def test_generation_grows_unseen_and_is_swapped_in_at_once(warehouse: Warehouse) -> None:
    fill(warehouse, "users")
    second = warehouse.start(mode="overwrite")
    assert second.open()["states"] == []
    second.plan("users")
    (table,) = send(second, "users", 100, '"one"')["tables"]
    assert (table["rows"], table["snapshot_id"], table["metadata_location"]) == (5, None, None)
    assert warehouse.rows("users") == list(range(5))
    assert len(warehouse.hidden_files()) == 1
    assert published(warehouse)["states"] == [state("users", '"old"')]
    if warehouse.plugin == "parquet":
        shown = published(warehouse)["files"]["shop.users"]
        assert shown == set(warehouse.live_files("users"))
    answer = send(second, "users", 105, '"two"', complete=True)
    assert answer["epoch"] == 3
    (table,) = answer["tables"]
    assert table["rows"] == 5
    assert table["metadata_location"]
    assert second.close() == 0
    assert warehouse.rows("users") == list(range(100, 110))
    assert warehouse.committed() == (3, [state("users", '"two"')])
    assert warehouse.hidden_files() == set()
    assert_no_orphans(warehouse, "users")


def test_generation_survives_runs(warehouse: Warehouse) -> None:
    fill(warehouse, "users", "orders")
    for number in range(3):
        committer = warehouse.start(mode="overwrite")
        expected = [state("users", json.dumps(number - 1))] if number else []
        assert committer.open()["states"] == expected
        committer.plan("users")
        send(committer, "users", 100 + 5 * number, json.dumps(number))
        if number == 1:
            # A run that ends well but cannot say that it has everything swaps nothing.
            assert committer.seal([], [], complete=False)["tables"] == []
        assert committer.close() == 0
        assert warehouse.rows("users") == list(range(5))
    last = warehouse.opened(mode="overwrite")
    last.plan("users")
    last.plan("orders")
    answer = last.seal([], [], complete=True)
    assert {t["stream"]["name"]: t["rows"] for t in answer["tables"]} == {"users": 0, "orders": 0}
    assert warehouse.rows("users") == list(range(100, 115))
    # Nothing came of orders: it is empty.
    assert warehouse.rows("orders") == []
    assert warehouse.committed()[1] == [state("users", "2")]
    assert_no_orphans(warehouse, "users", "orders")
    again = warehouse.start(mode="overwrite")
    assert again.open()["states"] == []


def test_rows_that_no_state_speaks_for_begin_anew(warehouse: Warehouse) -> None:
    """A source that starts from nothing sends them all again."""
    fill(warehouse, "users")
    first = warehouse.opened(mode="overwrite")
    first.plan("users")
    send(first, "users", 100)
    hidden = warehouse.hidden_files()
    assert first.close() == 0
    second = warehouse.start(mode="overwrite")
    assert second.open()["states"] == []
    second.plan("users")
    send(second, "users", 100, '"all"', complete=True)
    assert warehouse.rows("users") == list(range(100, 105))
    assert hidden and not any(path.exists() for path in hidden)


def test_newer_generation_drops_the_pending_one_with_its_files(warehouse: Warehouse) -> None:
    for number in (3, 4):
        committer = warehouse.start(overwrites=overwrites(users=number))
        assert committer.open()["states"] == []
        committer.plan("users")
        before = warehouse.hidden_files()
        send(committer, "users", 100 * number, f'"{number}"')
        assert committer.close() == 0
        assert not any(path.exists() for path in before)
        assert len(warehouse.hidden_files()) == 1
        assert_no_orphans(warehouse)
    same = warehouse.start(overwrites=overwrites(users=4))
    assert same.open()["states"] == [state("users", '"4"')]
    same.plan("users")
    same.seal([], [], complete=True)
    assert warehouse.rows("users") == list(range(400, 405))
    assert same.close() == 0
    for stale in (3, 2):
        late = warehouse.start(overwrites=overwrites(users=stale))
        answer = late.open()
        assert answer["code"] == "conflict.generation"
        assert "generation 4" in answer["message"]
        assert late.status() == 10
    # The published number again: a new generation of that number.
    again = warehouse.opened(overwrites=overwrites(users=4))
    again.plan("users")
    send(again, "users", 900, '"again"', complete=True)
    assert warehouse.rows("users") == list(range(900, 905))


def test_a_run_that_gives_nothing_keeps_the_older_generation(warehouse: Warehouse) -> None:
    """A newer number alone drops nothing: the first epoch of the new generation does."""
    first = warehouse.opened(overwrites=overwrites(users=1))
    first.plan("users")
    send(first, "users", 100, '"1"')
    assert first.close() == 0
    assert warehouse.opened(overwrites=overwrites(users=2)).close() == 0
    assert len(warehouse.hidden_files()) == 1
    back = warehouse.start(overwrites=overwrites(users=1))
    assert back.open()["states"] == [state("users", '"1"')]


def test_append_and_overwrite_in_one_pipeline(warehouse: Warehouse) -> None:
    committer = warehouse.opened(overwrites=overwrites(users=1))
    for name in ("users", "events"):
        committer.plan(name)
    files = [committer.stage(name, rows(0)) for name in ("users", "events")]
    answer = committer.seal(files, [state("users", "1"), state("events", "1")])
    assert [bool(t["metadata_location"]) for t in answer["tables"]] == [False, True]
    assert warehouse.rows("events") == list(range(5))
    assert warehouse.committed()[1] == [state("events", "1")]
    assert committer.close() == 0

    second = warehouse.start(overwrites=overwrites(users=1))
    assert second.open()["states"] == [state("events", "1"), state("users", "1")]
    for name in ("users", "events"):
        second.plan(name)
    files = [second.stage(name, rows(5)) for name in ("users", "events")]
    answer = second.seal(files, [state("events", "2")], complete=True)
    assert answer["type"] == "committed"
    assert warehouse.rows("users") == list(range(10))
    assert warehouse.rows("events") == list(range(10))
    assert warehouse.committed()[1] == [state("events", "2"), state("users", "1")]
    assert_no_orphans(warehouse, "users", "events")


def test_state_of_the_whole_source_waits_for_the_swap(warehouse: Warehouse) -> None:
    whole = {"kind": "global", "stream": None, "text": '{"at":1}'}
    committer = warehouse.opened(overwrites=overwrites(users=1))
    for name in ("users", "events"):
        committer.plan(name)
    files = [committer.stage(name, rows(0)) for name in ("users", "events")]
    committer.seal(files, [whole])
    assert committer.close() == 0
    assert warehouse.rows("events") == list(range(5))
    assert published(warehouse)["states"] == []
    second = warehouse.start(overwrites=overwrites(users=1))
    assert second.open()["states"] == [whole]
    second.plan("users")
    second.seal([], [], complete=True)
    assert warehouse.rows("users") == list(range(5))
    assert published(warehouse)["states"] == [whole]


def test_other_modes_leave_a_pending_generation_alone(warehouse: Warehouse) -> None:
    first = warehouse.opened(mode="overwrite")
    first.plan("users")
    send(first, "users", 100, '"hidden"')
    assert first.close() == 0
    append = warehouse.start(mode="append")
    assert append.open()["states"] == []
    append.plan("events")
    send(append, "events", 0, '"seen"')
    assert append.seal([], [], complete=True)["tables"] == []
    assert append.close() == 0
    assert len(warehouse.hidden_files()) == 1
    assert warehouse.committed()[1] == [state("events", '"seen"')]
    back = warehouse.start(mode="overwrite")
    assert back.open()["states"] == [state("users", '"hidden"')]


def test_streams_that_are_gone_leave_with_the_swap(warehouse: Warehouse) -> None:
    """Rows of half a generation are never shown: the stream was not asked for any more."""
    fill(warehouse, "users", "orders")
    first = warehouse.opened(mode="overwrite")
    first.plan("orders")
    send(first, "orders", 100, '"half"')
    assert first.close() == 0
    second = warehouse.opened(mode="overwrite")
    second.plan("users")
    send(second, "users", 200, '"all"', complete=True)
    assert warehouse.rows("users") == list(range(200, 205))
    assert warehouse.rows("orders") == list(range(5))
    assert warehouse.hidden_files() == set()
    assert_no_orphans(warehouse, "users", "orders")
    assert warehouse.start(mode="overwrite").open()["states"] == []


def test_swap_with_new_columns(warehouse: Warehouse) -> None:
    fill(warehouse, "users")
    committer = warehouse.opened(mode="overwrite")
    committer.plan("users")
    send(committer, "users", 100, "1")
    committer.plan("users", [("id", "long"), ("extra", "string")], revision=2)
    file = committer.stage("users", [{"id": 200, "extra": "new"}])
    committer.seal([file], [], complete=True)
    found = warehouse.rows("users", "id, name, extra")
    assert found == [*((number, "x", None) for number in range(100, 105)), (200, None, "new")]


def test_activation_keeps_the_files_of_one_version(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    old = committer.stage("users", rows(0), version=1)
    none = committer.stage("users", rows(10))
    committer.seal([old, none], [state("users", "1")])
    new = committer.stage("users", rows(20), version=2)
    committer.seal([new], [state("users", "2")])
    assert warehouse.rows("users") == [*range(5), *range(10, 15), *range(20, 25)]
    assert committer.close() == 0
    later = warehouse.opened()
    later.plan("users")
    files = [
        later.stage("users", rows(30), version=2),
        later.stage("users", rows(40), version=1),
    ]
    answer = later.seal(files, [], complete=True, activations={"users": 2})
    assert answer["tables"][0]["rows"] == 10
    assert warehouse.rows("users") == [*range(20, 25), *range(30, 35)]
    assert_no_orphans(warehouse, "users")
    assert later.close() == 0
    # The same again finds nothing to do to the rows.
    last = warehouse.opened()
    last.plan("users")
    last.seal([], [], complete=True, activations={"users": 2})
    assert warehouse.rows("users") == [*range(20, 25), *range(30, 35)]
    assert last.close() == 0
    gone = warehouse.opened()
    gone.seal([], [], complete=True, activations={"users": 3, "unknown": 1})
    assert warehouse.rows("users") == []


@pytest.mark.parametrize("complete", [None, False])
def test_activation_waits_for_proof(warehouse: Warehouse, complete: bool | None) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    committer.seal([committer.stage("users", rows(0), version=1)], [])
    more = committer.stage("users", rows(10), version=2)
    committer.seal([more], [], complete=complete, activations={"users": 2})
    assert warehouse.rows("users") == [*range(5), *range(10, 15)]


def test_activation_within_a_swap(warehouse: Warehouse) -> None:
    fill(warehouse, "users")
    committer = warehouse.opened(mode="overwrite")
    committer.plan("users")
    for version in (1, 2):
        file = committer.stage("users", rows(100 * version), version=version)
        committer.seal([file], [state("users", str(version))])
    committer.seal([], [], complete=True, activations={"users": 2})
    assert warehouse.rows("users") == list(range(200, 205))
    assert_no_orphans(warehouse, "users")


def test_only_the_final_epoch_is_complete(warehouse: Warehouse) -> None:
    committer = warehouse.opened(mode="overwrite")
    committer.send(
        type="sealed", sequence=1, final=False, files=[], states=[], counts=[], complete=True
    )
    answer = committer.receive()
    assert answer["code"] == "protocol.control"


def test_checkpoint_carries_hidden_rows(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    root.mkdir()
    warehouse = Warehouse(root, "parquet")
    committer = warehouse.opened(mode="overwrite")
    committer.plan("users")
    for epoch in range(1, 52):
        file = committer.stage("users", [{"id": epoch, "name": "x"}])
        assert committer.seal([file], [state("users", str(epoch))])["epoch"] == epoch
    assert committer.close() == 0
    log = root / "shop/_dativo/shop/log"
    for epoch in range(1, 51):
        (log / f"{epoch:020d}.json").unlink()
    later = warehouse.start(mode="overwrite")
    assert later.open()["states"] == [state("users", "51")]
    later.plan("users")
    later.seal([], [], complete=True)
    assert warehouse.rows("users") == list(range(1, 52))
    warehouse.end()
