"""Slots of identities, in a folder of the test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dativo.sandbox import SandboxError, WallMissing, identity


def test_two_leases_never_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(identity, "COUNT", 4)
    leases = [identity.allocate_identity(tmp_path) for _ in range(3)]
    uids = {lease.identity.uid for lease in leases}
    assert uids == {identity.FIRST_UID + slot for slot in (1, 2, 3)}
    with pytest.raises(SandboxError, match="all 3 identities"):
        identity.allocate_identity(tmp_path)
    leases[1].close()
    with identity.allocate_identity(tmp_path) as again:
        assert again.identity == leases[1].identity
    for lease in leases:
        lease.close()
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_the_range_is_never_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(identity, "COUNT", 2)
    for _ in range(5):
        with identity.allocate_identity(tmp_path) as lease:
            assert lease.identity.uid == identity.FIRST_UID + 1


def test_only_root_allocates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SandboxError, match="only root"):
        identity.allocate_identity(tmp_path)


def test_where_none_can_be_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "file").touch()
    with pytest.raises(WallMissing, match="Not a directory") as caught:
        identity.allocate_identity(tmp_path / "file/uids")
    assert caught.value.wall == "identity" and "plain user" in caught.value.remedy
