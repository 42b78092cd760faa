"""The exchange folder: who agrees to it, what it may hold, and what dead runs leave."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dativo.kernel import exchange, limits
from dativo.kernel.exchange import ExchangeFolder, agreed, exchange_folder
from dativo.kernel.grants import Grants
from dativo.kernel.job import Job, load_job
from dativo.protocol.errors import ConfigError, LimitExceeded, ProtocolViolation
from dativo.sandbox import Identity

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ExchangeFolder]:
    with exchange_folder(tmp_path, "run", MIB, source=None, target=None) as made:
        yield made


def job(tmp_path: Path, target: str) -> Job:
    file = tmp_path / "job.yaml"
    file.write_text(f"pipeline: p\nsource: {{connector: 'singer:tap-x'}}\ntarget: {target}\n")
    return load_job(file, {})


FOREIGN = "{connector: 'singer:target-x'}"
OWN = "{connector: parquet, config: {warehouse: ./lake, namespace: x}}"


def with_bytes(size: int) -> Grants:
    return replace(Grants.default(), exchange_bytes=size)


@pytest.mark.parametrize(("source", "target", "size"), [(0, 0, 0), (5, 7, 5), (7, 5, 5)])
def test_the_smaller_grant_holds(tmp_path: Path, source: int, target: int, size: int) -> None:
    found = job(tmp_path, FOREIGN)
    assert agreed(found, with_bytes(source), with_bytes(target), ("singer", "singer")) == size


@pytest.mark.parametrize(
    ("source", "target", "pointer"), [(5, 0, "/target/grants"), (0, 5, "/source/grants")]
)
def test_one_alone_is_an_error_that_says_what_to_write(
    tmp_path: Path, source: int, target: int, pointer: str
) -> None:
    found = job(tmp_path, FOREIGN)
    with pytest.raises(ConfigError, match="by neither") as error:
        agreed(found, with_bytes(source), with_bytes(target), ("singer", "singer"))
    assert error.value.where.pointer == pointer


def test_other_dialects_exchange_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one dialect"):
        agreed(job(tmp_path, FOREIGN), with_bytes(5), with_bytes(5), ("singer", "airbyte"))


def test_own_targets_read_rows_of_a_tap_and_no_files_of_an_airbyte_source(tmp_path: Path) -> None:
    found = job(tmp_path, OWN)
    assert agreed(found, with_bytes(5), None, ("singer", "singer")) == 5
    with pytest.raises(ConfigError, match="no files of an Airbyte source"):
        agreed(found, with_bytes(5), None, ("airbyte", "airbyte"))
    for dialect in ("singer", "airbyte"):
        assert agreed(found, with_bytes(0), None, (dialect, dialect)) == 0


def test_files_that_are_read_go_and_nothing_else(folder: ExchangeFolder) -> None:
    (folder.path / "a").mkdir()
    for name in ("x", "a/y", "a/z"):
        (folder.path / name).write_bytes(b"1")
    folder.remove(["x", "a/y", "gone", "gone/too"])
    assert sorted(path.name for path in folder.path.rglob("*")) == ["a", "z"]


@pytest.mark.parametrize(
    "path", ["", "/etc/x", "../x", "a/../../x", "a//z", "a/", "x\0", "a", "out/x", "n" * 300]
)
def test_a_reader_cannot_have_other_things_removed(
    folder: ExchangeFolder, tmp_path: Path, path: str
) -> None:
    (tmp_path / "x").write_bytes(b"1")
    (folder.path / "a").mkdir()
    (folder.path / "out").symlink_to(tmp_path)
    with pytest.raises(ProtocolViolation):
        folder.remove([path])
    assert (tmp_path / "x").exists() and (folder.path / "a").exists()


def test_connectors_of_airbyte_are_told_where_it_is() -> None:
    found = dict(exchange.variables("airbyte", MIB))
    assert found["AIRBYTE_STAGING_DIRECTORY"] == "/exchange"
    assert found["CONNECTOR_STORAGE_LIMIT_BYTES"] == str(MIB)
    assert exchange.variables("singer", MIB) == ()


def test_what_it_holds_is_measured_at_every_depth(folder: ExchangeFolder) -> None:
    below = folder.path / "a" / "b"
    below.mkdir(parents=True)
    (below / "file").write_bytes(b"x" * (MIB // 2))
    folder.measure()
    assert MIB // 2 <= folder.most < MIB
    assert folder.path.parent.stat().st_mode & 0o777 == 0o700
    (folder.path / "other").write_bytes(b"x" * (MIB // 2))
    with pytest.raises(LimitExceeded, match="holds more than 1MiB") as error:
        folder.measure()
    assert error.value.hint is not None and "grants.exchange" in error.value.hint


def test_a_second_name_of_a_file_costs_nothing(folder: ExchangeFolder) -> None:
    (folder.path / "file").write_bytes(b"x" * (MIB * 3 // 4))
    for number in range(5):
        os.link(folder.path / "file", folder.path / f"again-{number}")
    folder.measure()


def test_a_sparse_file_costs_what_it_takes(folder: ExchangeFolder) -> None:
    with (folder.path / "sparse").open("wb") as file:
        file.truncate(100 * MIB)
    folder.measure()
    assert folder.most < MIB


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_neither_file_nor_folder_ends_the_run(folder: ExchangeFolder, kind: str) -> None:
    path = folder.path / "x"
    path.symlink_to("/etc/passwd") if kind == "link" else os.mkfifo(path)
    with pytest.raises(ProtocolViolation, match="neither file nor folder"):
        folder.measure()


def test_files_and_levels_are_bounded(
    folder: ExchangeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EXCHANGE_FILES", 10)
    for number in range(11):
        (folder.path / str(number)).touch()
    with pytest.raises(LimitExceeded, match="more than 10 files"):
        folder.measure()
    monkeypatch.undo()
    (folder.path / "/".join("d" * 40)).mkdir(parents=True)
    with pytest.raises(LimitExceeded, match="32 levels"):
        folder.measure()


def test_it_is_measured_now_and_then(folder: ExchangeFolder) -> None:
    folder.watch()
    (folder.path / "x").write_bytes(b"x" * 2 * MIB)
    folder.watch()  # not due yet
    folder._due_at = 0
    with pytest.raises(LimitExceeded):
        folder.watch()


def test_it_goes_with_its_run_and_takes_the_rubble_of_dead_ones(tmp_path: Path) -> None:
    rubble = tmp_path / "exchange" / "dead"
    (rubble / "a").mkdir(parents=True)
    (rubble / "a" / "file").write_text("x")
    with exchange_folder(tmp_path, "one", MIB, source=None, target=None) as one:
        assert not rubble.exists()
        (one.path / "file").write_text("x")
        with exchange_folder(tmp_path, "two", MIB, source=None, target=None) as two:
            assert (one.path / "file").exists() and two.path.is_dir()
        assert not two.path.exists() and one.path.exists()
    assert list((tmp_path / "exchange").iterdir()) == []


def test_the_target_reads_by_its_group(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives processes other uids")
    source, target = Identity(1879050001, 1879050001), Identity(1879050002, 1879050002)
    with exchange_folder(tmp_path, "run", MIB, source=source, target=target) as made:
        found = made.path.stat()
        assert (found.st_uid, found.st_gid) == (source.uid, target.gid)
        assert found.st_mode & 0o7777 == 0o2750
    before = os.umask(0o077)
    try:
        with (
            pytest.raises(ConfigError, match="umask 0077"),
            exchange_folder(tmp_path, "run", MIB, source=source, target=target),
        ):
            pass
    finally:
        os.umask(before)
