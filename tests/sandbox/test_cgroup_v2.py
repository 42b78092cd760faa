"""Cgroups of version 2 as the kernel and systemd have them. `make test-vm` brings a machine where none of this is skipped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dativo.sandbox import Confined, Grants, Limits, WallMissing, cgroup
from dativo.sandbox.cgroup_v2 import KERNEL_LEAF, ROOT_SUBTREE, V2Base, V2Leaf, is_delegated

Launch = Callable[..., Confined]
WITHIN_S = 60.0
MIB = 1 << 20


def base() -> V2Base | None:
    try:
        found = cgroup.find_base()
    except WallMissing:
        return None
    return found if isinstance(found, V2Base) else None


pytestmark = pytest.mark.skipif(base() is None, reason="no cgroup of version 2 can be written here")


def leaf_of(confined: Confined) -> V2Leaf:
    leaf = confined._handles.leaf
    assert isinstance(leaf, V2Leaf)
    return leaf


def test_the_baseis_delegated_or_our_own_subtree() -> None:
    found = base()
    assert found is not None
    if found.folder.name == ROOT_SUBTREE:
        assert os.geteuid() == 0
        assert found.folder.parent == next(
            each.mount for each in cgroup.hierarchies() if not each.controllers
        )
    else:
        assert is_delegated(found.folder)
        assert (found.folder / KERNEL_LEAF / "cgroup.procs").read_text().split(), "we moved"


def test_limits_are_those_of_the_leaf(start: Launch) -> None:
    limits = Limits(memory_bytes=100 * MIB, pids=50, cpus=0.5)
    confined = start("/usr/bin/sleep", "60", grants=Grants(limits=limits))
    folder = leaf_of(confined).folder
    read = {
        name: (folder / name).read_text().strip()
        for name in ("memory.max", "memory.oom.group", "pids.max", "cpu.max")
    }
    assert read == {
        "memory.max": str(100 * MIB),
        "memory.oom.group": "1",
        "pids.max": "50",
        "cpu.max": "50000 100000",
    }


def test_all_are_killed_at_once(start: Launch) -> None:
    script = (
        "for i in 1 2 3 4 5 6 7 8; do (trap '' TERM; setsid sleep 60 &); done; echo up; sleep 60"
    )
    confined = start("/bin/sh", "-c", script)
    assert os.read(confined.stdout, 10) == b"up\n"
    leaf = leaf_of(confined)
    began_s = time.monotonic()
    leaf.kill()
    end = confined.wait(WITHIN_S)
    assert time.monotonic() - began_s < 5
    assert end.cause in ("signaled", "lost")
    assert not leaf.folder.exists()


def test_a_controller_stays_when_systemd_starts_a_unit_beside(start: Launch) -> None:
    """systemd takes controllers away from cgroups that it believes its own, and their limits with them."""
    user = [] if os.geteuid() == 0 else ["--user"]
    confined = start("/usr/bin/sleep", "60", grants=Grants(limits=Limits(cpus=0.5)))
    folder = leaf_of(confined).folder
    subprocess.run(
        ["systemd-run", *user, "--quiet", "--wait", "/usr/bin/true"], check=True, timeout=WITHIN_S
    )
    subprocess.run(["systemctl", *user, "daemon-reload"], check=True, timeout=WITHIN_S)
    assert (folder / "cpu.max").read_text() == "50000 100000\n"
    assert (folder / "memory.max").read_text() == f"{512 * MIB}\n"


def test_a_second_launcher_shares_the_place() -> None:
    """Where the first has moved into a child of it."""
    code = "from dativo.sandbox import cgroup; print(cgroup.find_base().folder)"
    found = base()
    assert found is not None
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=WITHIN_S
    )
    assert Path(told.stdout.strip()) == found.folder
