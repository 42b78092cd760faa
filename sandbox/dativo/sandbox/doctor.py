"""Build every wall on this machine, try to climb each, and say what is there, what is missing and what to type.

Nothing is believed: bubblewrap is run, a cgroup is made, and a program behind all walls tries what it may not do
(climbs.py). What the machine's own files say (host.py) tells why a wall is missing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from dativo.sandbox import cgroup, executables, host
from dativo.sandbox.attestation import Attestation
from dativo.sandbox.errors import SandboxError, WallMissing
from dativo.sandbox.host import Host
from dativo.sandbox.identity import allocate_identity
from dativo.sandbox.pipeline import launch
from dativo.sandbox.program import Grants, Limits, PrivateFile, Program, Walls
from dativo.sandbox.status import WallStatus

_WITHIN_S: Final = 20.0
_MAX_BYTES: Final = 1 << 16
_CLIMBS: Final = Path(__file__).with_name("climbs.py")
_INSIDE: Final = "/tmp/climbs.py"  # noqa: S108 - inside
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
# What the launcher asks of bubblewrap; --perms and --size came last, with 0.5 and 0.7.
_OPTIONS: Final = (
    *("--args", "--perms", "--size", "--tmpfs", "--ro-bind", "--ro-bind-data", "--dev-bind"),
    *("--file", "--symlink", "--proc", "--remount-ro", "--chdir", "--hostname", "--clearenv"),
    *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"),
    *("--unshare-cgroup", "--die-with-parent", "--new-session", "--as-pid-1", "--seccomp"),
)
_MENDED: Final = (0, 12)
_UPGRADE: Final = "Install bubblewrap 0.8 or later: apt install bubblewrap (or dnf, apk, pacman)."


def probes(machine: Host | None = None) -> tuple[WallStatus, ...]:
    """Try every wall. Takes some tens of milliseconds; blocks at most some twenty seconds. Raises nothing."""
    machine = machine or Host(uid=os.geteuid())
    found = [*_bubblewrap(), _cgroup(machine)]
    try:
        attestation, tried = _trial()
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
        found = [judge(status, tried) for status in (*found, *_standing(machine, attestation))]
    found += _of_the_machine(machine, found)
    # A wall that was tried apart and again in the trial is told once, by what was found first.
    return tuple({status.name: status for status in reversed(found)}.values())[::-1]


def judge(status: WallStatus, tried: list[dict[str, Any]]) -> WallStatus:
    """Add what was tried at one wall; one that was climbed is missing, whatever it attested."""
    mine = [each for each in tried if each["wall"] == status.name]
    if not mine or status.state == "missing":
        return status
    climbed = [each["what"] for each in mine if each["refused"] is None]
    if climbed and status.state == "up":
        return WallStatus(
            status.name,
            "missing",
            f"it was climbed: {', '.join(climbed)} succeeded",
            "This is a fault of dativo or of this kernel: report it as SECURITY.md says, with: dativo doctor --output json",
        )
    refused = ", ".join(
        f"{each['what']} ({each['refused']})" for each in mine if each["refused"] is not None
    )
    return replace(status, meaning=f"{status.meaning}; tried: {refused}") if refused else status


def _of_the_machine(machine: Host, found: list[WallStatus]) -> list[WallStatus]:
    """What the machine's files say; nothing there keeps walls from standing that do stand."""
    said = host.look(machine)
    stands = any(status.name == "namespaces" and status.state == "up" for status in found)
    return [
        replace(status, state="note") if stands and status.state == "missing" else status
        for status in said
    ]


def _bubblewrap() -> list[WallStatus]:
    try:
        path = executables.bubblewrap()
        executables.confine()
        version, options = _ask(path, "--version"), _ask(path, "--help")
    except WallMissing as error:
        return [WallStatus("bubblewrap", "missing", error.reason, error.remedy)]
    return bubblewrap_status(str(path), version, options)


def _ask(path: Path, option: str) -> str:
    try:
        asked = subprocess.run(
            [str(path), option],
            capture_output=True,
            env={},
            timeout=_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WallMissing("bubblewrap", f"{path} {option}: {error}", _UPGRADE) from error
    return (asked.stdout + asked.stderr)[:_MAX_BYTES].decode("utf-8", "replace")


def bubblewrap_status(path: str, version: str, options: str) -> list[WallStatus]:
    """Judge a bubblewrap by what it says of itself: by its options, since distributions mend old versions."""
    name = version.strip().partition("\n")[0]
    known = set(re.findall(r"--[a-z0-9-]+", options))
    if lacks := [option for option in _OPTIONS if option not in known]:
        return [
            WallStatus(
                "bubblewrap", "missing", f"{path} ({name}) has no {', '.join(lacks)}", _UPGRADE
            )
        ]
    found = [WallStatus("bubblewrap", "up", f"{path} ({name}), not set-uid")]
    numbers = re.search(r"(\d+)\.(\d+)", name)
    if numbers and (int(numbers[1]), int(numbers[2])) < _MENDED:
        found.append(
            WallStatus(
                "CVE-2026-87766",
                "note",
                f"versions of bubblewrap before 0.12 have it unless the distribution mended this one ({name}); no mount point is "
                "ever made here below what a program can write, which is what it needs",
            )
        )
    return found


def _cgroup(machine: Host) -> WallStatus:
    try:
        leaf = cgroup.find_base().leaf(cgroup.leaf_name("doctor", "probe"), Limits())
    except WallMissing as error:
        remedy = f"{host.delegation(machine)}\nOr permit the weaker mode by name: walls: {{cgroup: degraded}}."
        return WallStatus("cgroup", "missing", error.reason, remedy)
    leaf.remove()
    return WallStatus(
        "cgroup",
        "up",
        f"version {leaf.kind[1:]}: memory, pids and cpu at {leaf.joins[0].parent.parent}",
    )


def _trial() -> tuple[Attestation, list[dict[str, Any]]]:
    """Start what climbs behind every wall; return what was attested and what became of each try."""
    python = os.path.realpath(sys.executable)
    program = Program(
        "doctor",
        (python, "-I", "-S", "-B", _INSIDE, str(os.getpid()), "/tmp"),  # noqa: S108 - inside
        runtime=(Path(sys.base_prefix),),
        files=(PrivateFile(_INSIDE, _CLIMBS.read_bytes()),),
    )
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
            said = os.read(confined.stdout, _MAX_BYTES)
            tail = confined.stderr_tail().decode("utf-8", "replace").strip()
    finally:
        if lease is not None:
            lease.close()
    if not ended.succeeded:
        raise SandboxError(f"the trial ended with {ended.cause} {ended.detail}: {tail}".strip(" :"))
    return confined.attestation, [json.loads(line) for line in said.splitlines()]


def _standing(machine: Host, found: Attestation) -> list[WallStatus]:
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
        host.landlock(machine, found.landlock_abi),
        up("limits", ", ".join(f"{name} {value}" for name, value in found.limits)),
        up("descriptors", "only those that were handed over"),
    ]
