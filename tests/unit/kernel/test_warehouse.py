"""Folders of a run: who owns them, and that no link leads out of the warehouse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dativo.kernel import warehouse
from dativo.protocol.errors import ConfigError, TargetFailed
from dativo.sandbox import Identity

AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="owners differ only as root")


def identities(lake: Path) -> tuple[Identity | None, Identity | None]:
    owner, _ = warehouse.prepare(lake)
    return owner, Identity(1879050001, 1879050001) if AS_ROOT else None


def test_staging_belongs_to_the_writer_and_its_group_to_the_committer(tmp_path: Path) -> None:
    lake = tmp_path / "deep" / "lake"
    owner, writer = identities(lake)
    staging = warehouse.make_staging(lake, "run-1", writer=writer, committer=owner)
    info = staging.path.stat()
    assert info.st_mode & 0o7777 == 0o2770
    if writer is not None and owner is not None:
        assert (info.st_uid, info.st_gid) == (writer.uid, owner.gid)
        assert lake.stat().st_uid == owner.uid != 0
    staging.remove()
    assert not staging.path.exists()


def test_leftovers_are_cleared_and_a_run_under_way_is_not(tmp_path: Path) -> None:
    owner, writer = identities(tmp_path / "lake")
    going = warehouse.make_staging(tmp_path / "lake", "going", writer=writer, committer=owner)
    dead = going.path.with_name("dead")
    dead.mkdir()
    (dead / "000001-0000.parquet").touch()
    other = warehouse.make_staging(tmp_path / "lake", "other", writer=writer, committer=owner)
    assert going.path.exists() and other.path.exists() and not dead.exists()
    other.remove()
    going.remove()


def test_a_link_planted_in_the_warehouse_is_not_followed(tmp_path: Path) -> None:
    owner, writer = identities(tmp_path / "lake")
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "lake" / "_dativo").symlink_to(victim)
    with pytest.raises(TargetFailed):
        warehouse.make_staging(tmp_path / "lake", "run-1", writer=writer, committer=owner)
    assert not list(victim.iterdir())


@needs_root
def test_a_warehouse_of_root_is_refused_with_the_line_to_type(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    with pytest.raises(ConfigError) as caught:
        warehouse.prepare(tmp_path / "lake")
    assert caught.value.hint is not None and "chown" in caught.value.hint


def test_a_file_is_no_warehouse(tmp_path: Path) -> None:
    (tmp_path / "lake").touch()
    with pytest.raises(ConfigError):
        warehouse.prepare(tmp_path / "lake")
