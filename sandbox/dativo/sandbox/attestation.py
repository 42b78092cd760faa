"""What was found to stand, and its comparison with what was asked.

Stage 2 tells what it sees; whatever the kernel can tell about it is read from outside as well, by the pid that the kernel
itself put on the message (SCM_CREDENTIALS, unix(7)). Both must agree.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dativo.sandbox.cgroup import Kind
from dativo.sandbox.errors import WallMissing
from dativo.sandbox.network import Standing
from dativo.sandbox.program import Identity

NAMESPACES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
CAPABILITY_SETS: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
SECCOMP_FILTER: Final = 2
# What the kernel itself puts into every new namespace once the module is there (net.core.fb_tunnels_only_for_init_net):
# they are down, and nobody inside can bring them up.
_FALLBACK_TUNNELS: Final = frozenset(
    ("tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0")
)
UPGRADE: Final = "Build dativo's executables anew: uv sync."


@dataclass(frozen=True, slots=True)
class Attestation:
    """The walls of one process as they were found. ``landlock_abi`` 0: this kernel has no Landlock.

    ``pid`` is stage 2's as seen outside, ``descriptors`` what was open in it, ``limits`` the rlimits (soft = hard).
    ``cgroup`` is ``degraded`` where a watchdog stands in for it. ``network`` is ``empty`` (a namespace with nothing but its own
    loopback), ``named`` (the same, and a broker holds what listens in it), or ``host`` (the launcher's own). ``shared`` are
    other namespaces that are the launcher's own.
    """

    pid: int
    uid: int
    gid: int
    namespaces: tuple[tuple[str, int], ...]
    no_new_privileges: bool
    seccomp_mode: int
    landlock_abi: int
    cgroup: Kind
    network: Standing
    descriptors: tuple[int, ...]
    limits: tuple[tuple[str, int], ...]
    shared: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Asked:
    """What must be found. ``members`` are the cgroup.procs files of the leaf; empty in degraded mode. ``shared`` are namespaces
    that are the launcher's own, ``filters`` the seccomp filters beyond the launcher's.
    """

    identity: Identity
    descriptors: frozenset[int]
    limits: dict[str, int]
    members: tuple[Path, ...]
    cgroup: Kind
    network: Standing
    shared: frozenset[str] = frozenset()
    filters: int = 1
    needs_landlock: bool = False


def verify(message: bytes, credentials: tuple[int, int, int], asked: Asked) -> Attestation:
    """Return the attestation when all of it is as asked; raise WallMissing naming the first wall that is not.

    ``credentials`` are pid, uid and gid of the sender as the kernel gave them.
    """
    try:
        said: dict[str, Any] = json.loads(message)
        return _compare(said, credentials, asked)
    except (ValueError, KeyError, TypeError) as error:
        raise WallMissing(
            "attestation", f"cannot be read ({type(error).__name__}: {error})", UPGRADE
        ) from error


def _compare(said: dict[str, Any], credentials: tuple[int, int, int], asked: Asked) -> Attestation:
    pid, uid, gid = credentials
    status = _status(pid)
    identity = asked.identity
    _same("identity", "uid", (uid, _ids(status, "Uid")), (identity.uid, {identity.uid}))
    _same("identity", "gid", (gid, _ids(status, "Gid")), (identity.gid, {identity.gid}))
    if not uid:
        raise WallMissing("identity", "is uid 0 outside")
    _same("identity", "uids inside", set(said["uids"]), {identity.uid})
    _same("identity", "gids inside", set(said["gids"]), {identity.gid})
    groups = _ids(status, "Groups") - {identity.gid}
    _same("identity", "groups", groups, set(identity.groups) - {identity.gid})
    for name in CAPABILITY_SETS:
        _same(
            "capabilities",
            name,
            (int(status[name], 16), int(said["capabilities"][name], 16)),
            (0, 0),
        )
    _same("seccomp", "mode", (int(status["Seccomp"]), said["seccomp_mode"]), (2, SECCOMP_FILTER))
    _check_filters(status, asked.filters)
    _same("seccomp", "no_new_privs", (int(status["NoNewPrivs"]), said["no_new_privileges"]), (1, 1))
    _same("identity", "dumpable", said["dumpable"], 0)
    if asked.needs_landlock and not said["landlock_abi"]:
        raise WallMissing(
            "landlock",
            "is not there, and keeps links out of a folder that another process reads",
            "Start a kernel with it (lsm=landlock,…), or grant no exchange folder.",
        )
    _same("namespaces", "pid inside", said["pid"], 1)
    _check_namespaces(pid, said["namespaces"], asked.network, asked.shared)
    _same("descriptors", "open", frozenset(said["descriptors"]), asked.descriptors)
    for name, value in asked.limits.items():
        _same("limits", name, said["limits"][name], [value, value])
    _check_cgroup(pid, asked.members)
    return Attestation(
        pid=pid,
        uid=uid,
        gid=gid,
        namespaces=tuple((name, int(said["namespaces"][name])) for name in NAMESPACES),
        no_new_privileges=True,
        seccomp_mode=SECCOMP_FILTER,
        landlock_abi=int(said["landlock_abi"]),
        cgroup=asked.cgroup,
        network=asked.network,
        descriptors=tuple(sorted(said["descriptors"])),
        limits=tuple(asked.limits.items()),
        shared=asked.shared,
    )


def _same(wall: str, what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise WallMissing(wall, f"{what} is {_shown(found)}, not {_shown(wanted)}", UPGRADE)


def _shown(value: object) -> str:
    if isinstance(value, set | frozenset):
        return str(sorted(value))
    return str(value)


def _status(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    except OSError as error:
        raise WallMissing(
            "attestation", f"process {pid} cannot be seen: {error.strerror}"
        ) from error
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _ids(status: dict[str, str], name: str) -> set[int]:
    return {int(word) for word in status[name].split()}


def _check_filters(status: dict[str, str], wanted: int) -> None:
    """Find a filter more than the launcher's own: one who stands under a filter (a container) hands it down to everything."""
    filters = "Seccomp_filters"  # since Linux 5.9
    if filters in status:
        own = int(_status(os.getpid())[filters])
        _same("seccomp", "number of filters", int(status[filters]), own + wanted)


def _check_namespaces(
    pid: int, said: dict[str, int], network: Standing, common: frozenset[str] = frozenset()
) -> None:
    for name in NAMESPACES:
        try:
            seen = Path(f"/proc/{pid}/ns/{name}").stat().st_ino
        except OSError as error:
            raise WallMissing("namespaces", f"{name} cannot be seen: {error.strerror}") from error
        _same("namespaces", f"{name} seen from outside", seen, said[name])
        shared = seen == Path(f"/proc/self/ns/{name}").stat().st_ino
        if name == "net" and network == "host":
            if not shared:
                raise WallMissing("network", "is not the launcher's own", UPGRADE)
        elif shared and name not in common:
            raise WallMissing("namespaces", f"the {name} namespace is the launcher's own")
    if network != "host":
        _same("network", "interfaces", _interfaces(pid) - _FALLBACK_TUNNELS, {"lo"})


def _interfaces(pid: int) -> set[str]:
    # proc_pid_net(5): two lines of headings, then one for each device.
    try:
        lines = _devices_file(pid).read_text("ascii", "replace").splitlines()[2:]
    except OSError as error:
        raise WallMissing("network", f"cannot be seen: {error.strerror}") from error
    return {line.partition(":")[0].strip() for line in lines}


def _devices_file(pid: int) -> Path:
    return Path(f"/proc/{pid}/net/dev")


def _check_cgroup(pid: int, members: Iterable[Path]) -> None:
    for path in members:
        if str(pid) not in path.read_text("ascii").split():
            raise WallMissing("cgroup", f"process {pid} is not in {os.fspath(path.parent)}")
