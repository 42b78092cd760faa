"""What is mounted below /sys/fs/cgroup with a leaf of either version and without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dativo.sandbox import Limits
from dativo.sandbox.cgroup import Hierarchy
from dativo.sandbox.cgroup_v1 import V1Leaf
from dativo.sandbox.cgroup_v2 import V2Leaf
from dativo.sandbox.visible import plan_visible, visible_options

LIMITS = Limits(memory_bytes=(64 << 20) + 5, cpus=0.5, pids=9)


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


@pytest.fixture
def of_v1(tmp_path: Path) -> list[Hierarchy]:
    return [
        Hierarchy(tmp_path, folder(tmp_path / "mem"), frozenset({"memory"})),
        Hierarchy(tmp_path, folder(tmp_path / "cpu"), frozenset({"cpuacct", "cpu"})),
        Hierarchy(tmp_path, folder(tmp_path / "cpuset"), frozenset({"cpuset"})),
        Hierarchy(tmp_path, folder(tmp_path / "pids"), frozenset({"pids"})),
        Hierarchy(tmp_path, folder(tmp_path / "unified"), frozenset()),
    ]


def test_a_leaf_of_version_2_is_shown_without_who_is_in_it() -> None:
    found = plan_visible(V2Leaf(Path("/cg/leaf")), LIMITS, [])
    assert visible_options(found, {}) == [
        *("--ro-bind", "/cg/leaf", "/sys/fs/cgroup"),
        *("--ro-bind", "/dev/null", "/sys/fs/cgroup/cgroup.procs"),
        *("--ro-bind", "/dev/null", "/sys/fs/cgroup/cgroup.threads"),
    ]


def test_leaves_of_version_1_are_covered_by_single_files(of_v1: list[Hierarchy]) -> None:
    leaf = V1Leaf({name: Path("/leaf") / name for name in ("memory", "pids", "cpu", "cpuacct")})
    found = plan_visible(leaf, LIMITS, of_v1)
    assert [inside for _, inside in found.mounts] == [
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/cpu,cpuacct",
        "/sys/fs/cgroup/cpuset",
    ]
    assert found.mounts[0][0] == "/leaf/memory"
    assert found.mounts[2][0] == str(of_v1[2].own)
    texts = dict(found.texts)
    assert texts["/sys/fs/cgroup/memory/memory.limit_in_bytes"] == b"67108864\n"
    assert texts["/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us"] == b"50000\n"
    assert texts["/sys/fs/cgroup/memory.max"] == b"67108864\n"
    assert texts["/sys/fs/cgroup/pids.max"] == b"9\n"
    assert texts["/sys/fs/cgroup/cpu.max"] == b"50000 100000\n"
    options = visible_options(found, dict.fromkeys(texts, 7))
    cover = options.index("--tmpfs")
    assert all(options.index(inside) < cover for _, inside in found.mounts)
    live = "/sys/fs/cgroup/memory/memory.usage_in_bytes"
    assert options[-5:] == ["--ro-bind", f"/leaf/memory/{live[-21:]}", live, *options[-2:]]
    assert options[-2:] == ["--remount-ro", "/sys/fs/cgroup"]


def test_without_a_leaf_nothing_of_the_launchers_cgroup_is_seen(of_v1: list[Hierarchy]) -> None:
    found = plan_visible(None, LIMITS, of_v1)
    assert found.live == () and not found.real
    assert found.mounts[0] == (str(of_v1[0].own), "/sys/fs/cgroup/memory")
    alone = plan_visible(None, LIMITS, of_v1[-1:])
    assert alone.mounts == ((str(of_v1[-1].own), "/sys/fs/cgroup"),)
    assert dict(alone.texts)["/sys/fs/cgroup/memory.max"] == b"67108864\n"


def test_a_cgroup_that_was_removed_under_the_launcher(of_v1: list[Hierarchy]) -> None:
    of_v1[0].own.rmdir()
    found = plan_visible(None, LIMITS, of_v1)
    assert "/sys/fs/cgroup/memory" not in dict(found.mounts).values()
