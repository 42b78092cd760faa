"""What the broker tells of a run's processes: checked, counted, and kept within bounds for the report.

The broker is confined and not believed: a process that it does not serve, a connection that no grant lets through, or a count
that falls ends the run. Memory is bounded by NETWORK_REPORTED places a process; what is beyond is counted in one number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from dativo.kernel import network_text, show
from dativo.kernel.limits import NETWORK_EVENTS, NETWORK_NAMES, NETWORK_REPORTED
from dativo.kernel.network import Granted, NetworkGrant, needs_broker
from dativo.protocol import events
from dativo.protocol.errors import ConfigError, InternalError, Where

PROGRAM: Final = "dativo-broker"
LET_THROUGH: Final = frozenset(("ok", "limit_upload"))
MAX_SHOWN: Final = 100
_MAX_EXPLAINED: Final = 3
_MAX_PLACES: Final = 3
_MAX_DETAIL_CHARS: Final = 200
_SLACK_S: Final = 10.0
_BY_POLICY: Final = {
    "host_blocked": "policy: network.blocked",
    "address_blocked": "policy: network.blocked",
    "address_special": "policy: network.permit_special",
    "address_own": "policy: network.permit_special",
    "address_cloud": "policy: network.permit_special",
}


@dataclass(frozen=True, slots=True)
class Reached:
    """A place that a process has sent to: ``grant`` let it through; ``address`` is the last dialled one."""

    grant: str
    place: str
    address: str | None
    connections: int
    up_bytes: int
    down_bytes: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A place that a process was kept from. ``allow`` is the grant, or the key of the policy, that would let it through."""

    place: str
    reason: str
    count: int
    detail: str | None
    allow: str | None

    @property
    def of_any_port(self) -> str:
        """Return what to know beside ``allow`` when a name was asked for and no port is known; else nothing."""
        if self.allow is None or self.allow.startswith("policy: ") or ":" in self.allow:
            return ""
        return f" (that is port 443; another is {self.allow}:PORT)"


@dataclass(frozen=True, slots=True)
class NetworkReport:
    """The network of one process. ``refused`` are connections, ``names_refused`` distinct names.

    ``suppressed`` connections are counted and in no list; ``left_out`` lines are not here.

    ``proposed``: of an observed run, the grants that would have been needed, most used first; None for any other.
    """

    process: str
    granted: tuple[str, ...]
    connections: int
    refused: int
    names_refused: int
    up_bytes: int
    down_bytes: int
    lookups: int
    suppressed: int
    reached: tuple[Reached, ...]
    refusals: tuple[Refused, ...]
    left_out: int
    proxied: bool
    proposed: tuple[str, ...] | None


@dataclass(slots=True)
class _Counted:
    """All connections to one place with one verdict."""

    connections: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    address: str | None = None
    detail: str | None = None


_Key = tuple[str | None, str | None, int, str]


@dataclass(slots=True)
class ProcessRecord:
    """What one process did on its network."""

    grants: tuple[NetworkGrant, ...]
    places: dict[_Key, _Counted] = field(default_factory=dict)
    lookups: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    totals: events.ClientTotals | None = None
    connections: int = 0
    refused: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    left_out: int = 0
    lookups_told: int = 0
    _granted: Granted = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._granted = Granted(self.grants)

    def connected(self, told: events.Connection, seconds: float) -> None:
        """Count a connection, told after the broker has served for ``seconds``.

        Raises InternalError for one that no grant lets through, and for more than are told one by one: each is in the audit.
        """
        passed = told.verdict in LET_THROUGH or told.up_bytes > 0
        if passed and self._granted.by(told.name, told.address, told.port) is None:
            raise _lie(f"let through what is not granted: {_place(told)}")
        self.connections += 1
        if self.connections > NETWORK_EVENTS * (seconds + _SLACK_S):
            raise _lie(f"tells more than {NETWORK_EVENTS:.0f} connections a second")
        self.refused += told.verdict not in LET_THROUGH
        self.up_bytes += told.up_bytes
        self.down_bytes += told.down_bytes
        address = None if told.name is not None else told.address
        key = (told.name, address, told.port, told.verdict)
        counted = self.places.get(key)
        if counted is None:
            if len(self.places) >= NETWORK_REPORTED:
                self.left_out += 1
                return
            counted = self.places[key] = _Counted()
        counted.connections += 1
        counted.up_bytes += told.up_bytes
        counted.down_bytes += told.down_bytes
        counted.address = told.address or counted.address
        if told.detail is not None:
            counted.detail = show.foreign(told.detail, max_chars=_MAX_DETAIL_CHARS)

    def looked_up(self, told: events.Lookup) -> None:
        """Note a name that was refused. Raises InternalError for a count that falls, and for more than there can be."""
        self.lookups_told += 1
        if self.lookups_told > 2 * NETWORK_NAMES:  # each at first and at the end
            raise _lie(f"tells of more than {NETWORK_NAMES:.0f} refused names")
        key = (told.name, told.kind)
        _, before = self.lookups.get(key, ("", 0))
        if told.count < max(before, 1):
            raise _lie(f"counts {told.count} lookups of {told.name} after {before}")
        if key not in self.lookups and len(self.lookups) >= NETWORK_REPORTED:
            self.left_out += 1
            return
        self.lookups[key] = (told.verdict, told.count)

    def ended(self, totals: events.ClientTotals) -> None:
        """Take the totals. Raises InternalError when they are less than what was told one by one."""
        for what in ("connections", "refused", "up_bytes", "down_bytes"):
            if getattr(totals, what) < getattr(self, what):
                raise _lie(f"counts fewer {what} of {totals.client} than it has told")
        if self.totals is not None:
            raise _lie(f"tells the totals of {totals.client} twice")
        self.totals = totals

    # --- for the report ------------------------------------------------------------------------------------------------

    def reached(self) -> list[Reached]:
        """Return what was sent to, most used first."""
        found = []
        for (name, address, port, verdict), counted in self.places.items():
            grant = self._granted.by(name, address, port)
            if verdict in LET_THROUGH and grant is not None:
                found.append(
                    Reached(
                        str(grant),
                        place(name, address, port),
                        counted.address,
                        counted.connections,
                        counted.up_bytes,
                        counted.down_bytes,
                    )
                )
        return sorted(found, key=lambda each: (-each.connections, each.place))

    def refusals(self) -> list[Refused]:
        """Return what was refused, most often first; an upload that was cut stands here too."""
        found = []
        for (name, address, port, verdict), counted in self.places.items():
            if verdict == "ok":
                continue
            allow = self._allow(name, address, port, verdict)
            found.append(
                Refused(
                    place(name, address, port), verdict, counted.connections, counted.detail, allow
                )
            )
        connected = {name for name, *_ in self.places}
        names: dict[str, tuple[str, int]] = {}
        for (name, _), (verdict, count) in self.lookups.items():
            # A name that was connected to all the same (an observed one) is told with its port.
            if name.lower().removesuffix(".") not in connected:
                names[name] = (verdict, max(count, names.get(name, ("", 0))[1]))
        for name, (verdict, count) in names.items():
            allow = _name_grant(name) if verdict == "not_granted" else None
            found.append(Refused(name, verdict, count, None, allow))
        return sorted(found, key=lambda each: (-each.count, each.place))

    def proposed(self) -> list[str]:
        """Return the grants that would have let the refused connections through, most used first."""
        return list(
            dict.fromkeys(
                each.allow
                for each in self.refusals()
                if each.allow is not None
                and not each.allow.startswith("policy: ")
                and ":" in each.allow
            )
        )

    def _allow(self, name: str | None, address: str | None, port: int, verdict: str) -> str | None:
        if verdict in _BY_POLICY:
            return _BY_POLICY[verdict]
        if verdict == "not_granted":
            return _grant_text(name, address, port)
        grant = self._granted.by(name, address, port)
        if grant is None:
            return None
        match verdict:
            case "address_private":
                return str(replace(grant, private=True))
            case "sni_mismatch" | "sni_missing":
                return str(replace(grant, sni=False))
            case "limit_upload":
                return str(replace(grant, upload_bytes=None))
            case _:
                return None

    def explanation(self, written_in: str) -> str | None:
        """Return what was refused and the grant to write, which stands in ``written_in``; None where nothing was refused."""
        refusals = self.refusals()
        parts = []
        for each in refusals[:_MAX_EXPLAINED]:
            text = f"{each.place} was refused ({each.reason}{_because(each.detail)})"
            if each.allow is not None:
                by_policy = each.allow.startswith("policy: ")
                where = "" if by_policy else f" in {written_in}"
                text += f", to allow it: {each.allow}{where}{each.of_any_port}"
            parts.append(text)
        if len(refusals) > len(parts):
            parts.append(f"{len(refusals) - len(parts)} more places were refused")
        return "; ".join(parts) or None


def _because(detail: str | None) -> str:
    return f": {detail}" if detail else ""


class NetworkRecord:
    """The networks of a run's processes, by process name. ``processes`` are those that a broker serves.

    ``observed``: all of them, whatever they are granted.
    """

    def __init__(
        self,
        clients: Mapping[str, tuple[NetworkGrant, ...]],
        *,
        observed: bool = False,
        proxied: bool = False,
    ) -> None:
        self.processes = {
            name: ProcessRecord(grants)
            for name, grants in clients.items()
            if observed or needs_broker(grants)
        }
        self.observed = observed
        self.proxied = proxied
        self._clients = dict(clients)

    def of(self, client: str) -> ProcessRecord:
        """Return the record of a process. Raises InternalError for one that the broker does not serve."""
        found = self.processes.get(client)
        if found is None:
            raise _lie(f"speaks of {client!r}, which it does not serve")
        return found

    def places(self, client: str) -> str:
        """Return in a few words what a process is granted; empty for nothing."""
        found = [grant.place for grant in self._clients.get(client, ())]
        more = f" and {len(found) - _MAX_PLACES} more" if len(found) > _MAX_PLACES else ""
        return ",".join(found[:_MAX_PLACES]) + more

    def ended(self, told: events.Finished) -> None:
        """Take the totals of every process. Raises InternalError when they are not those of all."""
        if sorted(each.client for each in told.clients) != sorted(self.processes):
            raise _lie("tells the totals of other processes than it served")
        for each in told.clients:
            self.of(each.client).ended(each)

    def reports(self) -> tuple[NetworkReport, ...]:
        """Return the network of each process."""
        return tuple(self._report(name, record) for name, record in self.processes.items())

    def _report(self, name: str, record: ProcessRecord) -> NetworkReport:
        reached, refusals = record.reached(), record.refusals()
        totals = record.totals
        told = totals or record
        more = max(0, len(reached) - MAX_SHOWN) + max(0, len(refusals) - MAX_SHOWN)
        return NetworkReport(
            process=name,
            granted=tuple(map(str, record.grants)),
            connections=told.connections,
            refused=told.refused,
            names_refused=len({name for name, _ in record.lookups}),
            up_bytes=told.up_bytes,
            down_bytes=told.down_bytes,
            lookups=totals.lookups if totals is not None else 0,
            suppressed=totals.suppressed if totals is not None else 0,
            reached=tuple(reached[:MAX_SHOWN]),
            refusals=tuple(refusals[:MAX_SHOWN]),
            left_out=record.left_out + more,
            proxied=self.proxied,
            proposed=tuple(record.proposed()[:MAX_SHOWN]) if self.observed else None,
        )


def place(name: str | None, address: str | None, port: int) -> str:
    """Return a place as grants write it."""
    if name is None and address is not None and ":" in address:
        return f"[{address}]:{port}"
    return f"{name or address or '?'}:{port}"


def _place(told: events.Connection) -> str:
    return place(told.name, told.address, told.port)


def _grant_text(name: str | None, address: str | None, port: int) -> str | None:
    """Return the canonical grant of a place, where there can be one."""
    try:
        return str(network_text.parse(place(name, address, port)))
    except ConfigError:
        return None


def _name_grant(name: str) -> str | None:
    """Return the grant of a name whose port is not known: the name, which is then port 443."""
    try:
        return network_text.pattern(name)
    except ConfigError:
        return None


def _lie(message: str) -> InternalError:
    return InternalError(f"{PROGRAM} {message}", Where(plugin=PROGRAM))
