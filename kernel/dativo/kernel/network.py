"""Network grants as values: what one means, its canonical text, the broker's rule, and what the sandbox builds for it.

docs/spec/network.md is the contract; ``network_text.parse`` reads what people write. Policy is decided here and in ``grants.py``;
the broker enforces it and is held to the same table, tests/network_cases.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

from dativo.kernel import quantities
from dativo.kernel.limits import NETWORK_GRANTS
from dativo.protocol.errors import ConfigError, Where
from dativo.sandbox import Network
from dativo.sandbox.network import MAX_CIDRS, MAX_PORTS

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Kind = Literal["host", "cidr", "srv", "loopback"]
Ports = tuple[tuple[int, int], ...]

HTTPS: Final = 443
WILDCARD: Final = "*."
# The least that the domain of a service keeps when targets may be its siblings (MongoDB's clusters and their members).
_MIN_SIBLING_LABELS: Final = 3


@dataclass(frozen=True, slots=True, order=True)
class NetworkGrant:
    """One grant, canonical. ``where`` is a name, ``*.name``, a network such as 10.1.2.3/32, a service, or empty for ``loopback``.

    ``ports`` are disjoint ranges in order, both ends included. ``upload_bytes`` None is no cap, over the run.
    """

    kind: Kind
    where: str
    ports: Ports = ()
    private: bool = False
    upload_bytes: int | None = None
    sni: bool = True

    def __str__(self) -> str:
        """Return the canonical text: what plans, approvals and reports show."""
        words = [self.place]
        if self.private:
            words.append("private")
        if self.upload_bytes is not None:
            words.append(f"upload={quantities.show_bytes(self.upload_bytes)}")
        if not self.sni:
            words.append("no-sni")
        return " ".join(words)

    @property
    def place(self) -> str:
        """Return where it leads, always with its ports, without options."""
        ports = show_ports(self.ports)
        match self.kind:
            case "loopback":
                return "loopback"
            case "srv":
                return f"srv:{self.where}:{ports}"
            case "host":
                return f"{self.where}:{ports}"
            case "cidr":
                address, _, prefix = self.where.partition("/")
                whole = prefix == ("128" if ":" in address else "32")
                text = address if whole else self.where
                return f"[{text}]:{ports}" if ":" in address else f"{text}:{ports}"

    def rule(self) -> dict[str, Any] | None:
        """Return the broker's rule; None for ``loopback``, of which it knows nothing."""
        options: dict[str, Any] = {}
        if self.upload_bytes is not None:
            options["upload_bytes"] = self.upload_bytes
        ports = [list(each) for each in self.ports]
        match self.kind:
            case "loopback":
                return None
            case "host":
                return {
                    "host": self.where,
                    "ports": ports,
                    "private": self.private,
                    "upload_bytes": self.upload_bytes,
                    "sni": self.sni,
                }
            case "cidr":
                return {"cidr": self.where, "ports": ports, **options}
            case "srv":
                if self.private:
                    options["private"] = True
                if not self.sni:
                    options["sni"] = False
                return {"srv": self.where, "ports": ports, **options}

    def has_port(self, port: int) -> bool:
        """Whether ``port`` is granted."""
        return any(first <= port <= last for first, last in self.ports)

    def names(self, name: str, port: int) -> bool:
        """Whether it lets a connection to ``name`` (lower case, without a final dot) on ``port`` through, as a name."""
        if self.kind == "srv":
            return self.has_port(port) and _is_at_or_below(name, service_base(self.where))
        return self.kind == "host" and self.has_port(port) and matches(self.where, name)

    def covers(self, other: NetworkGrant) -> bool:
        """Whether whatever ``other`` permits is permitted by this one too."""
        if self.kind != other.kind or (other.private and not self.private):
            return False
        if self.sni and not other.sni:
            return False
        if self.upload_bytes is not None and (
            other.upload_bytes is None or other.upload_bytes > self.upload_bytes
        ):
            return False
        ports = all(
            any(low <= first and last <= high for low, high in self.ports)
            for first, last in other.ports
        )
        return ports and _covers_where(self.kind, self.where, other.where)


def matches(pattern: str, name: str) -> bool:
    """Whether ``name`` is the name ``pattern``, or lies below it where it is a wildcard."""
    if pattern.startswith(WILDCARD):
        return name.endswith(pattern[1:]) and len(name) >= len(pattern)
    return name == pattern


def _address(text: str) -> IPv4Address | IPv6Address:
    """Return an address; an IPv4-mapped one is the IPv4 address that it maps. Raises ValueError."""
    from ipaddress import IPv6Address, ip_address  # 4 ms, and most runs need none

    found = ip_address(text)
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _network(cidr: str) -> IPv4Network | IPv6Network:
    from ipaddress import ip_network

    return ip_network(cidr)


def _covers_where(kind: Kind, where: str, other: str) -> bool:
    match kind:
        case "loopback":
            return True
        case "srv":
            return where == other
        case "host":
            return where == other or (
                where.startswith(WILDCARD) and matches(where, other.removeprefix(WILDCARD))
            )
        case "cidr":
            return is_below(other, where)


def is_below(cidr: str, wider: str) -> bool:
    """Whether the network ``cidr`` lies in ``wider``."""
    inner, outer = _network(cidr), _network(wider)
    # One version, so one type, which the checker cannot know.
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def service_base(service: str) -> str:
    """Return the name that targets of ``_service._tcp.domain`` are or lie below."""
    domain = service.split(".")[2:]
    return ".".join(domain[1:] if len(domain) > _MIN_SIBLING_LABELS else domain)


def _is_at_or_below(name: str, apex: str) -> bool:
    return name == apex or matches(WILDCARD + apex, name)


def show_ports(ports: Ports) -> str:
    """Return ports as a grant writes them: 443,8000-8010."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ports)


def merged(ports: Iterable[tuple[int, int]]) -> Ports:
    """Return ranges in order, with those joined that touch or overlap."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ports):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(found)


# --- all grants of a process -----------------------------------------------------------------------------------------------


def collect(grants: Iterable[NetworkGrant], where: Where | None = None) -> tuple[NetworkGrant, ...]:
    """Return the grants of one process, each once, in the order of their texts.

    Raises ConfigError, placed by ``where``, for more ports or networks than can be served, and for two grants of one place
    with different options, of which nobody could say which holds.
    """
    place = where or Where()
    found = tuple(sorted(set(grants), key=str))
    if len(found) > NETWORK_GRANTS:
        raise ConfigError(
            f"{len(found)} network grants of one process; {NETWORK_GRANTS:.0f} can be served", place
        )
    ports = sum(last - first + 1 for first, last in all_ports(found))
    if ports > MAX_PORTS:
        raise ConfigError(f"{ports} ports of one process; {MAX_PORTS} can be served", place)
    networks = sum(grant.kind == "cidr" for grant in found)
    if networks > MAX_CIDRS:
        raise ConfigError(f"{networks} networks of one process; {MAX_CIDRS} can be served", place)
    _refuse_contradictions(found, place)
    return found


def all_ports(grants: Iterable[NetworkGrant]) -> Ports:
    """Return every port of ``grants`` once."""
    return merged(port for grant in grants for port in grant.ports)


def _refuse_contradictions(grants: Sequence[NetworkGrant], place: Where) -> None:
    # Ranges of one grant are disjoint, so that what overlaps here belongs to two.
    ranges = sorted(
        (grant.kind, grant.where, first, last, str(grant))
        for grant in grants
        for first, last in grant.ports
    )
    for (*one, _, last, text), (*two, first, _, other) in pairwise(ranges):
        if one == two and first <= last:
            raise ConfigError(
                "two network grants of one place contradict each other",
                place,
                value=f"{text}; {other}",
                hint="Write one of them, or ports that only one of them has",
            )


def walled(
    grants: Sequence[NetworkGrant],
    *,
    observed_ports: Ports = (),
    observed_cidrs: tuple[str, ...] = (),
) -> Network | None:
    """Return what the sandbox is to build for ``grants``; None where nothing is granted.

    ``observed_*``: what is served too when a run is observed, so that refusals are seen.
    """
    ports = merged((*all_ports(grants), *observed_ports))
    cidrs = dict.fromkeys(grant.where for grant in grants if grant.kind == "cidr")
    loopback = any(grant.kind == "loopback" for grant in grants)
    if not ports and not loopback:
        return None
    return Network(ports=ports, cidrs=(*cidrs, *observed_cidrs), loopback=loopback)


def needs_broker(grants: Iterable[NetworkGrant]) -> bool:
    """Whether something outside is granted."""
    return any(grant.kind != "loopback" for grant in grants)


class Granted:
    """The grants of a process as the broker looks them up: an exact name, then the longest wildcard, then a service."""

    def __init__(self, grants: Iterable[NetworkGrant]) -> None:
        self._names: dict[str, list[NetworkGrant]] = {}
        self._services: list[NetworkGrant] = []
        self._literals: list[tuple[IPv4Network | IPv6Network, NetworkGrant]] = []
        for grant in grants:
            if grant.kind == "host":
                self._names.setdefault(grant.where, []).append(grant)
            elif grant.kind == "srv":
                self._services.append(grant)
            elif grant.kind == "cidr":
                self._literals.append((_network(grant.where), grant))

    def by(self, name: str | None, address: str | None, port: int) -> NetworkGrant | None:
        """Return the grant that lets a connection through; None where none does. ``name`` None: a literal address."""
        if name is None:
            return None if address is None else self._by_address(address, port)
        for pattern in (name, *wildcards(name)):
            for grant in self._names.get(pattern, ()):
                if grant.has_port(port):
                    return grant
        return next((grant for grant in self._services if grant.names(name, port)), None)

    def _by_address(self, address: str, port: int) -> NetworkGrant | None:
        found = _address(address)
        return next(
            (
                grant
                for network, grant in self._literals
                if found in network and grant.has_port(port)
            ),
            None,
        )

    def means(self, name: str) -> bool:
        """Whether some port of ``name`` may be granted."""
        bases = (service_base(grant.where) for grant in self._services)
        return any(pattern in self._names for pattern in (name, *wildcards(name))) or any(
            _is_at_or_below(name, base) for base in bases
        )


def wildcards(name: str) -> Iterator[str]:
    """Yield the wildcards that ``name`` lies below, the closest first."""
    return (f"*{name[at:]}" for at, character in enumerate(name) if character == "." and at > 0)


def enclosing(grant: NetworkGrant) -> Iterator[str]:
    """Yield every place (``NetworkGrant.where``) that holds all of the grant's, itself first."""
    yield grant.where
    if grant.kind == "host":
        yield from wildcards(grant.where.removeprefix(WILDCARD))
    elif grant.kind == "cidr":
        network = _network(grant.where)
        for prefix in range(network.prefixlen - 1, -1, -1):
            yield str(network.supernet(new_prefix=prefix))
