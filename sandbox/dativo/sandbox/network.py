"""Which network a process gets: none, its own loopback, or names that a broker outside dials for it.

Ports are said here because a listener stands in the process's namespace for each; names are the broker's alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from dativo.sandbox.errors import WallMissing

Standing = Literal["empty", "named", "host"]

MAX_PORTS: Final = 1024
MAX_CIDRS: Final = 1024
MAX_CLIENT_CHARACTERS: Final = 128
# Names get their addresses from here (RFC 2544), and an IPv6 address of its own from the next (RFC 5180).
POOL: Final = "198.18.0.0/15"
POOL_V6: Final = "2001:2::/48"
RESOLVER_PORT: Final = 53
_REMEDY: Final = "Change the network grant."


@dataclass(frozen=True, slots=True)
class Network:
    """What a process finds in its network namespace. Checked when a launch is planned.

    ``ports`` are ranges of TCP ports, both ends included, at most 1024 ports in all, never 53: the broker answers on each,
    for every name and for every literal address below ``cidrs`` (IPv4 or IPv6, no bits beyond the prefix). With
    ``loopback`` the process may listen and connect within; without ports it then needs no broker.
    """

    ports: tuple[tuple[int, int], ...] = ()
    cidrs: tuple[str, ...] = ()
    loopback: bool = False

    @property
    def named(self) -> bool:
        """Whether a broker serves it."""
        return bool(self.ports or self.cidrs)


def standing(network: Network | None, *, host: bool) -> Standing:
    """Return which network must be found to stand: an empty namespace, one that a broker serves, the launcher's own."""
    if host:
        return "host"
    return "named" if network is not None and network.named else "empty"


def check_network(network: Network | None, *, host: bool, sockets: int | None, client: str) -> None:
    """Raise WallMissing on a network that cannot be built as it was asked for."""
    if host and network is not None:
        raise _refused("the launcher's own network and a network of grants exclude each other")
    if network is None or not network.named:
        if sockets is not None:
            raise _refused("a broker was given, and no port to serve")
        return
    if sockets is None:
        raise _refused("ports are granted, and no broker serves them")
    if not 0 < len(client) <= MAX_CLIENT_CHARACTERS or not client.isprintable():
        raise _refused(f"{client!r} cannot name a client of the broker")
    served_ports(network)
    local_routes(network)


def served_ports(network: Network) -> tuple[tuple[int, int], ...]:
    """Return the port ranges, sorted and disjoint; raise WallMissing on ones that cannot be served."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(network.ports):
        if not 1 <= first <= last <= 65535:
            raise _refused(f"{first}-{last} is no range of ports")
        if first <= RESOLVER_PORT <= last:
            raise _refused(f"port {RESOLVER_PORT} is the resolver's own inside")
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    if (count := sum(last - first + 1 for first, last in merged)) > MAX_PORTS:
        raise _refused(f"{count} ports are granted; {MAX_PORTS} can be served")
    if not merged:
        raise _refused("literal networks are granted without a port")
    return tuple(merged)


def local_routes(network: Network) -> tuple[tuple[str, int], ...]:
    """Return address and prefix of each literal network that is not local already; raise WallMissing on one that cannot be."""
    if not network.cidrs:
        return ()
    if len(network.cidrs) > MAX_CIDRS:
        raise _refused(f"{len(network.cidrs)} literal networks; {MAX_CIDRS} can be served")
    from ipaddress import ip_network  # 4 ms, and most launches grant none

    routes: dict[tuple[str, int], None] = {}
    pools = {4: ip_network(POOL), 6: ip_network(POOL_V6)}
    for text in network.cidrs:
        try:
            cidr = ip_network(text)
        except ValueError as error:
            raise _refused(f"{text!r} is no literal network: {error}") from error
        pool = pools[cidr.version]
        # Within one version, so of one type, which the checker cannot know.
        if pool.network_address <= cidr.network_address <= pool.broadcast_address:  # type: ignore[operator]
            raise _refused(f"{text} lies in {pool}, where names get their addresses inside")
        if not cidr.is_loopback:
            routes[str(cidr.network_address), cidr.prefixlen] = None
    return tuple(routes)


def _refused(reason: str) -> WallMissing:
    return WallMissing("network", reason, _REMEDY)
