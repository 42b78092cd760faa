"""Cgroups: one leaf per confined process, below our own place in the tree, gone with the process.

Version 2 where this process may make leaves with the memory, pids and cpu controllers (delegated, or as root), else
version 1 where those three are writable below our own cgroups, else nothing, and the caller decides (cgroups(7)).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, Protocol

from dativo.sandbox.errors import WallMissing
from dativo.sandbox.program import Limits

REMEDY: Final = (
    "Run as root, or in a delegated scope: systemd-run --user --scope -p Delegate=yes COMMAND. "
    "Or permit the weaker mode by name: walls: {cgroup: degraded}."
)
PERIOD_US: Final = 100_000
_MIN_QUOTA_US: Final = 1_000
_REMOVE_WITHIN_S: Final = 2.0
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")
_LEAF: Final = re.compile(r"dativo\.(\d+)\.(\d+)\.")
Kind = Literal["v1", "v2", "degraded"]
_counter = iter(range(1 << 62))
_swept: set[Path] = set()


@dataclass(frozen=True, slots=True)
class Counted:
    """What a leaf has counted so far; None where this kernel does not tell, or the controller is not ours to have.

    ``throttled_periods`` of :data:`PERIOD_US` had their share of CPU used up, which held the tasks back for ``throttled_s``
    altogether. ``read_bytes`` and ``written_bytes`` are of block devices: what the page cache answered is in neither, and with
    version 1 what it took is not in the second.
    """

    peak_memory_bytes: int | None = None
    cpu_s: float | None = None
    pids_peak: int | None = None
    memory_kills: int = 0
    forks_refused: int = 0
    throttled_periods: int = 0
    throttled_s: float = 0.0
    read_bytes: int | None = None
    written_bytes: int | None = None


class Leaf(Protocol):
    """One cgroup, or one per controller, of one confined process."""

    @property
    def kind(self) -> Literal["v1", "v2"]:
        """The version of cgroups."""
        ...

    @property
    def joins(self) -> tuple[Path, ...]:
        """The files that stage 1 writes "0" to."""
        ...

    @property
    def members(self) -> tuple[Path, ...]:
        """The cgroup.procs files that must then list stage 2."""
        ...

    def counted(self) -> Counted:
        """Read the counters."""
        ...

    def kill(self) -> None:
        """Kill everything in it, where the kernel offers that in one step."""
        ...

    def remove(self) -> None:
        """Remove it once all in it are dead. Waits at most two seconds for the kernel to let go."""
        ...


class Base(Protocol):
    """A place where leaves can be made."""

    def leaf(self, name: str, limits: Limits) -> Leaf:
        """Make a leaf and set its limits, read back; raise WallMissing."""
        ...


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy and our own place in it. ``controllers`` is empty for version 2, which lists its own."""

    mount: Path
    own: Path
    controllers: frozenset[str]


def leaf_name(run: str, name: str) -> str:
    """Return a name that tells whose it is, so that leaves of a launcher that died can be found."""
    words = (_UNSAFE.sub("-", word)[:64] for word in (run, name))
    pid = os.getpid()
    return f"dativo.{pid}.{start_time(pid)}.{next(_counter)}.{'.'.join(words)}"


def start_time(pid: int) -> int | None:
    """Return when a process started, in ticks since boot, or None when there is none (proc_pid_stat(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def hierarchies(proc: Path = Path("/proc/self")) -> list[Hierarchy]:
    """Read which hierarchies are mounted and where we are in each."""
    return list(
        _placed((proc / "cgroup").read_text("utf-8"), (proc / "mountinfo").read_text("utf-8"))
    )


@lru_cache(maxsize=4)  # the answer of every launch but the first
def _placed(cgroup: str, mountinfo: str) -> tuple[Hierarchy, ...]:
    places: dict[frozenset[str], str] = {}
    for line in cgroup.splitlines():
        _, names, place = line.split(":", 2)
        places[frozenset(filter(None, names.split(",")))] = place
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        root, mount = before.split(" ")[3:5]
        listed = set(options.split(","))
        for controllers, place in places.items():
            if (kind == "cgroup2") != (not controllers) or not controllers <= listed:
                continue
            relative = os.path.relpath(place, root)
            # A container's own view: the mount shows only what is at or below `root`.
            if not relative.startswith(".."):
                found.append(Hierarchy(Path(mount), Path(mount) / relative, controllers))
    return tuple(found)


def find_base() -> Base:
    """Return where leaves can be made; raise WallMissing with every reason when nowhere."""
    from dativo.sandbox import cgroup_v1, cgroup_v2

    found = hierarchies()
    finders: tuple[Callable[[list[Hierarchy]], Base], ...] = (cgroup_v2.find, cgroup_v1.find)
    reasons = []
    for find in finders:
        try:
            return find(found)
        except WallMissing as error:
            reasons.append(error.reason)
    raise WallMissing("cgroup", "; ".join(reasons), REMEDY)


def quota_us(cpus: float) -> int:
    """Return the share of :data:`PERIOD_US` for a number of cores."""
    return max(_MIN_QUOTA_US, round(cpus * PERIOD_US))


def write(path: Path, text: str) -> None:
    """Write one value to a control file that exists."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)


def read_int(path: Path) -> int | None:
    """Read one number; None where the file is missing (older kernels) or says ``max``."""
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        return None
    return int(text) if text != "max" else None


def read_field(path: Path, name: str) -> int | None:
    """Read one ``name value`` line of a flat keyed file; None where there is none."""
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return None


def read_text(path: Path) -> str | None:
    """Read a file; None where there is none."""
    try:
        return path.read_text("ascii")
    except FileNotFoundError:
        return None


def make(folder: Path, name: str) -> Path:
    """Make a leaf's folder, after removing what launchers that died have left beside it."""
    if folder not in _swept:
        _swept.add(folder)
        _sweep(folder)
    leaf = folder / name
    leaf.mkdir()
    leaf.chmod(0o755)  # whatever the umask: the process sees its leaf, and is another user
    return leaf


def remove(folder: Path) -> None:
    """Remove a leaf; the kernel says EBUSY until the last task in it is gone for good."""
    deadline = time.monotonic() + _REMOVE_WITHIN_S
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise WallMissing("cgroup", f"cannot remove {folder}: {error.strerror}") from error
            time.sleep(0.001)
        else:
            return


def _sweep(folder: Path) -> None:
    for path in folder.iterdir():
        match = _LEAF.match(path.name)
        if match and start_time(int(match[1])) != int(match[2]):
            try:
                path.rmdir()
            except OSError:
                continue  # something in it still lives: it dies with its launcher and is swept next time
