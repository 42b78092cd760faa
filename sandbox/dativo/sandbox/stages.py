"""Write the plans of dativo-confine's three modes (rust-plugins/confine): fields ended by NUL in a memfd."""

from __future__ import annotations

import os
from collections.abc import Iterable

from dativo.sandbox.errors import SandboxError
from dativo.sandbox.mounts import STAGE2, View
from dativo.sandbox.network import RESOLVER_PORT, Network, local_routes, served_ports
from dativo.sandbox.program import Grants, Identity, Program
from dativo.sandbox.streams import Streams

Field = str | int
_BASE_ENVIRONMENT = {
    "HOME": "/tmp",  # noqa: S108 - inside
    "TMPDIR": "/tmp",  # noqa: S108 - inside
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
}


def stage1_plan(
    *,
    kept: Iterable[int],
    joins: Iterable[str],
    folder: str | None,
    protected: Iterable[tuple[str, str]],
    attached: Iterable[tuple[str, str, bool]],
    identity: Identity | None,
    bubblewrap: str,
    options_fd: int,
    plan_fd: int,
) -> bytes:
    """Return the plan of stage 1. ``protected`` are real paths as granted folder and rest; ``folder`` and ``attached`` (source,
    target, writable) as root only.
    """
    fields: list[Field] = ["parent", os.getpid()]
    for fd in kept:
        fields += ["keep", fd]
    for path in joins:
        fields += ["cgroup", path]
    if folder is not None:
        fields += ["view", folder]
    for root, rest in protected:
        fields += ["protect", root, rest]
    for source, target, writable in attached:
        fields += ["attach", source, target, "rw" if writable else "ro"]
    if identity is not None:
        fields += ["identity", identity.uid, identity.gid]
        for group in identity.groups:
            fields += ["group", group]
    fields += ["bubblewrap", bubblewrap]
    for argument in ("--args", options_fd, "--", STAGE2, "stage2", plan_fd):
        fields += ["argument", argument]
    return encode(fields)


def stage2_plan(
    program: Program, grants: Grants, view: View, limits: dict[str, int], streams: Streams
) -> bytes:
    """Return the plan of stage 2, which holds the environment."""
    fields: list[Field] = ["report", streams.report, "stdin", streams.stdin]
    fields += ["stdout", streams.stdout]
    if streams.stderr is not None:
        fields += ["stderr", streams.stderr]
    if streams.control is not None:
        fields += ["control", streams.control]
    for name, value in limits.items():
        fields += ["limit", name, value]
    for access, path in view.rules:
        fields += ["allow", access, path]
    fields += _tcp(grants)
    fields += ["folder", program.cwd]
    for name, text in {**_BASE_ENVIRONMENT, **dict(grants.environment)}.items():
        if not name or "=" in name:
            raise SandboxError(f"{name!r} cannot name an environment variable")
        fields += ["environment", f"{name}={text}"]
    for argument in program.argv:
        fields += ["argument", argument]
    return encode(fields)


def _tcp(grants: Grants) -> list[Field]:
    """Return what Landlock permits of TCP: any port where the process may listen itself or has the launcher's network."""
    network = grants.network
    if grants.host_network or (network is not None and network.loopback):
        return ["tcp", "any"]
    if network is None or not network.named:
        return []
    ranges = ((RESOLVER_PORT, RESOLVER_PORT), *served_ports(network))
    return [field for first, last in ranges for field in ("connect", first, last)]


def sockets_plan(
    network: Network, client: str, identity: Identity | None, *, namespace: int, broker: int
) -> bytes:
    """Return the plan of the maker of sockets: descriptors of the network namespace and of the way to the broker."""
    fields: list[Field] = ["parent", os.getpid(), "namespace", namespace, "broker", broker]
    if identity is not None:
        fields += ["identity", identity.uid, identity.gid]
    fields += ["client", client]
    for first, last in served_ports(network):
        fields += ["port", first, last]
    for address, prefix in local_routes(network):
        fields += ["network", address, prefix]
    return encode(fields)


def encode(fields: Iterable[Field]) -> bytes:
    """End each field by NUL; raise SandboxError on one that holds a NUL."""
    encoded = [os.fsencode(str(field)) for field in fields]
    if any(b"\0" in field for field in encoded):
        raise SandboxError("a path, argument or variable holds a NUL byte")
    return b"".join(field + b"\0" for field in encoded)
