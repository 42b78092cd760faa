"""What a confined process stood behind and how it ended, in words: for reports and for the audit."""

from __future__ import annotations

from collections.abc import Iterable

from dativo.kernel.network_record import NetworkRecord
from dativo.sandbox import Confined, Exit


def standing(
    processes: Iterable[Confined], network: NetworkRecord | None
) -> list[dict[str, object]]:
    """Return for each process what the audit keeps: name, end, and the walls that were attested. ``network`` knows the places."""
    return [
        {
            "name": each.name,
            "ended": ending(each.poll_exit()),
            "walls": walls(each, network),
        }
        for each in processes
    ]


def ending(ended: Exit | None) -> str:
    """Say how a process ended; None is one that has not."""
    if ended is None:
        return "running"
    if ended.cause == "exited":
        return f"exit {ended.code}"
    if ended.cause == "signaled":
        return f"signal {ended.signal}"
    return ended.cause


def walls(confined: Confined, network: NetworkRecord | None) -> tuple[str, ...]:
    """Name the walls that were attested: as found, not as asked."""
    found = confined.attestation
    granted = network.places(confined.name) if network is not None else ""
    networks = {
        "empty": "loopback only" if granted else "no network",
        "named": f"network {granted or 'observed'}",
        "host": "host network",
    }
    return (
        f"uid {found.uid}",
        f"{len(found.namespaces) - len(found.shared)} namespaces",
        *(f"the host's {name} namespace" for name in sorted(found.shared)),
        networks[found.network],
        "seccomp",
        f"landlock {found.landlock_abi}" if found.landlock_abi else "no landlock",
        "cgroup degraded" if found.cgroup == "degraded" else f"cgroup {found.cgroup}",
    )
