"""Try every wall on this machine and say what is there, what is missing and what to type.

Nothing is looked up in a configuration: bubblewrap is run, a cgroup is made, /usr/bin/true is started behind all walls.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Literal

from dativo.sandbox import cgroup, executables
from dativo.sandbox.attestation import Attestation
from dativo.sandbox.errors import SandboxError, WallMissing
from dativo.sandbox.identity import allocate_identity
from dativo.sandbox.pipeline import launch
from dativo.sandbox.program import Grants, Limits, Program, Walls

State = Literal["up", "degraded", "missing"]

_TRUE: Final = "/usr/bin/true"
_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class WallStatus:
    """One wall: its name in docs/spec/sandbox.md, how it stands, what that means, and what to type (empty when up or untried)."""

    name: str
    state: State
    meaning: str
    remedy: str = ""


def probes() -> tuple[WallStatus, ...]:
    """Try every wall. Takes some tens of milliseconds; blocks at most some ten seconds. Raises nothing."""
    found = [_bubblewrap(), _cgroup()]
    try:
        attestation = _trial()
    except WallMissing as error:
        others = [name for name in _WALLS if name != error.wall]
        found.append(WallStatus(error.wall, "missing", error.reason, error.remedy))
        found += [
            WallStatus(name, "missing", f"could not be tried: {error.wall} is missing")
            for name in others
            if name not in {status.name for status in found}
        ]
    except SandboxError as error:
        found.append(WallStatus("start", "missing", error.message, error.hint))
    else:
        found += _standing(attestation)
    # A wall that was tried apart and again in the trial is told once, by what was found first.
    return tuple({status.name: status for status in reversed(found)}.values())[::-1]


_WALLS: Final = (
    "identity",
    "namespaces",
    "mounts",
    "network",
    "seccomp",
    "capabilities",
    "landlock",
    "limits",
    "descriptors",
)


def _bubblewrap() -> WallStatus:
    try:
        path = executables.bubblewrap()
        executables.confine()
    except WallMissing as error:
        return WallStatus("bubblewrap", "missing", error.reason, error.remedy)
    return WallStatus("bubblewrap", "up", f"{path}, not set-uid")


def _cgroup() -> WallStatus:
    try:
        leaf = cgroup.find_base().leaf(cgroup.leaf_name("doctor", "probe"), Limits())
    except WallMissing as error:
        return WallStatus("cgroup", "missing", error.reason, error.remedy)
    leaf.remove()
    return WallStatus(
        "cgroup",
        "up",
        f"version {leaf.kind[1:]}: memory, pids and cpu at {leaf.joins[0].parent.parent}",
    )


def _trial() -> Attestation:
    program = Program("doctor", (_TRUE,))
    lease = allocate_identity() if os.geteuid() == 0 else None
    try:
        with launch(
            program,
            Grants(limits=Limits(wall_time_s=_WITHIN_S)),
            identity=lease.identity if lease else None,
            walls=Walls(cgroup="degraded"),
            stdin=None,
            stdout=None,
            control=None,
            run="doctor",
        ) as confined:
            ended = confined.wait(2 * _WITHIN_S)
    finally:
        if lease is not None:
            lease.close()
    if not ended.succeeded:
        raise SandboxError(f"{_TRUE} ended with {ended.cause} {ended.detail}".strip())
    return confined.attestation


def _standing(found: Attestation) -> list[WallStatus]:
    def up(name: str, meaning: str) -> WallStatus:
        return WallStatus(name, "up", meaning)

    own = found.uid == os.geteuid()
    return [
        up(
            "identity",
            "runs as this user" if own else f"one uid for each process, here {found.uid}",
        ),
        up("namespaces", "user, mount, pid, ipc, uts, net and cgroup, each its own"),
        up("mounts", "a root of its own, read-only"),
        up("network", "none but a loopback of its own"),
        up("seccomp", "system calls filtered"),
        up("capabilities", "none, and none to be had"),
        up("landlock", f"ABI {found.landlock_abi}")
        if found.landlock_abi
        else WallStatus(
            "landlock",
            "degraded",
            "this kernel has none: the mounts stand alone",
            "Boot with lsm=landlock added to the list in /sys/kernel/security/lsm.",
        ),
        up("limits", ", ".join(f"{name} {value}" for name, value in found.limits)),
        up("descriptors", "only those that were handed over"),
    ]
