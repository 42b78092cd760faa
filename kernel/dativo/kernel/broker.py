"""``dativo-broker``: the one process of a run through which everything goes that leaves it (docs/spec/network.md).

It is confined, with an own identity and no files, and has the machine's network. What listens in the namespace of a process with
a network grant is handed to it as that starts; the kernel gives it its orders, checks and keeps what it tells, and ends it.
In a loop of one's own::

    start_broker(processes, selector, networks, on_ready)  # before the processes that it serves
    for key, mask in selector.select(0.1):
        if key.data is broker:
            broker.take(mask)
    broker.watch()                                         # every 100 ms
    broker.conclude()                                      # when they have ended
"""

from __future__ import annotations

import fcntl
import select
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from dativo.kernel import limits, network_text, registry, show, trust, walls
from dativo.kernel.audit import Audit
from dativo.kernel.network import Granted, NetworkGrant, Ports, walled
from dativo.kernel.network_policy import NetworkPolicy
from dativo.kernel.network_record import PROGRAM, NetworkRecord
from dativo.kernel.own_addresses import own_networks
from dativo.kernel.paths import Paths
from dativo.kernel.peer import Peer, await_message, greet, last_line
from dativo.kernel.processes import Processes, Service, own_identity, tool_limits
from dativo.protocol import control, events
from dativo.protocol.errors import ConfigError, InternalError, ProtocolViolation, Where
from dativo.sandbox import Confined, Grants, Network, Program, WallMissing

_DIES_WITHIN_S: Final = 2.0
_TICK_S: Final = 0.002
_SIOCOUTQ: Final = 0x5411  # unix(7): bytes that the other end has not taken
# What an observed process may connect to, so that it is seen: ports that services are usually found at.
OBSERVED_PORTS: Final[Ports] = (
    (21, 22), (25, 25), (80, 80), (88, 88), (110, 110), (143, 143), (389, 389), (443, 443), (445, 445), (465, 465),
    (587, 587), (636, 636), (990, 990), (993, 993), (995, 995), (1433, 1434), (1521, 1521), (2181, 2181), (2222, 2222),
    (3000, 3000), (3128, 3128), (3306, 3306), (4222, 4222), (4443, 4443), (5000, 5001), (5432, 5439), (5671, 5672),
    (5984, 5984), (6333, 6334), (6379, 6380), (6432, 6432), (6543, 6543), (7000, 7001), (7077, 7077), (7687, 7687),
    (8000, 8010), (8080, 8090), (8123, 8123), (8125, 8125), (8443, 8443), (8529, 8529), (8812, 8812), (8883, 8883),
    (8888, 8889), (9000, 9010), (9042, 9042), (9090, 9099), (9142, 9142), (9200, 9200), (9300, 9300), (9440, 9440),
    (9999, 10000), (11211, 11211), (15672, 15672), (18080, 18080), (19530, 19530), (25060, 25061),
    (26257, 26257), (27017, 27019), (28015, 28015), (50000, 50001), (50051, 50051), (61616, 61616),
)  # fmt: skip
OBSERVED_CIDRS: Final = ("0.0.0.0/0", "::/0")

_RESOLV_CONF: Final = Path("/etc/resolv.conf")
_HOSTS: Final = Path("/etc/hosts")
_DEFAULT_RESOLVER: Final = "127.0.0.1:53"  # resolv.conf(5)
_MAX_RESOLVERS: Final = 8
_MAX_HOSTS: Final = 10_000
_MAX_FILE_BYTES: Final = 4 * limits.MIB


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of a run before it starts: what each process, by the name of its program, is granted, and by which policy.

    ``observe``: refusals of every process are told with their ports, whatever it is granted. ``record`` is filled by the broker.
    ``facts`` go with every line of the audit.
    """

    clients: Mapping[str, tuple[NetworkGrant, ...]]
    policy: NetworkPolicy
    audit: Audit
    observe: bool = False
    facts: Mapping[str, object] = field(default_factory=dict)
    record: NetworkRecord = field(init=False)

    def __post_init__(self) -> None:
        record = NetworkRecord(
            self.clients, observed=self.observe, proxied=self.policy.proxy is not None
        )
        object.__setattr__(self, "record", record)

    @property
    def needed(self) -> bool:
        """Whether a process is to be served."""
        return bool(self.record.processes)

    def network(self, client: str) -> Network | None:
        """Return what the sandbox is to build for a process that is served."""
        grants = self.record.of(client).grants
        if not self.observe:
            return walled(grants)
        return walled(grants, observed_ports=OBSERVED_PORTS, observed_cidrs=OBSERVED_CIDRS)


class Broker(Peer):
    """A started broker that has understood its orders."""

    def __init__(
        self,
        confined: Confined,
        sock: socket.socket,
        selector: selectors.BaseSelector,
        networks: Networks,
    ) -> None:
        super().__init__(PROGRAM, confined, sock, selector)
        self.networks = networks
        self._finished = False
        self._opened_at = time.monotonic()

    def take(self, mask: int) -> None:
        """Read, check and keep what it tells. Raises InternalError for what it may not say, ConfigError, and AuditFailed."""
        try:
            self._hear(self.ready(mask))
        except ProtocolViolation as error:
            raise _broken(error) from error

    def watch(self) -> None:
        """Keep its limits; raise InternalError when it has ended before it was told to."""
        self.confined.watch()
        if self.exit is not None or (ended := self.confined.poll_exit()) is None:
            return
        self.exit = ended
        try:
            self._hear(self.drain())
        except ProtocolViolation as error:
            raise _broken(error) from error
        if not self._finished or ended.code != 0:
            raise InternalError(
                f"{PROGRAM} ended before the run: {ended.detail or f'status {ended.code}'}",
                Where(plugin=PROGRAM),
                value=last_line(self.confined),
            )

    def conclude(self) -> None:
        """End it: it tells what is left. Blocks for at most BROKER_FINISH_TIMEOUT_S. Raises InternalError, AuditFailed."""
        if self.has_ended():
            return
        self.send({"type": "finish"})
        deadline = time.monotonic() + limits.BROKER_FINISH_TIMEOUT_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            selector.register(self.confined.report_fd, selectors.EVENT_READ)
            while not self.has_ended():
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.confined.kill()
                    raise InternalError(
                        f"{PROGRAM} did not end within {limits.BROKER_FINISH_TIMEOUT_S:.0f} s",
                        Where(plugin=PROGRAM),
                    )
                self.take(selectors.EVENT_READ | selectors.EVENT_WRITE)
                if self._sock not in self._selector.get_map() and self._sock in selector.get_map():
                    selector.unregister(self._sock)  # at its end, and so readable for ever
                self.watch()

    def _hear(self, arrived: Iterable[control.Event]) -> None:
        lines: list[dict[str, object]] = []
        try:
            for event in arrived:
                lines += self._one(events.parse(event))
        finally:
            self.networks.audit.write_all(lines)

    def _one(self, message: events.ControlMessage) -> list[dict[str, object]]:
        """Deal with one message; return what the audit keeps of it."""
        record = self.networks.record
        if self._finished:
            raise InternalError(f"{PROGRAM} speaks after its end", Where(plugin=PROGRAM))
        match message:
            case events.Connection():
                seconds = time.monotonic() - self._opened_at
                record.of(message.client).connected(message, seconds)
                return [self._line("connection", message)]
            case events.Lookup():
                record.of(message.client).looked_up(message)
                return [self._line("lookup_refused", message)]
            case events.Finished():
                record.ended(message)
                self._finished = True
                return [self._line("network_ended", each) for each in message.clients]
            case events.Failure():
                raise failure(message)
            case _:
                raise InternalError(f"{PROGRAM} said what it may not", Where(plugin=PROGRAM))

    def _line(
        self, event: str, told: events.Connection | events.Lookup | events.ClientTotals
    ) -> dict[str, object]:
        return {"event": event, **self.networks.facts, **asdict(told)}


def failure(said: events.Failure) -> ConfigError | InternalError:
    """Return the error of a broker that gives up: orders that cannot be obeyed are the policy's, anything else is its own."""
    kind = ConfigError if said.code.startswith("config.network") else InternalError
    return kind(
        f"{show.foreign(said.code)}: {show.foreign(said.message)}",
        Where(plugin=PROGRAM),
        value=show.foreign(said.value) if said.value is not None else None,
    )


def _broken(error: ProtocolViolation) -> InternalError:
    return InternalError(
        f"{PROGRAM} broke the protocol: {error.message}", Where(plugin=PROGRAM), value=error.value
    )


class Starting:
    """A broker that comes up beside other launches; it is waited for when the first process that it serves is to start."""

    def __init__(
        self,
        processes: Processes,
        selector: selectors.BaseSelector,
        networks: Networks,
        on_ready: Callable[[Broker], None],
    ) -> None:
        self._processes = processes
        self._selector = selector
        self._networks = networks
        self._on_ready = on_ready
        self._orders = control.encode(
            _orders(networks, networks.policy.proxy_authorization(processes.env))
        )
        self._broker: Broker | None = None
        stack = processes.stack
        binary = registry.executable(PROGRAM, processes.env)
        identity = stack.enter_context(own_identity())
        self._sock, control_end = socket.socketpair()
        self.sockets, stdin_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._sock, self.sockets):
            stack.callback(end.close)
        with control_end, stdin_end, walls.starting(PROGRAM, InternalError):
            self._launching = processes.begin(
                Program(name="broker", argv=(str(binary),), runtime=(binary,), bare=True),
                _grants(),
                identity,
                stdin=stdin_end.fileno(),
                control=control_end.fileno(),
            )

    def ready(self) -> None:
        """Wait until it has understood its orders, and see that it still runs.

        Raises InternalError, ConfigError and the sandbox's errors.
        """
        if self._broker is not None:
            self._broker.watch()
            return
        with walls.starting(PROGRAM, InternalError):
            confined = self._processes.finish(self._launching)
        try:
            session = greet(PROGRAM, confined, self._sock)
            self._order()
            answer = await_message(PROGRAM, confined, self._sock, "opened")
        except ProtocolViolation as error:
            raise _broken(error) from error
        if isinstance(answer, events.Failure):
            raise failure(answer)
        wanted = sorted(self._networks.record.processes)
        if not isinstance(answer, events.Served) or sorted(answer.clients) != wanted:
            raise InternalError(f"{PROGRAM} did not understand its orders", Where(plugin=PROGRAM))
        broker = Broker(confined, self._sock, self._selector, self._networks)
        self._processes.stack.callback(broker.close)
        broker.session = session
        self._broker = broker
        self._on_ready(broker)

    def refused(self) -> None:
        """Raise InternalError where it has died, or does so within a moment: its sockets close before its end is reported."""
        if self._broker is not None:
            poll = select.poll()
            poll.register(self._broker.confined.report_fd, select.POLLIN)
            poll.poll(_DIES_WITHIN_S * 1000)
            self._broker.watch()

    def taken(self) -> None:
        """Wait until it has taken every socket that was handed to it.

        Raises WallMissing when it does not within BROKER_SOCKETS_TIMEOUT_S, though it lives; InternalError when it has died.
        """
        deadline = time.monotonic() + limits.BROKER_SOCKETS_TIMEOUT_S
        while _untaken(self.sockets):
            if self._broker is not None:
                self._broker.watch()
            if time.monotonic() > deadline:
                raise WallMissing(
                    "network",
                    f"the broker did not take its sockets within {limits.BROKER_SOCKETS_TIMEOUT_S:.0f} s",
                )
            time.sleep(_TICK_S)

    def _order(self) -> None:
        self._sock.settimeout(limits.HELLO_TIMEOUT_S)
        try:
            self._sock.sendall(self._orders)
        except OSError as error:
            raise InternalError(
                f"{PROGRAM} did not take its orders: {error}", Where(plugin=PROGRAM)
            ) from error


def start_broker(
    processes: Processes,
    selector: selectors.BaseSelector,
    networks: Networks,
    on_ready: Callable[[Broker], None],
) -> None:
    """Begin to start the broker of a run, where one is needed, and have ``processes`` serve its clients with it.

    When the first of these starts it is waited for, registers itself (its key's data is the Broker) and is given to ``on_ready``.
    It ends with ``processes.stack``. Raises InternalError and the sandbox's errors; what fails later ``processes.start`` raises.
    """
    if not networks.needed:
        return
    ca = networks.policy.ca
    starting = Starting(processes, selector, networks, on_ready)
    processes.service = Service(
        starting.sockets.fileno(),
        {name: networks.network(name) for name in networks.record.processes},
        starting.ready,
        starting.refused,
        starting.taken,
        trust.prepare(ca, Paths.from_environment(processes.env).state) if ca is not None else None,
    )


def _untaken(sock: socket.socket) -> bool:
    """Whether packets that were sent wait to be read: until then, or until the reader is gone, they count as their sender's."""
    (waiting,) = struct.unpack("i", fcntl.ioctl(sock, _SIOCOUTQ, bytes(4)))
    return bool(waiting)


def _grants() -> Grants:
    bounds = replace(
        tool_limits(limits.BROKER_MEMORY_BYTES), open_files=int(limits.BROKER_OPEN_FILES)
    )
    return Grants(host_network=True, limits=bounds)


# --- its orders ------------------------------------------------------------------------------------------------------------


def _orders(networks: Networks, authorization: str | None = None) -> dict[str, object]:
    """Return them; ``authorization`` is a secret of the proxy's."""
    policy = networks.policy
    return {
        "type": "open",
        "clients": [
            {
                "name": name,
                "grants": [rule for grant in each.grants if (rule := grant.rule()) is not None],
            }
            for name, each in networks.record.processes.items()
        ],
        "blocked_hosts": list(policy.blocked_hosts),
        "blocked": list(policy.blocked),
        "permit_special": list(policy.permit_special),
        "own": list(own_networks()),
        "resolvers": list(policy.resolvers or resolvers(_read(_RESOLV_CONF))),
        "hosts": hosts(
            _read(_HOSTS), [grant for grants in networks.clients.values() for grant in grants]
        ),
        "proxy": policy.proxy,
        "proxy_authorization": authorization,
        "observe": networks.observe,
        "limits": {
            "max_connections": int(limits.NETWORK_CONNECTIONS),
            "max_rate": int(limits.NETWORK_RATE),
            "max_names": int(limits.NETWORK_NAMES),
            "connect_timeout_s": int(limits.NETWORK_CONNECT_TIMEOUT_S),
            "max_events_per_s": int(limits.NETWORK_EVENTS),
        },
    }


def _read(file: Path) -> str:
    """Return a file of the machine's configuration; it is empty where there is none. Raises ConfigError."""
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(_MAX_FILE_BYTES)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}", Where(file=str(file))) from error


def resolvers(text: str) -> list[str]:
    """Return the resolvers of resolv.conf(5), at most eight; a link-local one, which needs a zone, is left out."""
    found = []
    for words in map(str.split, text.splitlines()):
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(network_text.endpoint(words[1], 53))
            except ConfigError:
                continue  # as the C library does
    return found[:_MAX_RESOLVERS] or [_DEFAULT_RESOLVER]


def hosts(text: str, grants: Iterable[NetworkGrant]) -> list[list[str]]:
    """Return names and addresses of hosts(5) that a grant may mean; what no grant names stays here."""
    from ipaddress import ip_address

    granted = Granted(grants)
    found = []
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        wanted = [name for name in map(str.lower, names) if granted.means(name)]
        try:
            ip_address(address)
        except ValueError:
            continue  # as the C library does
        if "%" not in address:
            found += [[name, address] for name in wanted]
    return found[:_MAX_HOSTS]
