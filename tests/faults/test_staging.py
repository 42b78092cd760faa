"""Whatever a hostile writer leaves in staging: refused by name, nothing committed, nothing outside touched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.faults.committers import Committer, Warehouse, state

Trick = Callable[[Committer, dict[str, Any]], None]


def path_of(committer: Committer, file: dict[str, Any]) -> Path:
    return committer.staging / str(file["path"])


def missing(committer: Committer, file: dict[str, Any]) -> None:
    path_of(committer, file).unlink()


def symlink(committer: Committer, file: dict[str, Any]) -> None:
    path = path_of(committer, file)
    target = committer.warehouse.root / "target.parquet"
    path.rename(target)
    path.symlink_to(target)


def hard_link(committer: Committer, file: dict[str, Any]) -> None:
    os.link(path_of(committer, file), committer.staging / "other.parquet")


def fifo(committer: Committer, file: dict[str, Any]) -> None:
    path_of(committer, file).unlink()
    os.mkfifo(path_of(committer, file))


def folder(committer: Committer, file: dict[str, Any]) -> None:
    path_of(committer, file).unlink()
    path_of(committer, file).mkdir()


def wrong_hash(committer: Committer, file: dict[str, Any]) -> None:
    file["sha256"] = "0" * 64


def changed_byte(committer: Committer, file: dict[str, Any]) -> None:
    data = bytearray(path_of(committer, file).read_bytes())
    data[len(data) // 2] ^= 1
    path_of(committer, file).write_bytes(data)


def longer(committer: Committer, file: dict[str, Any]) -> None:
    with path_of(committer, file).open("ab") as appended:
        appended.write(b"PAR1")


def not_parquet(committer: Committer, file: dict[str, Any]) -> None:
    path = path_of(committer, file)
    path.write_bytes(b"RAP1" * 100)
    file.update(committer.manifest(path, "users", 1))


def too_short(committer: Committer, file: dict[str, Any]) -> None:
    path = path_of(committer, file)
    path.write_bytes(b"PAR1PAR1")
    file.update(committer.manifest(path, "users", 1))


def parent_path(committer: Committer, file: dict[str, Any]) -> None:
    file["path"] = f"../{committer.run}/{file['path']}"


def absolute_path(committer: Committer, file: dict[str, Any]) -> None:
    file["path"] = str(path_of(committer, file))


def subfolder(committer: Committer, file: dict[str, Any]) -> None:
    file["path"] = f"a/{file['path']}"


TRICKS: list[Trick] = [
    missing,
    symlink,
    hard_link,
    fifo,
    folder,
    wrong_hash,
    changed_byte,
    longer,
    not_parquet,
    too_short,
    parent_path,
    absolute_path,
    subfolder,
]


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
def test_hostile_file_is_refused(tmp_path: Path, trick: Trick) -> None:
    root = tmp_path / "lake"
    root.mkdir()
    # The taking of files is shared by both targets; the Parquet one starts faster.
    warehouse = Warehouse(root, "parquet")
    committer = warehouse.opened()
    committer.plan("users")
    good = committer.stage("users", [{"id": 1, "name": "good"}])
    bad = committer.stage("users", [{"id": 2, "name": "bad"}])
    trick(committer, bad)
    answer = committer.seal([good, bad], [state("users", "{}")])
    assert answer["type"] == "error"
    assert answer["code"] == "protocol.staged_file"
    assert answer["blame"] == "dativo"
    assert committer.status() == 7
    assert warehouse.committed() == (0, [])

    later = warehouse.opened()
    later.plan("users")
    assert warehouse.rows("users") == []
    shown = {path for path in (root / "shop").rglob("*.parquet")}
    assert shown == set()
    warehouse.end()


def test_same_file_twice(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    file = committer.stage("users", [{"id": 1, "name": "x"}])
    answer = committer.seal([file, file], [])
    assert answer["code"] == "protocol.staged_file"


def test_file_without_a_plan(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    file = committer.stage("users", [{"id": 1, "name": "x"}])
    answer = committer.seal([{**file, "revision": 2}], [])
    assert answer["code"] == "protocol.unplanned"
    assert committer.status() == 7


def test_descriptor_kept_by_the_writer_changes_nothing(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    file = committer.stage("users", [{"id": 1, "name": "x"}])
    with path_of(committer, file).open("r+b") as kept:
        assert committer.seal([file], [])["epoch"] == 1
        kept.write(b"XXXXXXXX")
    assert warehouse.rows("users") == [1]


def test_sealed_out_of_order(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.sequence = 1
    assert committer.seal([], [])["code"] == "protocol.sequence"


def test_staged_files_are_deleted(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    file = committer.stage("users", [{"id": 1, "name": "x"}])
    assert committer.seal([file], [])["type"] == "committed"
    assert committer.close() == 0
    assert list(committer.staging.iterdir()) == []


def test_staging_is_a_symlink(warehouse: Warehouse, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = warehouse.root / "link"
    link.symlink_to(elsewhere)
    committer = warehouse.start(staging=str(link))
    answer = committer.open()
    assert answer["code"] == "target.io"
    assert answer["value"] == str(link)
    assert committer.status() == 5
