"""Every field of an attestation that is not as asked is named. The sender is this very process, seen from outside."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dativo.sandbox import Identity, WallMissing, attestation
from dativo.sandbox.attestation import NAMESPACES, Asked, verify
from dativo.sandbox.network import Standing

PID, UID = 4242, 1879050000
STATUS = {
    "Uid": f"{UID}\t" * 4,
    "Gid": f"{UID}\t" * 4,
    "Groups": "77",
    **dict.fromkeys(attestation.CAPABILITY_SETS, "0" * 16),
    "Seccomp": "2",
    "Seccomp_filters": "2",
    "NoNewPrivs": "1",
}

OWN = {"Seccomp_filters": "1"}  # as in a container


def said() -> dict[str, Any]:
    return {
        "type": "attestation",
        "pid": 1,
        "uids": [UID] * 4,
        "gids": [UID] * 4,
        "capabilities": dict.fromkeys(attestation.CAPABILITY_SETS, "0" * 16),
        "no_new_privileges": 1,
        "seccomp_mode": 2,
        "dumpable": 0,
        "landlock_abi": 7,
        "namespaces": {name: 100 + number for number, name in enumerate(NAMESPACES)},
        "cgroups": ["0::/"],
        "descriptors": [0, 1, 2, 11],
        "limits": {"core": [0, 0], "nofile": [64, 64]},
    }


def status_of(sender: dict[str, str]) -> Callable[[int], dict[str, str]]:
    return lambda pid: OWN if pid == os.getpid() else sender


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A process that stands as asked, except for what a test changes."""
    monkeypatch.setattr(attestation, "_status", status_of(STATUS))
    monkeypatch.setattr(attestation, "_check_namespaces", lambda *found: None)
    (tmp_path / "cgroup.procs").write_text(f"1\n{PID}\n")
    return Asked(
        identity=Identity(UID, UID, (77,)),
        descriptors=frozenset({0, 1, 2, 11}),
        limits={"core": 0, "nofile": 64},
        members=(tmp_path / "cgroup.procs",),
        cgroup="v1",
        network="empty",
    )


def test_filters_are_counted(asked: Asked) -> None:
    """Two where a container engine stands in: its own, and ours."""
    with pytest.raises(WallMissing, match="number of filters"):
        verify(json.dumps(said()).encode(), (PID, UID, UID), replace(asked, filters=2))


def test_a_namespace_may_be_the_launchers_own_where_that_is_asked() -> None:
    own = {name: Path(f"/proc/self/ns/{name}").stat().st_ino for name in attestation.NAMESPACES}
    with pytest.raises(WallMissing, match="the ipc namespace is the launcher's own"):
        attestation._check_namespaces(os.getpid(), own, "empty", frozenset({"cgroup"}))


def test_as_asked(asked: Asked) -> None:
    found = verify(json.dumps(said()).encode(), (PID, UID, UID), asked)
    assert (found.pid, found.uid, found.landlock_abi, found.cgroup) == (PID, UID, 7, "v1")
    assert found.descriptors == (0, 1, 2, 11)


@pytest.mark.parametrize(
    ("changes", "wall"),
    [
        ({"uids": [UID, 0, UID, UID]}, "identity"),
        ({"gids": [0] * 4}, "identity"),
        ({"dumpable": 1}, "identity"),
        ({"capabilities": {**dict.fromkeys(attestation.CAPABILITY_SETS, "0"), "CapBnd": "1"}}, "capabilities"),
        ({"seccomp_mode": 0}, "seccomp"),
        ({"no_new_privileges": 0}, "seccomp"),
        ({"pid": 2}, "namespaces"),
        ({"descriptors": [0, 1, 2, 11, 12]}, "descriptors"),
        ({"descriptors": [0, 1, 2]}, "descriptors"),
        ({"limits": {"core": [0, 0], "nofile": [64, 1024]}}, "limits"),
        ({"limits": {"core": [0, 0]}}, "attestation"),
        ({"namespaces": {}}, "attestation"),
        ({"uids": None}, "attestation"),
    ],
)  # fmt: skip
def test_a_wall_that_does_not_stand_is_named(
    asked: Asked, changes: dict[str, Any], wall: str
) -> None:
    with pytest.raises(WallMissing) as caught:
        verify(json.dumps({**said(), **changes}).encode(), (PID, UID, UID), asked)
    assert caught.value.wall == wall


@pytest.mark.parametrize(
    ("field", "value", "wall"),
    [
        ("Uid", f"{UID}\t0\t{UID}\t{UID}", "identity"),
        ("Gid", "0\t0\t0\t0", "identity"),
        ("Groups", "77 0", "identity"),
        ("CapEff", "0000000000000001", "capabilities"),
        ("Seccomp", "0", "seccomp"),
        ("Seccomp_filters", "1", "seccomp"),
        ("NoNewPrivs", "0", "seccomp"),
    ],
)
def test_what_is_seen_from_outside_counts(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, field: str, value: str, wall: str
) -> None:
    monkeypatch.setattr(attestation, "_status", status_of({**STATUS, field: value}))
    with pytest.raises(WallMissing) as caught:
        verify(json.dumps(said()).encode(), (PID, UID, UID), asked)
    assert caught.value.wall == wall


@pytest.mark.parametrize("credentials", [(PID, 0, UID), (PID, UID, 0), (PID + 1, UID, UID)])
def test_the_kernels_word_on_the_sender_counts(
    asked: Asked, credentials: tuple[int, int, int]
) -> None:
    with pytest.raises(WallMissing):
        verify(json.dumps(said()).encode(), credentials, asked)


@pytest.mark.parametrize("message", [b"", b"{", b"[]", b"null", b"\xff", b'{"uids": 1}'])
def test_nonsense_is_refused(asked: Asked, message: bytes) -> None:
    with pytest.raises(WallMissing):
        verify(message, (PID, UID, UID), asked)


def test_our_own_namespaces_are_no_walls() -> None:
    own = {name: Path(f"/proc/self/ns/{name}").stat().st_ino for name in NAMESPACES}
    with pytest.raises(WallMissing, match="cgroup namespace is the launcher's own"):
        attestation._check_namespaces(os.getpid(), own, "empty")
    with pytest.raises(WallMissing, match="seen from outside"):
        attestation._check_namespaces(os.getpid(), {**own, "cgroup": 1}, "empty")


@pytest.mark.parametrize("network", ["empty", "named", "host"])
def test_the_network_is_the_one_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, network: Standing
) -> None:
    monkeypatch.setattr(attestation, "NAMESPACES", ("net",))
    own = {"net": Path("/proc/self/ns/net").stat().st_ino}
    if network == "host":
        attestation._check_namespaces(os.getpid(), own, network)
        return
    with pytest.raises(WallMissing, match="net namespace is the launcher's own"):
        attestation._check_namespaces(os.getpid(), own, network)


@pytest.mark.parametrize(
    ("devices", "stands"),
    [
        (("lo",), True),
        (("lo", "tunl0", "sit0"), True),  # of the kernel's own making
        (("lo", "eth0"), False),
        ((), False),
    ],
)
def test_a_namespace_has_nothing_but_its_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], stands: bool
) -> None:
    lines = [f"{name:>6}: 0 0 0" for name in devices]
    (tmp_path / "dev").write_text("\n".join(["Inter-|", " face |", *lines]))
    monkeypatch.setattr(attestation, "NAMESPACES", ())
    monkeypatch.setattr(attestation, "_devices_file", lambda pid: tmp_path / "dev")
    if stands:
        attestation._check_namespaces(PID, {}, "empty")
        return
    with pytest.raises(WallMissing) as caught:
        attestation._check_namespaces(PID, {}, "named")
    assert caught.value.wall == "network"
