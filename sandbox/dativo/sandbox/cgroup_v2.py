"""Version 2: a leaf below a cgroup whose children have the memory, pids and cpu controllers.

Tried in this order: our own cgroup (delegated: systemd-run --user --scope -p Delegate=yes), its parent (a service with
DelegateSubgroup=), and as root a subtree of our own at the top. A cgroup that holds processes cannot give controllers to its
children (the no-internal-process rule), so we first move into a child of ours: with all others there where it was
delegated, as to a shell, else only when we are alone.

What systemd has not delegated is left alone even where it can be written, as root and below the user's own manager: a
controller that we gave there would be taken away again when a unit beside us starts, and the limits with it, unseen.
"""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from dativo.sandbox import cgroup
from dativo.sandbox.cgroup import REMEDY, Counted, Hierarchy
from dativo.sandbox.errors import WallMissing
from dativo.sandbox.program import Limits

NEEDED: Final = frozenset({"memory", "pids", "cpu"})
# Counts only; the walls stand without it. Of a user it is rarely to be had: systemd delegates it on request alone.
WISHED: Final = frozenset({"io"})
KERNEL_LEAF: Final = "dativo-kernel"
ROOT_SUBTREE: Final = "dativo"
_MOVES: Final = 5
_SYSTEMCTL: Final = Path("/usr/bin/systemctl")
_ASK_WITHIN_S: Final = 5.0
_US: Final = 1_000_000


def find(found: list[Hierarchy]) -> V2Base:
    """Return the first place that works; raise WallMissing with the reason of each that did not."""
    mounted = [hierarchy for hierarchy in found if not hierarchy.controllers]
    if not mounted:
        raise WallMissing("cgroup", "version 2: not mounted", REMEDY)
    hierarchy = mounted[0]
    if missing := sorted(NEEDED - _words(hierarchy.mount / "cgroup.controllers")):
        raise WallMissing("cgroup", f"version 2: has no controller {', '.join(missing)}", REMEDY)
    above = _above(hierarchy)
    told = os.geteuid() == 0 or any(map(_is_marked, above))
    reasons = []
    for candidate in above[:2]:
        if told and not is_delegated(candidate):
            reasons.append(f"{candidate}: not delegated")
            continue
        try:
            return V2Base(_enable(candidate, alone_in=hierarchy.own))
        except OSError as error:
            reasons.append(f"{candidate}: {error.strerror}")
        except WallMissing as error:
            reasons.append(error.reason)
    if os.geteuid() == 0:
        subtree = hierarchy.mount / ROOT_SUBTREE
        try:
            _enable(hierarchy.mount, alone_in=None)
            subtree.mkdir(exist_ok=True)
            subtree.chmod(0o755)  # whatever the umask
            return V2Base(_enable(subtree, alone_in=None))
        except OSError as error:
            reasons.append(f"{subtree}: {error.strerror}")
        except WallMissing as error:
            reasons.append(error.reason)
    raise WallMissing("cgroup", "version 2: " + ", ".join(reasons or ["not delegated"]), REMEDY)


def _above(hierarchy: Hierarchy) -> list[Path]:
    """Return our own cgroup and those above it, without the top, which belongs to the init system."""
    chain = [hierarchy.own, *hierarchy.own.parents]
    return chain[: chain.index(hierarchy.mount)]


def is_delegated(folder: Path) -> bool:
    """Tell whether systemd delegated it. The system's marks what it delegates, a user's may not and is asked."""
    return _is_marked(folder) or (os.geteuid() != 0 and _users_manager_delegates(folder.name))


@functools.cache
def _users_manager_delegates(unit: str) -> bool:
    if not unit.endswith((".scope", ".service")) or not _SYSTEMCTL.exists():
        return False
    import subprocess  # no launch needs it but here

    try:
        asked = subprocess.run(
            [_SYSTEMCTL, "--user", "show", "--property=Delegate", "--value", "--", unit],
            capture_output=True,
            env={"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"},
            timeout=_ASK_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.stdout == b"yes\n"


def _is_marked(folder: Path) -> bool:
    """Read the mark: for root since 236, for everybody since 251 (systemd.io/CGROUP_DELEGATION)."""
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _words(path: Path) -> set[str]:
    try:
        return set(path.read_text("ascii").split())
    except FileNotFoundError:
        return set()


def _enable(folder: Path, *, alone_in: Path | None) -> Path:
    """Give the controllers to the children of ``folder``, whether they have them already or not."""
    if missing := sorted(NEEDED - _words(folder / "cgroup.controllers")):
        raise WallMissing("cgroup", f"{folder}: not given {', '.join(missing)}", REMEDY)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WallMissing("cgroup", f"{folder}: not writable", REMEDY)
    control = folder / "cgroup.subtree_control"
    if NEEDED - _words(control):
        if folder == alone_in:
            _move_out(folder)
        cgroup.write(control, " ".join(f"+{name}" for name in sorted(NEEDED)))
        if missing := sorted(NEEDED - _words(control)):
            raise WallMissing("cgroup", f"{folder}: {', '.join(missing)} not enabled", REMEDY)
    for name in (WISHED & _words(folder / "cgroup.controllers")) - _words(control):
        with contextlib.suppress(
            OSError
        ):  # it counts and limits nothing: reports then lack the figure
            cgroup.write(control, f"+{name}")
    return folder


def _move_out(folder: Path) -> None:
    own = {str(os.getpid())}
    if _words(folder / "cgroup.procs") - own and not is_delegated(folder):
        raise WallMissing("cgroup", f"{folder}: holds other processes than this one", REMEDY)
    leaf = folder / KERNEL_LEAF
    leaf.mkdir(exist_ok=True)
    cgroup.write(leaf / "cgroup.procs", "0")
    # What is started meanwhile by those that were not moved yet is there the next time.
    for _ in range(_MOVES):
        for pid in _words(folder / "cgroup.procs") - own:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                cgroup.write(leaf / "cgroup.procs", pid)


@dataclass(frozen=True, slots=True)
class V2Base:
    """A cgroup whose children have all controllers."""

    folder: Path

    def leaf(self, name: str, limits: Limits) -> V2Leaf:
        """Make a leaf and set its limits, read back."""
        made: Path | None = None
        try:
            made = cgroup.make(self.folder, name)
            leaf = V2Leaf(made)
            leaf.limit(limits)
        except OSError as error:
            if made is not None:
                cgroup.remove(made)
            raise WallMissing("cgroup", f"version 2: {error}", REMEDY) from error
        except WallMissing:
            if made is not None:
                cgroup.remove(made)
            raise
        return leaf


@dataclass(frozen=True, slots=True)
class V2Leaf:
    """One folder with every controller."""

    folder: Path

    @property
    def kind(self) -> Literal["v2"]:
        """See :class:`cgroup.Leaf`."""
        return "v2"

    @property
    def joins(self) -> tuple[Path, ...]:
        """See :class:`cgroup.Leaf`."""
        return (self.folder / "cgroup.procs",)

    @property
    def members(self) -> tuple[Path, ...]:
        """See :class:`cgroup.Leaf`."""
        return self.joins

    def limit(self, limits: Limits) -> None:
        """Set and read back; raise OSError or WallMissing."""
        page = os.sysconf("SC_PAGE_SIZE")
        self._set("memory.max", str(limits.memory_bytes // page * page))
        if (self.folder / "memory.swap.max").exists():
            self._set("memory.swap.max", "0")
        self._set("memory.oom.group", "1")
        self._set("pids.max", str(limits.pids))
        self._set("cpu.max", f"{cgroup.quota_us(limits.cpus)} {cgroup.PERIOD_US}")

    def _set(self, name: str, text: str) -> None:
        path = self.folder / name
        cgroup.write(path, text)
        if (found := path.read_text("ascii").strip()) != text:
            raise WallMissing(
                "cgroup", f"{path} reads {found!r} after {text!r} was written", REMEDY
            )

    def counted(self) -> Counted:
        """See :class:`cgroup.Leaf`."""
        cpu = self.folder / "cpu.stat"
        cpu_us = cgroup.read_field(cpu, "usage_usec")
        return Counted(
            cgroup.read_int(self.folder / "memory.peak"),
            None if cpu_us is None else cpu_us / _US,
            cgroup.read_int(self.folder / "pids.peak"),
            cgroup.read_field(self.folder / "memory.events", "oom_kill") or 0,
            cgroup.read_field(self.folder / "pids.events", "max") or 0,
            cgroup.read_field(cpu, "nr_throttled") or 0,
            (cgroup.read_field(cpu, "throttled_usec") or 0) / _US,
            *self._moved(),
        )

    def _moved(self) -> tuple[int | None, int | None]:
        """Read a line of keys and values for each device (cgroup-v2.rst, io.stat)."""
        text = cgroup.read_text(self.folder / "io.stat")
        if text is None:
            return None, None
        words = text.split()
        read, written = (
            sum(int(word.removeprefix(key)) for word in words if word.startswith(key))
            for key in ("rbytes=", "wbytes=")
        )
        return read, written

    def kill(self) -> None:
        """Kill all at once (cgroup.kill, Linux 5.14); on older kernels the pid namespace does it."""
        path = self.folder / "cgroup.kill"
        if path.exists():
            cgroup.write(path, "1")

    def remove(self) -> None:
        """See :class:`cgroup.Leaf`."""
        cgroup.remove(self.folder)
