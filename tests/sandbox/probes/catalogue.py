"""What a probe is."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

IS_ROOT: Final = os.geteuid() == 0
MACHINE: Final = os.uname().machine
_RELEASE: Final = re.findall(r"\d+", os.uname().release)
LINUX: Final = (int(_RELEASE[0]), int(_RELEASE[1]))
# landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION): the ABI, or -1.
LANDLOCK_ABI: Final[int] = ctypes.CDLL(None).syscall(444, None, 0, 1)

# Where the acts are tried from: on the host, in the root of an unpacked image, in a container of Docker Engine.
Setting = Literal["host", "image", "docker"]
SETTINGS: Final[tuple[Setting, ...]] = ("host", "image", "docker")

# By the names of docs/spec/sandbox.md as far as they are walls there; the others are parts of one.
WALLS: Final = {
    "mounts": "what is not granted is not there",
    "read-only": "what is granted to be read is mounted read-only",
    "root-ro": "the root and /dev are read-only",
    "attach": "as root, granted folders that can be written are neither executable nor set-uid; in Docker /tmp and /dev/shm",
    "sizes": "/tmp and /dev/shm have a size",
    "landlock": "the second layer over files, TCP ports, signals and abstract sockets",
    "seccomp": "system calls by name and argument",
    "identity": "as root, a uid of its own",
    "capabilities": "no capability, not even in the own namespaces",
    "pid": "an own pid namespace",
    "net": "an own network namespace",
    "ipc": "an own ipc namespace",
    "uts": "an own uts namespace",
    "cgroup-ns": "an own cgroup namespace",
    "undumpable": "stage 2 cannot be looked into",
    "environment": "nothing of the launcher's environment, neither for the program nor for stage 2",
    "descriptors": "what was not handed over is closed",
    "rlimits": "open files, file size, no core",
    "bounds": "processes and threads: the cgroup, or RLIMIT_NPROC without one",
}
# In Docker nobody takes these off: the engine makes /tmp and /dev/shm, and dativo-confine insists that it is not root there, who
# alone could have a capability.
STAYS: Final = frozenset(("attach", "identity", "capabilities"))
# No run can do without these: bubblewrap needs the first as a plain user, seccomp the second.
CARRIERS: Final = "the user namespace, no_new_privs, a mount for each grant"


@dataclass(frozen=True, slots=True)
class Probe:
    """One hostile act.

    ``id`` names it: its letter and number are those of the attack list. ``walls`` says, for each wall that refuses it, what that
    wall alone answers: an errno's name, or that of the signal that ends the act. ``works`` are errnos that count as done, since
    the kernel gives them only after every wall. ``carried``: with all these walls off it is still refused, by what no run can do
    without. ``needs`` is a capability (its bit) that the act takes outside, so root. ``outside``: whether it can be shown to
    work outside. ``landlock_abi`` is the first that refuses it. ``image`` and ``docker`` are all the walls of an image's root and
    of a container where those are others; ``stays`` are walls that cannot be taken off. Arguments may name what the scene
    holds: ``{hidden}``, ``{given}``, ``{out}``, ``{victim}``.
    """

    id: str
    title: str
    act: str
    arguments: tuple[str, ...] = ()
    walls: Mapping[str, str] = field(default_factory=dict)
    as_root: Mapping[str, str] = field(default_factory=dict)
    works: tuple[str, ...] = ()
    needs: int | None = None
    carried: bool = False
    outside: bool = True
    machine: str | None = None
    landlock_abi: int = 1
    image: Mapping[str, str] | None = None
    docker: Mapping[str, str] | None = None
    stays: Mapping[str, str] = field(default_factory=dict)

    def at(self, setting: Setting) -> Probe:
        """Return it as it is tried there. Docker is root's alone."""
        other = {"host": None, "image": self.image, "docker": self.docker}[setting]
        if other is None and setting != "docker":
            return self
        walls = {**self.walls, **self.as_root} if other is None else other
        if setting == "image":
            return replace(self, walls=walls, as_root={})
        stays = {wall: answer for wall, answer in walls.items() if wall in STAYS}
        rest = {wall: answer for wall, answer in walls.items() if wall not in STAYS}
        carried = self.carried or bool(stays)
        return replace(self, walls=rest, as_root={}, stays=stays, carried=carried)

    @property
    def held_by(self) -> dict[str, str]:
        """The walls that refuse it for this user, on this kernel, and can be taken off."""
        held = {**self.walls, **(self.as_root if IS_ROOT else {})}
        if self.landlock_abi > LANDLOCK_ABI:
            held.pop("landlock", None)
        return held

    def applies(self) -> bool:
        """Whether it can be tried here."""
        if self.machine not in (None, MACHINE) or not (self.held_by or self.stays):
            return False
        return self.needs is None or (IS_ROOT and bool(capabilities() >> self.needs & 1))


@dataclass(frozen=True, slots=True)
class Residual:
    """An act that works inside, and why it may; ``settings`` says where, as far as it does not everywhere.

    ``plain``: as a plain user alone; of root it is a probe. ``since``: the first Linux that has it.
    """

    id: str
    title: str
    act: str
    arguments: tuple[str, ...]
    why: str
    settings: tuple[Setting, ...] = SETTINGS
    plain: bool = False
    since: tuple[int, int] = (0, 0)

    def applies(self) -> bool:
        """Whether it can be tried here."""
        return not (self.plain and IS_ROOT) and self.since <= LINUX


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An act or a pattern of a published weakness whose test is not a probe. ``tests`` are FILE::NAME below tests/."""

    id: str
    title: str
    tests: tuple[str, ...]


def capabilities() -> int:
    """The effective set of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("CapEff:")[2].split()[0], 16)


def answers(**walls: str) -> Mapping[str, str]:
    """Write walls with names that are identifiers: ``read_only`` is ``read-only``."""
    return MappingProxyType({name.replace("_", "-"): answer for name, answer in walls.items()})
