"""kill -9 at every step of filling, swapping and dropping a hidden generation: each row of the new one once, never half of it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.committers import Committer, Killed, Warehouse, state, stream

STREAMS = ("users", "orders")
COMMITTER = "dativo.plugins.commit.committer:Committer."
DURABLE = "dativo.plugins.commit.durable:"
CATALOG = "dativo.plugins.iceberg.catalog:Catalog."
TABLES = "dativo.plugins.iceberg.tables:Tables."
ICEBERG = "dativo.plugins.iceberg.target:IcebergTarget."
HIDDEN = "dativo.plugins.iceberg.generations:"
LOG = "dativo.plugins.parquet.log:Log."

# Where the process dies in the one epoch that it commits, and whether that epoch is durable then.
SHARED = [
    ("while copying", "dativo.plugins.commit.staging:Staging.take", "after", 1, False),
    ("some placed", f"{COMMITTER}_place_file", "after", 1, False),
    ("all placed, none recorded", f"{COMMITTER}_place", "after", 1, False),
    ("before publishing", f"{COMMITTER}_dropping_if_taken_over", "before", 1, False),
    ("before the answer", "dativo.plugins.commit.session:Session._send", "before", 5, True),
]
POINTS = {
    "iceberg": [
        *SHARED,
        ("before the intent", f"{CATALOG}record", "before", 1, False),
        ("after the intent", f"{CATALOG}record", "after", 1, False),
        ("before the transaction", f"{CATALOG}commit", "before", 1, False),
        ("state moved", f"{CATALOG}_advance_state", "after", 1, False),
        ("before the generations", f"{HIDDEN}write", "before", 1, False),
        ("after the generations", f"{HIDDEN}write", "after", 1, False),
        ("before COMMIT", f"{CATALOG}_delete_intent", "after", 1, False),
        ("after the transaction", f"{CATALOG}commit", "after", 1, True),
    ],
    "parquet": [
        *SHARED,
        ("before the intent", f"{LOG}record", "before", 1, False),
        ("after the intent", f"{LOG}record", "after", 1, False),
        ("before the entry", f"{DURABLE}create_whole", "before", 1, False),
        ("after the entry, intent left", f"{DURABLE}create_whole", "after", 1, True),
        ("after the entry", f"{LOG}commit", "after", 1, True),
    ],
}
SWAP_POINTS = {
    "iceberg": [
        ("one table's metadata", "dativo.plugins.iceberg._pyiceberg:with_files", "after", 1, False),
        ("all metadata", f"{TABLES}stage", "after", 1, False),
        ("one table moved", f"{CATALOG}_move_pointer", "after", 1, False),
        ("all tables moved", f"{CATALOG}_move_pointer", "after", 2, False),
        ("before old metadata is deleted", f"{TABLES}settle", "before", 1, True),
    ],
    "parquet": [
        ("before old files are deleted", f"{LOG}settle", "before", 1, True),
        ("old files deleted", f"{DURABLE}remove_files", "after", 2, True),
    ],
}


def parameters(*tables: dict[str, list[tuple[Any, ...]]]) -> list[Any]:
    return [
        pytest.param(plugin, *point, id=f"{plugin}, {name}")
        for table in tables
        for plugin, points in table.items()
        for name, *point in points
    ]


def send(committer: Committer, part: int, *, complete: bool | None = None) -> dict[str, Any]:
    """Commit ten rows of each stream, those of ``part``, with the states that say so."""
    first = 10 * part
    files = [
        committer.stage(name, [{"id": row, "name": name} for row in range(first, first + 10)])
        for name in STREAMS
    ]
    return committer.seal(files, states_after(part), complete=complete)


def states_after(part: int) -> list[dict[str, Any]]:
    return [state(name, json.dumps(part)) for name in STREAMS]


def plan_all(committer: Committer) -> None:
    for name in STREAMS:
        assert committer.plan(name)["type"] == "stream_plan"


def run(warehouse: Warehouse, *parts: int, complete: bool) -> None:
    committer = warehouse.opened(mode="overwrite")
    plan_all(committer)
    for part in parts:
        final = part == parts[-1] and complete
        assert send(committer, part, complete=True if final else None)["type"] == "committed"
    assert committer.close() == 0


def kill(warehouse: Warehouse, point: list[str], part: int, *, complete: bool | None) -> None:
    committer = warehouse.start(kill=point, mode="overwrite")
    committer.open()
    plan_all(committer)
    with pytest.raises(Killed) as killed:
        send(committer, part, complete=complete)
        committer.receive()
    assert killed.value.status == -signal.SIGKILL


def assert_seen(warehouse: Warehouse, first: int, end: int) -> None:
    """Readers find exactly these rows, the published state speaks of the same generation, and nothing else lies about."""
    for name in STREAMS:
        assert warehouse.rows(name) == list(range(first, end))
    assert warehouse.committed()[1] == states_after(end // 10 - 1)


def assert_no_orphans(warehouse: Warehouse, *older: Path) -> None:
    """Every file is live or hidden; ``older``: what earlier snapshots of Iceberg still show."""
    live = {path for name in STREAMS for path in warehouse.live_files(name)}
    kept = set(older) if warehouse.plugin == "iceberg" else set()
    assert warehouse.placed_files() == live | warehouse.hidden_files() | kept


@pytest.fixture
def lake(tmp_path: Path, plugin: str) -> Iterator[Warehouse]:
    """Rows 0 to 9 are published, rows 10 to 19 of the next generation are hidden."""
    root = tmp_path / "lake"
    root.mkdir()
    warehouse = Warehouse(root, plugin)
    run(warehouse, 0, complete=True)
    run(warehouse, 1, complete=False)
    yield warehouse
    warehouse.end()


@pytest.mark.nightly
@pytest.mark.parametrize(("plugin", "place", "moment", "call", "durable"), parameters(POINTS))
def test_killed_while_filling(
    lake: Warehouse, place: str, moment: str, call: int, durable: bool
) -> None:
    old = lake.live_files("users") + lake.live_files("orders")
    kill(lake, [place, moment, str(call)], 2, complete=None)
    assert_seen(lake, 0, 10)
    after = lake.start(mode="overwrite")
    assert after.open()["states"] == states_after(2 if durable else 1)
    assert_seen(lake, 0, 10)
    assert_no_orphans(lake)
    plan_all(after)
    for part in range(3 if durable else 2, 4):
        send(after, part)
    assert_seen(lake, 0, 10)
    after.seal([], [], complete=True)
    assert_seen(lake, 10, 40)
    assert_no_orphans(lake, *old)
    assert after.close() == 0


@pytest.mark.parametrize(
    ("plugin", "place", "moment", "call", "durable"), parameters(POINTS, SWAP_POINTS)
)
def test_killed_in_the_swap(
    lake: Warehouse, place: str, moment: str, call: int, durable: bool
) -> None:
    old = lake.live_files("users") + lake.live_files("orders")
    metadata = {path for path in lake.root.rglob("metadata/*") if path.is_file()}
    kill(lake, [place, moment, str(call)], 2, complete=True)
    assert_seen(lake, *((10, 30) if durable else (0, 10)))
    after = lake.start(mode="overwrite")
    assert after.open()["states"] == ([] if durable else states_after(1))
    assert_no_orphans(lake, *(old if durable else []))
    if durable:
        assert lake.hidden_files() == set()
    else:
        assert {path for path in lake.root.rglob("metadata/*") if path.is_file()} == metadata
        plan_all(after)
        send(after, 2, complete=True)
        assert_seen(lake, 10, 30)
        assert_no_orphans(lake, *old)
    assert after.close() == 0


@pytest.mark.parametrize(
    ("plugin", "place"),
    [
        ("iceberg", f"{TABLES}stage"),
        ("iceberg", f"{HIDDEN}write"),
        ("parquet", f"{LOG}record"),
    ],
)
def test_killed_in_a_swap_that_brings_no_rows(lake: Warehouse, place: str) -> None:
    before = {path for path in lake.root.rglob("*") if path.is_file()}
    committer = lake.start(kill=[place, "after", "1"], mode="overwrite")
    committer.open()
    plan_all(committer)
    with pytest.raises(Killed):
        committer.seal([], [], complete=True)
    assert_seen(lake, 0, 10)
    after = lake.start(mode="overwrite")
    opened = after.open()
    assert opened["states"] == states_after(1)
    assert opened["recovered"] == [{"epoch": 3, "action": "dropped", "files": 0}]
    assert {path for path in lake.root.rglob("*") if path.is_file()} == before
    plan_all(after)
    after.seal([], [], complete=True)
    assert_seen(lake, 10, 20)
    assert after.close() == 0


DROP_POINTS = {
    "iceberg": [
        ("before the transaction", f"{CATALOG}commit", "before", 1, False),
        ("after the transaction", f"{CATALOG}commit", "after", 1, True),
        ("before the deletion", f"{ICEBERG}_delete", "before", 2, True),
        ("files deleted, rows left", f"{DURABLE}remove_files", "after", 1, True),
        ("rows deleted", f"{CATALOG}forget_files", "after", 1, True),
    ],
    "parquet": [
        ("before the entry", f"{DURABLE}create_whole", "before", 1, False),
        ("after the entry", f"{DURABLE}create_whole", "after", 1, True),
        ("files deleted", f"{DURABLE}remove_files", "after", 2, True),
    ],
}


@pytest.mark.nightly
@pytest.mark.parametrize(("plugin", "place", "moment", "call", "durable"), parameters(DROP_POINTS))
def test_killed_while_dropping(
    lake: Warehouse, place: str, moment: str, call: int, durable: bool
) -> None:
    older = lake.hidden_files()
    newer = [{"stream": stream(name), "generation": 7} for name in STREAMS]
    committer = lake.start(kill=[place, moment, str(call)], overwrites=newer)
    committer.open()
    plan_all(committer)
    with pytest.raises(Killed):
        send(committer, 5)
        committer.receive()
    assert_seen(lake, 0, 10)
    after = lake.start(overwrites=newer)
    assert after.open()["states"] == (states_after(5) if durable else [])
    assert lake.hidden_files() & older == (set() if durable else older)
    assert_no_orphans(lake)
    plan_all(after)
    if not durable:
        send(after, 5)
    after.seal([], [], complete=True)
    assert_seen(lake, 50, 60)
    assert not any(path.exists() for path in older)
    assert after.close() == 0
