"""Two committers of one pipeline: the older is fenced off wherever it stopped, and leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.faults.committers import Committer, Warehouse, state

COMMITTER = "dativo.plugins.commit.committer:Committer."
STOPS = {
    "before copying": (f"{COMMITTER}_prepare", "before"),
    "after copying": ("dativo.plugins.commit.staging:Staging.take", "after"),
    "after the intent": ("dativo.plugins.{records}.record", "after"),
    "after placing": (f"{COMMITTER}_place", "after"),
    "before the metadata": ("dativo.plugins.{target}.publish", "before"),
    "before publishing": ("dativo.plugins.{records}.commit", "before"),
}
RECORDS = {"iceberg": "iceberg.catalog:Catalog", "parquet": "parquet.log:Log"}
TARGETS = {"iceberg": "iceberg.target:IcebergTarget", "parquet": "parquet.target:ParquetTarget"}

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def users(committer: Committer, first: int) -> dict[str, object]:
    file = committer.stage("users", [{"id": first + row, "name": "x"} for row in range(5)])
    return committer.seal([file], [state("users", f'{{"next":{first + 5}}}')])


def has_intent(warehouse: Warehouse) -> bool:
    if warehouse.plugin == "parquet":
        return (warehouse.root / "shop/_dativo/shop/intent.json").exists()
    connection = sqlite3.connect(warehouse.root / "catalog.db")
    found = connection.execute("SELECT count(*) FROM dativo_intents").fetchone()
    connection.close()
    return bool(found[0])


def wait_until_stopped(process_id: int) -> None:
    _, status = os.waitpid(process_id, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


@pytest.mark.parametrize("stop", STOPS)
def test_zombie_is_fenced(warehouse: Warehouse, stop: str) -> None:
    place, moment = STOPS[stop]
    place = place.format(records=RECORDS[warehouse.plugin], target=TARGETS[warehouse.plugin])
    zombie = warehouse.start(kill=[place, moment, "1", "freeze"])
    zombie.open()
    zombie.plan("users")
    zombie.sequence = 1
    file = zombie.stage("users", [{"id": row, "name": "zombie"} for row in range(100, 105)])
    zombie.send(
        type="sealed",
        sequence=1,
        final=False,
        files=[file],
        states=[state("users", '{"zombie":1}')],
        counts=[],
    )
    wait_until_stopped(zombie.process.pid)

    rival = warehouse.opened()
    rival.plan("users")
    assert users(rival, 0)["epoch"] == 1
    # Nothing is left that the zombie could still place, whether or not it ever wakes up.
    assert warehouse.placed_files() == set(warehouse.live_files("users"))

    zombie.process.send_signal(signal.SIGCONT)
    answer = zombie.receive()
    assert answer["type"] == "error"
    assert answer["code"] == "conflict.epoch"
    assert zombie.status() == 10
    assert not has_intent(warehouse)

    assert users(rival, 5)["epoch"] == 2
    assert warehouse.rows("users") == list(range(10))
    assert warehouse.committed() == (2, [state("users", '{"next":10}')])
    live = warehouse.live_files("users")
    assert warehouse.placed_files() == set(live)
    attempts = {UUID.search(path.name)[0] for path in live}  # type: ignore[index]
    for path in warehouse.root.rglob("metadata/*.avro"):
        assert attempts & set(UUID.findall(path.name)), f"{path} is the zombie's"
    assert rival.close() == 0
    assert warehouse.start().open()["recovered"] == []


def test_zombie_cannot_move_the_state_alone(warehouse: Warehouse) -> None:
    zombie = warehouse.opened()
    rival = warehouse.opened()
    answer = zombie.seal([], [state("users", '{"zombie":1}')])
    assert answer["code"] == "conflict.epoch"
    assert zombie.status() == 10
    assert rival.seal([], [state("users", '{"next":1}')])["epoch"] == 1
    assert warehouse.committed() == (1, [state("users", '{"next":1}')])


@contextmanager
def lock_held(warehouse: Warehouse) -> Iterator[None]:
    if warehouse.plugin == "iceberg":
        connection = sqlite3.connect(warehouse.root / "catalog.db", isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            connection.close()
        return
    with Path(warehouse.root / "shop/_dativo/shop/lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_lock_held_by_another_process(warehouse: Warehouse) -> None:
    assert warehouse.opened().close() == 0
    with lock_held(warehouse):
        late = warehouse.start()
        answer = late.open()
    assert answer["code"] == "conflict.locked"
    assert late.status() == 10


def test_lock_released_in_time(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    with lock_held(warehouse):
        committer.sequence = 1
        committer.send(
            type="sealed",
            sequence=1,
            final=False,
            files=[],
            states=[state("users", "{}")],
            counts=[],
        )
    assert committer.receive()["epoch"] == 1
