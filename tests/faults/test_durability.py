"""Power loss: nothing is pointed at before it, its folder and everything it names are synced. In process, to see each fsync."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.faults.committers import Warehouse, state

from dativo.plugins.commit import durable
from dativo.plugins.commit.committer import Committer
from dativo.plugins.commit.faults import CommitFault
from dativo.plugins.commit.messages import Inspected, Open, Sealed, StreamSchema
from dativo.plugins.commit.target import Target
from dativo.plugins.iceberg import catalog, tables
from dativo.plugins.iceberg.target import IcebergTarget
from dativo.plugins.parquet.log import Log
from dativo.plugins.parquet.target import ParquetTarget

STREAM = {"namespace": None, "name": "users"}


def make(target: Target, root: Path, mode: str = "append") -> Committer:
    staging = root / "_dativo" / "staging" / "run"
    staging.mkdir(parents=True)
    request = Open("0", "run", "shop", "", "default/shop", root, "shop", staging, mode)
    committer = Committer(target, request)
    committer.recover()
    target.load()
    column = {"property": "id", "type": "long"}
    committer.plan(StreamSchema.from_event({"stream": STREAM, "revision": 1, "columns": [column]}))
    return committer


def sealed(committer: Committer, root: Path, sequence: int, *, complete: bool = False) -> Sealed:
    """Stage one file, inspected, and return the epoch of it."""
    path = root / "_dativo" / "staging" / "run" / f"{sequence}.parquet"
    schema = pa.schema([pa.field("id", pa.int64(), True, {"PARQUET:field_id": "1"})])
    pq.write_table(pa.table([pa.array([sequence])], schema=schema), path)
    data = path.read_bytes()
    file = {
        "stream": STREAM,
        "revision": 1,
        "path": path.name,
        "rows": 1,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    committer.take_inspected(Inspected.from_event({**file, "columns": []}))
    states = [state("users", str(sequence))]
    event = {"sequence": sequence, "final": complete, "complete": complete}
    return Sealed.from_event({**event, "files": [file], "states": states})


class Syncs:
    """Remembers which inodes were synced, and when each folder was last."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._seen: dict[tuple[int, int], int] = {}
        self._clock = 0
        fsync = os.fsync

        def remembering(descriptor: int) -> None:
            fsync(descriptor)
            status = os.fstat(descriptor)
            self._clock += 1
            self._seen[status.st_dev, status.st_ino] = self._clock

        monkeypatch.setattr(os, "fsync", remembering)

    def at(self, path: Path) -> int:
        status = path.stat()
        return self._seen.get((status.st_dev, status.st_ino), 0)

    def assert_durable(self, folder: Path, top: Path) -> None:
        """Every file below ``folder`` was synced and every folder after its newest entry, up to ``top``."""
        for path in folder.rglob("*"):
            if path.is_file():
                assert self.at(path), f"{path} was never synced"
                assert self.at(path.parent) > self.at(path), f"{path.parent} not synced after it"
        while folder != top:
            folder = folder.parent
            assert self.at(folder), f"{folder} was never synced"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "lake"
    root.mkdir()
    return root


def before(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, check: Callable[[], None]
) -> list[int]:
    """Have ``check`` run before each call of ``owner.name``; return a list that grows by one with each."""
    calls: list[int] = []
    original = getattr(owner, name)

    def checked(*args: Any, **kwargs: Any) -> Any:
        check()
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, checked)
    return calls


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_iceberg_points_at_nothing_unsynced(
    root: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    syncs = Syncs(monkeypatch)

    def check() -> None:
        syncs.assert_durable(root / "shop" / "users", root)

    registered = before(monkeypatch, catalog.Catalog, "register", check)
    committed = before(monkeypatch, catalog.Catalog, "commit", check)
    committer = make(IcebergTarget(), root, mode)
    for sequence in (1, 2, 3):
        epoch = sealed(committer, root, sequence, complete=sequence == 3)
        assert committer.commit(epoch)[0] == sequence
    assert (len(registered), len(committed)) == (1, 3)
    committer.close()


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_parquet_log_names_nothing_unsynced(
    root: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    syncs = Syncs(monkeypatch)

    def check() -> None:
        syncs.assert_durable(root / "shop" / "users", root)

    linked = before(monkeypatch, durable, "create_whole", check)
    committer = make(ParquetTarget(), root, mode)
    for sequence in (1, 2, 3):
        epoch = sealed(committer, root, sequence, complete=sequence == 3)
        assert committer.commit(epoch)[0] == sequence
        log = root / "shop" / "_dativo" / "shop" / "log"
        assert syncs.at(log / f"{sequence:020d}.json")
        assert syncs.at(log) > syncs.at(log / f"{sequence:020d}.json")
    assert len(linked) == 3
    committer.close()


def test_sqlite_syncs_the_removal_of_its_journal_too(root: Path) -> None:
    target = IcebergTarget()
    committer = make(target, root)
    connection = target._catalog._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (3,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    committer.close()


def test_foreign_commits_at_every_try(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committer = make(IcebergTarget(), root)
    assert committer.commit(sealed(committer, root, 1))[0] == 1
    stage = tables.Tables.stage
    tries = 0

    def overtaken(self: tables.Tables, *arguments: Any) -> list[tables.Staged]:
        nonlocal tries
        tries += 1
        staged = stage(self, *arguments)
        copy = root / "shop/users/metadata" / f"foreign-{tries}.metadata.json"
        copy.write_bytes(staged[0].current.path.read_bytes())
        swap = catalog.Swap("users", staged[0].current.pointer, str(copy))
        self._catalog.alter(swap)
        return staged

    monkeypatch.setattr(tables.Tables, "stage", overtaken)
    with pytest.raises(CommitFault) as raised:
        committer.commit(sealed(committer, root, 2))
    assert raised.value.code == "conflict.table"
    assert tries == 10
    committer.close()
    monkeypatch.undo()

    warehouse = Warehouse(root, "iceberg")
    later = warehouse.start()
    opened = later.open()
    assert (opened["epoch"], opened["states"]) == (1, [state("users", "1")])
    assert opened["recovered"] == [{"epoch": 2, "action": "dropped", "files": 1}]
    assert warehouse.rows("users") == [1]
    assert warehouse.placed_files() == set(warehouse.live_files("users"))
    warehouse.end()


@pytest.mark.parametrize("plugin", ["iceberg", "parquet"])
def test_failure_after_the_commit_deletes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, plugin: str
) -> None:
    """The commit lands, then another run takes over, then we fail: our files belong to a committed epoch."""
    warehouse = Warehouse(root, plugin)

    def overtaken(*_: object) -> None:
        rival = warehouse.start()
        assert rival.open()["epoch"] == 1
        raise CommitFault("the disk broke", code="target.io")

    target = IcebergTarget() if plugin == "iceberg" else ParquetTarget()
    owner, name = (tables.Tables, "settle") if plugin == "iceberg" else (Log, "settle")
    monkeypatch.setattr(owner, name, overtaken)
    committer = make(target, root)
    with pytest.raises(CommitFault) as raised:
        committer.commit(sealed(committer, root, 1))
    assert raised.value.code == "target.io"
    assert warehouse.rows("users") == [1]
    assert warehouse.committed()[0] == 1
    committer.close()
    warehouse.end()


@pytest.mark.parametrize("plugin", ["iceberg", "parquet"])
def test_disk_that_takes_no_more(root: Path, plugin: str) -> None:
    warehouse = Warehouse(root, plugin)
    limited = warehouse.opened(max_file_bytes=100_000)
    limited.plan("users")
    rows = [
        {"id": number, "name": hashlib.sha256(b"%d" % number).hexdigest()} for number in range(5000)
    ]
    file = limited.stage("users", rows)
    assert file["bytes"] > 100_000
    answer = limited.seal([file], [state("users", "1")])
    assert answer["code"] == "target.io"
    assert "_dativo" in answer["value"]
    assert limited.status() == 5
    assert warehouse.placed_files() == set()

    later = warehouse.opened()
    later.plan("users")
    file = later.stage("users", rows)
    assert later.seal([file], [state("users", "1")])["epoch"] == 1
    assert len(warehouse.rows("users")) == 5000
    warehouse.end()
