"""Two committers of one overwriting pipeline: whoever is fenced off adds nothing to the generation and takes nothing from it."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from tests.faults.committers import Committer, Warehouse, state
from tests.faults.test_rivals import COMMITTER, RECORDS, wait_until_stopped

STOPS = {
    "after the intent": ("dativo.plugins.{records}.record", "after"),
    "after placing": (f"{COMMITTER}_place", "after"),
    "before publishing": ("dativo.plugins.{records}.commit", "before"),
}


def send(committer: Committer, first: int, **more: Any) -> dict[str, Any]:
    file = committer.stage("users", [{"id": first + row, "name": "x"} for row in range(5)])
    return committer.seal([file], [state("users", str(first))], **more)


def fill(warehouse: Warehouse) -> None:
    """Rows 0 to 4 are published, rows 10 to 14 of the next generation are hidden."""
    for first, complete in ((0, True), (10, None)):
        committer = warehouse.opened(mode="overwrite")
        committer.plan("users")
        assert send(committer, first, complete=complete)["type"] == "committed"
        assert committer.close() == 0


def frozen(warehouse: Warehouse, place: str, moment: str, **more: Any) -> Committer:
    """Return a committer that stopped inside the epoch of the rows 100 to 104."""
    place = place.format(records=RECORDS[warehouse.plugin])
    zombie = warehouse.start(kill=[place, moment, "1", "freeze"], mode="overwrite")
    zombie.open()
    zombie.plan("users")
    file = zombie.stage("users", [{"id": row, "name": "zombie"} for row in range(100, 105)])
    zombie.send_sealed([file], [state("users", '"zombie"')], **more)
    wait_until_stopped(zombie.process.pid)
    return zombie


def assert_clean(warehouse: Warehouse) -> None:
    known = set(warehouse.live_files("users")) | warehouse.hidden_files()
    placed = warehouse.placed_files()
    if warehouse.plugin == "iceberg":
        # The first generation's file is of an older snapshot.
        assert len(placed - known) <= 1
    else:
        assert placed == known


@pytest.mark.parametrize("complete", [None, True], ids=["fills", "swaps"])
@pytest.mark.parametrize("stop", STOPS)
def test_zombie_of_a_generation(warehouse: Warehouse, stop: str, complete: bool | None) -> None:
    fill(warehouse)
    zombie = frozen(warehouse, *STOPS[stop], complete=complete)
    rival = warehouse.start(mode="overwrite")
    assert rival.open()["states"] == [state("users", "10")]
    assert warehouse.rows("users") == list(range(5))
    rival.plan("users")
    assert send(rival, 15)["type"] == "committed"

    zombie.process.send_signal(signal.SIGCONT)
    answer = zombie.receive()
    assert (answer["type"], answer["code"]) == ("error", "conflict.epoch")
    assert zombie.status() == 10
    assert warehouse.rows("users") == list(range(5))
    assert len(warehouse.hidden_files()) == 2

    assert send(rival, 20, complete=True)["type"] == "committed"
    assert warehouse.rows("users") == list(range(10, 25))
    assert_clean(warehouse)
    assert rival.close() == 0


def test_zombie_that_had_swapped_deletes_nothing_of_the_next_generation(
    warehouse: Warehouse,
) -> None:
    """It stopped between the swap and the deletion of what left: the rival finishes that, and both may."""
    fill(warehouse)
    place = {
        "iceberg": "dativo.plugins.iceberg.tables:Tables.settle",
        "parquet": "dativo.plugins.parquet.log:Log.settle",
    }[warehouse.plugin]
    zombie = frozen(warehouse, place, "before", complete=True)
    rival = warehouse.start(mode="overwrite")
    assert rival.open()["states"] == []
    assert warehouse.rows("users") == [*range(10, 15), *range(100, 105)]
    rival.plan("users")
    send(rival, 200)
    assert len(warehouse.hidden_files()) == 1

    zombie.process.send_signal(signal.SIGCONT)
    assert zombie.receive()["type"] == "committed"
    send(rival, 205, complete=True)
    assert warehouse.rows("users") == list(range(200, 210))
    zombie.seal([], [state("users", '"late"')])
    assert zombie.status() == 10
    assert warehouse.rows("users") == list(range(200, 210))
    assert rival.close() == 0
