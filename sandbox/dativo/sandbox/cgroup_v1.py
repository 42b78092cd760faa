"""Version 1: a folder per controller below our own one in each hierarchy."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from dativo.sandbox import cgroup
from dativo.sandbox.cgroup import REMEDY, Counted, Hierarchy
from dativo.sandbox.errors import WallMissing
from dativo.sandbox.program import Limits

NEEDED: Final = ("memory", "pids", "cpu")
# Counts only; the walls stand without them.
_WISHED: Final = ("cpuacct", "blkio")
_NS: Final = 1_000_000_000


def find(found: list[Hierarchy]) -> V1Base:
    """Return the base when memory, pids and cpu are writable at our own place; raise WallMissing."""
    folders: dict[str, Path] = {}
    for hierarchy in found:
        for controller in hierarchy.controllers & {*NEEDED, *_WISHED}:
            if os.access(hierarchy.own, os.W_OK | os.X_OK):
                folders[controller] = hierarchy.own
    if missing := [name for name in NEEDED if name not in folders]:
        raise WallMissing("cgroup", f"version 1: {', '.join(missing)} not writable", REMEDY)
    return V1Base(folders)


@dataclass(frozen=True, slots=True)
class V1Base:
    """Our own folder of each controller."""

    folders: dict[str, Path]

    def leaf(self, name: str, limits: Limits) -> V1Leaf:
        """Make the leaf of every hierarchy and set its limits, read back."""
        made: dict[Path, Path] = {}
        try:
            for folder in dict.fromkeys(self.folders.values()):
                made[folder] = cgroup.make(folder, name)
            leaf = V1Leaf({key: made[folder] for key, folder in self.folders.items()})
            leaf.limit(limits)
        except OSError as error:
            for path in made.values():
                cgroup.remove(path)
            raise WallMissing("cgroup", f"version 1: {error}", REMEDY) from error
        except WallMissing:
            for path in made.values():
                cgroup.remove(path)
            raise
        return leaf


@dataclass(frozen=True, slots=True)
class V1Leaf:
    """One folder per controller; co-mounted controllers share one."""

    folders: dict[str, Path]

    @property
    def kind(self) -> Literal["v1"]:
        """See :class:`cgroup.Leaf`."""
        return "v1"

    @property
    def joins(self) -> tuple[Path, ...]:
        """See :class:`cgroup.Leaf`.

        ``tasks`` and not cgroup.procs: a thread that moves itself alone spares the kernel a lock over all processes, and
        with it a wait of 5 to 20 ms (cgroup_procs_write_start() in Linux 5.17 and later). Stage 1 has one thread.
        """
        return tuple(folder / "tasks" for folder in dict.fromkeys(self.folders.values()))

    @property
    def members(self) -> tuple[Path, ...]:
        """See :class:`cgroup.Leaf`."""
        return tuple(folder / "cgroup.procs" for folder in dict.fromkeys(self.folders.values()))

    def limit(self, limits: Limits) -> None:
        """Set and read back; raise OSError or WallMissing."""
        page = os.sysconf("SC_PAGE_SIZE")
        memory = limits.memory_bytes // page * page
        self._set("memory", "memory.limit_in_bytes", memory)
        if (self.folders["memory"] / "memory.memsw.limit_in_bytes").exists():
            self._set("memory", "memory.memsw.limit_in_bytes", memory)
        self._set("pids", "pids.max", limits.pids)
        self._set("cpu", "cpu.cfs_period_us", cgroup.PERIOD_US)
        try:
            self._set("cpu", "cpu.cfs_quota_us", cgroup.quota_us(limits.cpus))
        except OSError as error:
            # EINVAL: a cgroup above us allows less than this, and that holds for the leaf too.
            if error.errno != errno.EINVAL:
                raise

    def _set(self, controller: str, name: str, value: int) -> None:
        path = self.folders[controller] / name
        cgroup.write(path, str(value))
        if (found := cgroup.read_int(path)) != value:
            raise WallMissing("cgroup", f"{path} reads {found} after {value} was written", REMEDY)

    def counted(self) -> Counted:
        """See :class:`cgroup.Leaf`."""
        memory, pids, cpu = (self.folders[name] for name in NEEDED)
        cpu_ns = None
        if "cpuacct" in self.folders:
            cpu_ns = cgroup.read_int(self.folders["cpuacct"] / "cpuacct.usage")
        return Counted(
            cgroup.read_int(memory / "memory.max_usage_in_bytes"),
            None if cpu_ns is None else cpu_ns / _NS,
            cgroup.read_int(pids / "pids.peak"),
            cgroup.read_field(memory / "memory.oom_control", "oom_kill") or 0,
            cgroup.read_field(pids / "pids.events", "max") or 0,
            cgroup.read_field(cpu / "cpu.stat", "nr_throttled") or 0,
            (cgroup.read_field(cpu / "cpu.stat", "throttled_time") or 0) / _NS,
            *self._moved(),
        )

    def _moved(self) -> tuple[int | None, int | None]:
        """Read lines of device, direction and bytes (blkio-controller.rst), the last of which is their total."""
        folder = self.folders.get("blkio")
        text = cgroup.read_text(folder / "blkio.throttle.io_service_bytes") if folder else None
        if text is None:
            return None, None
        lines = [line.split() for line in text.splitlines()]
        read, written = (
            sum(int(words[2]) for words in lines if words[1] == direction)
            for direction in ("Read", "Write")
        )
        return read, written

    def kill(self) -> None:
        """Version 1 has no such step: the pid namespace does it."""

    def remove(self) -> None:
        """See :class:`cgroup.Leaf`."""
        for folder in dict.fromkeys(self.folders.values()):
            cgroup.remove(folder)
