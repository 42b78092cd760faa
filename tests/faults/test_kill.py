"""kill -9 at every step of a commit: the next run gives every row exactly once, and state and data agree."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.faults.committers import Committer, Killed, Warehouse, state

STREAMS = ("users", "orders")
COMMITTER = "dativo.plugins.commit.committer:Committer."
CATALOG = "dativo.plugins.iceberg.catalog:Catalog."
TABLES = "dativo.plugins.iceberg.tables:Tables."
LOG = "dativo.plugins.parquet.log:Log."
DURABLE = "dativo.plugins.commit.durable:"

# Where the process dies during its first commit, and the epoch that must then be committed.
SHARED = [
    ("while copying", "dativo.plugins.commit.staging:Staging.take", "after", 1, 1),
    ("after the rename of some", f"{COMMITTER}_place_file", "after", 1, 1),
    ("after the rename of all", f"{COMMITTER}_place", "after", 1, 1),
    ("after committed was sent", f"{COMMITTER}clear_staged", "before", 1, 2),
]
POINTS = {
    "iceberg": [
        *SHARED,
        ("before the intent", f"{CATALOG}record", "before", 1, 1),
        ("after the intent", f"{CATALOG}record", "after", 1, 1),
        (
            "after one table's metadata",
            "dativo.plugins.iceberg._pyiceberg:with_files",
            "after",
            1,
            1,
        ),
        ("after all metadata", f"{TABLES}stage", "after", 1, 1),
        ("in the transaction, state moved", f"{CATALOG}_advance_state", "after", 1, 1),
        ("in the transaction, one table moved", f"{CATALOG}_move_pointer", "after", 1, 1),
        ("in the transaction, all moved", f"{CATALOG}_delete_intent", "after", 1, 1),
        ("after the transaction", f"{CATALOG}commit", "after", 1, 2),
    ],
    "parquet": [
        *SHARED,
        ("before the intent", f"{LOG}record", "before", 1, 1),
        ("after the intent", f"{LOG}record", "after", 1, 1),
        ("before the entry", f"{DURABLE}create_whole", "before", 1, 1),
        ("after the entry, intent left", f"{DURABLE}create_whole", "after", 1, 2),
        ("after the entry", f"{LOG}commit", "after", 1, 2),
    ],
}


def send_epoch(committer: Committer, epoch: int) -> dict[str, object]:
    """Commit ten rows of each stream, those of ``epoch``, with the state that says so."""
    start = 10 * (epoch - 1)
    files = []
    for name in STREAMS:
        rows = [{"id": row, "name": f"{name} {row}"} for row in range(start, start + 10)]
        files.append(committer.stage(name, rows))
    return committer.seal(files, [state(name, f'{{"next":{start + 10}}}') for name in STREAMS])


def plan_all(committer: Committer) -> None:
    for name in STREAMS:
        assert committer.plan(name)["type"] == "stream_plan"


def states_after(epoch: int) -> list[object]:
    return [state(name, f'{{"next":{10 * epoch}}}') for name in STREAMS]


def metadata_files(warehouse: Warehouse) -> set[Path]:
    return {path for path in warehouse.root.rglob("metadata/*") if path.is_file()}


def assert_epoch(warehouse: Warehouse, epoch: int) -> None:
    """Every row up to ``epoch`` once, in every stream, and the state that goes with it."""
    for name in STREAMS:
        assert warehouse.rows(name) == list(range(10 * epoch))
    assert warehouse.committed() == (epoch, states_after(epoch))


def assert_no_orphans(warehouse: Warehouse) -> None:
    live = {path for name in STREAMS for path in warehouse.live_files(name)}
    assert warehouse.placed_files() == live


@pytest.mark.parametrize(
    ("plugin", "place", "moment", "call", "expected"),
    [
        pytest.param(plugin, *point, id=f"{plugin}, {name}")
        for plugin, points in POINTS.items()
        for name, *point in points
    ],
)
def test_killed_committer_loses_and_repeats_nothing(
    tmp_path: Path, plugin: str, place: str, moment: str, call: int, expected: int
) -> None:
    root = tmp_path / "lake"
    root.mkdir()
    warehouse = Warehouse(root, plugin)
    first = warehouse.opened()
    plan_all(first)
    assert send_epoch(first, 1)["type"] == "committed"
    assert first.close() == 0
    before = metadata_files(warehouse)

    second = warehouse.start(kill=[place, moment, str(call)])
    second.open()
    plan_all(second)
    with pytest.raises(Killed) as killed:
        send_epoch(second, 2)
        second.receive()
    assert killed.value.status == -signal.SIGKILL
    assert_epoch(warehouse, expected)

    third = warehouse.start()
    opened = third.open()
    assert opened["epoch"] == expected
    assert opened["states"] == states_after(expected)
    assert_no_orphans(warehouse)
    if expected == 1:
        assert metadata_files(warehouse) == before
    plan_all(third)
    for epoch in range(expected + 1, 4):
        answer = send_epoch(third, epoch)
        assert answer["type"] == "committed"
        assert answer["epoch"] == epoch
    assert_epoch(warehouse, 3)
    assert_no_orphans(warehouse)
    assert third.close() == 0
    warehouse.end()


# Each point is passed while a warehouse is new; the numbers are calls in the order of the first run.
FIRST_RUN = {
    "iceberg": [
        *((f"{DURABLE}make_directories", "after", call) for call in (1, 2, 3)),
        *((f"{DURABLE}SyncedFile.close", "before", call) for call in (1, 2, 3, 4, 5)),
        (f"{CATALOG}_check_identity", "before", 1),
        (f"{CATALOG}register", "before", 1),
        (f"{CATALOG}register", "after", 1),
    ],
    "parquet": [
        *((f"{DURABLE}make_directories", "after", call) for call in (1, 2)),
        *((f"{DURABLE}create", "after", call) for call in (1, 2, 3, 4)),
        (f"{LOG}attach", "after", 1),
    ],
}


@pytest.mark.parametrize(
    ("plugin", "place", "moment", "call"),
    [(plugin, *point) for plugin, points in FIRST_RUN.items() for point in points],
)
def test_killed_in_the_very_first_run(
    tmp_path: Path, plugin: str, place: str, moment: str, call: int
) -> None:
    root = tmp_path / "lake"
    root.mkdir()
    warehouse = Warehouse(root, plugin)
    first = warehouse.start(kill=[place, moment, str(call)])
    with pytest.raises(Killed) as killed:
        first.open()
        first.plan("users")
        first.seal([first.stage("users", [{"id": 100, "name": "x"}])], [])
    assert killed.value.status == -signal.SIGKILL

    second = warehouse.start()
    assert second.open()["epoch"] == 0
    plan_all(second)
    assert send_epoch(second, 1)["epoch"] == 1
    assert_epoch(warehouse, 1)
    assert_no_orphans(warehouse)
    assert second.close() == 0
    assert not list(root.rglob("*.tmp"))
    warehouse.end()
