"""What a process sees of its limits below /sys/fs/cgroup, so that the JVM, Go, Node and the like size themselves.

With a leaf of version 2 that is the leaf itself, read-only, and the files that list or take processes are covered: JVMs, Go and
.NET look for a real cgroup2 file system in statfs(2) and /proc/self/mountinfo, and read no single file without one.

Everywhere else it is a tmpfs of single read-only files. Beneath it, out of reach, lie mounts of the hierarchies, for those who
look for one in /proc/self/mountinfo before they read; what they then read are our files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dativo.sandbox import cgroup
from dativo.sandbox.cgroup import Hierarchy, Leaf
from dativo.sandbox.cgroup_v1 import V1Leaf
from dativo.sandbox.cgroup_v2 import V2Leaf
from dativo.sandbox.program import Limits

FOLDER: Final = "/sys/fs/cgroup"
# Who is in a cgroup is told and changed here (cgroups(7)). /dev/null on a mount without devices cannot be opened.
_COVERED: Final = ("cgroup.procs", "cgroup.threads")
_COVER: Final = "/dev/null"
# Without all four a JVM takes version 1 for absent (os::Linux cgroup subsystem of OpenJDK 8 to 21).
_OF_V1: Final = frozenset({"memory", "cpu", "cpuacct", "cpuset"})
# What the kernel shows where nothing was set: PAGE_COUNTER_MAX pages, and the default weight.
_V1_UNLIMITED: Final = (1 << 63) - 1
_V1_SHARES: Final = 1024


@dataclass(frozen=True, slots=True)
class Visible:
    """``mounts`` are (source, inside), read-only. Unless ``real``, a tmpfs covers them, with ``texts`` (inside, content) and then
    ``live`` (source, inside) files of the kernel.
    """

    real: bool
    mounts: tuple[tuple[str, str], ...]
    texts: tuple[tuple[str, bytes], ...] = ()
    live: tuple[tuple[str, str], ...] = ()


def plan_visible(leaf: Leaf | None, limits: Limits, found: Iterable[Hierarchy]) -> Visible:
    """Return what is shown of ``limits``; ``found`` are the hierarchies of the launcher, where there is no leaf of version 2."""
    if isinstance(leaf, V2Leaf):
        covers = tuple((_COVER, f"{FOLDER}/{name}") for name in _COVERED)
        return Visible(real=True, mounts=((str(leaf.folder), FOLDER), *covers))
    folders = leaf.folders if isinstance(leaf, V1Leaf) else {}
    texts: dict[str, int | str] = _texts_v2(limits)
    live: list[tuple[str, str]] = []
    # A launcher's cgroup can be removed under it.
    standing = [hierarchy for hierarchy in found if hierarchy.own.is_dir()]
    of_v1 = [hierarchy for hierarchy in standing if hierarchy.controllers & _OF_V1]
    mounts = [] if of_v1 else [(str(each.own), FOLDER) for each in standing if not each.controllers]
    for hierarchy in of_v1:
        place = f"{FOLDER}/{','.join(sorted(hierarchy.controllers))}"
        own = next((folders[name] for name in hierarchy.controllers if name in folders), None)
        mounts.append((str(own or hierarchy.own), place))
        texts |= {f"{place}/{name}": value for name, value in _texts_v1(hierarchy, limits)}
        if own is not None and "memory" in hierarchy.controllers:
            name = "memory.usage_in_bytes"
            live.append((str(own / name), f"{place}/{name}"))
    return Visible(
        real=False,
        mounts=tuple(mounts),
        texts=tuple((inside, f"{text}\n".encode()) for inside, text in texts.items()),
        live=tuple(live),
    )


def visible_options(visible: Visible, fds: dict[str, int]) -> list[str]:
    """Return bubblewrap's options; ``fds`` holds the content of each of ``texts``."""
    options: list[str] = []
    for source, inside in visible.mounts:
        options += ["--ro-bind", source, inside]
    if visible.real:
        return options
    options += ["--perms", "0755", "--size", "65536", "--tmpfs", FOLDER]
    for inside, _ in visible.texts:
        options += ["--perms", "0444", "--file", str(fds[inside]), inside]
    for source, inside in visible.live:
        options += ["--ro-bind", source, inside]
    return [*options, "--remount-ro", FOLDER]


def _texts_v2(limits: Limits) -> dict[str, int | str]:
    texts: dict[str, int | str] = {
        "memory.max": _whole_pages(limits),
        "pids.max": limits.pids,
        "cpu.max": f"{cgroup.quota_us(limits.cpus)} {cgroup.PERIOD_US}",
        "cgroup.controllers": "cpu memory pids",
    }
    return {f"{FOLDER}/{name}": text for name, text in texts.items()}


def _texts_v1(hierarchy: Hierarchy, limits: Limits) -> list[tuple[str, int]]:
    texts: list[tuple[str, int]] = []
    if "memory" in hierarchy.controllers:
        page = os.sysconf("SC_PAGE_SIZE")
        texts += [
            ("memory.limit_in_bytes", _whole_pages(limits)),
            ("memory.soft_limit_in_bytes", _V1_UNLIMITED // page * page),
        ]
    if "cpu" in hierarchy.controllers:
        texts += [
            ("cpu.cfs_quota_us", cgroup.quota_us(limits.cpus)),
            ("cpu.cfs_period_us", cgroup.PERIOD_US),
            ("cpu.shares", _V1_SHARES),
        ]
    return texts


def _whole_pages(limits: Limits) -> int:
    page = os.sysconf("SC_PAGE_SIZE")
    return limits.memory_bytes // page * page
