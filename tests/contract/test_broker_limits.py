"""Limits, what is told of them, and how the broker ends (docs/spec/network.md, Limits and Messages)."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest
from tests.contract.broker_kernel import DEADLINE_S, Broker, Event, Inside, host, opening, was_reset
from tests.contract.broker_servers import Server, read_all

NAME = "api.example.com"
MIB = 1 << 20


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(
    stack: ExitStack, server: Server, *, open_files: int | None = None, **more: Any
) -> Broker:
    """Start a broker whose client may reach ``server`` as ``NAME``."""
    more.setdefault("hosts", [[NAME, "127.0.0.1"]])
    grants = more.pop("grants", [host(NAME, server.port)])
    orders = opening(grants, **more)
    return stack.enter_context(Broker(orders, ports=[server.port], open_files=open_files))


@pytest.fixture
def server(stack: ExitStack) -> Server:
    return stack.enter_context(Server())


def talk(broker: Broker, port: int, said: bytes = b"x") -> bytes | None:
    """Say something and hear the answer; None where it was reset."""
    try:
        with broker.connect(NAME, port) as client:
            client.sendall(said)
            client.shutdown(socket.SHUT_WR)
            return read_all(client)
    except OSError:
        return None


# --- limits


def test_open_connections_are_bounded(stack: ExitStack, server: Server) -> None:
    broker = start(stack, server, limits={"max_connections": 3})
    kept = [stack.enter_context(broker.connect(NAME, server.port)) for _ in range(3)]
    event = broker.refusal(NAME, server.port)
    assert (event["verdict"], event["name"]) == ("limit_connections", NAME)
    kept[0].shutdown(socket.SHUT_WR)
    assert read_all(kept[0]) == b""
    broker.expect("connection")
    assert talk(broker, server.port) == b"X"


def test_new_connections_have_a_rate(stack: ExitStack, server: Server) -> None:
    broker = start(stack, server, limits={"max_rate": 1})
    address = broker.address(NAME)
    begun = time.monotonic()
    for _ in range(30):
        with suppress(ConnectionResetError):
            broker.connect(address, server.port).close()
    took = time.monotonic() - begun
    verdicts = [broker.expect("connection")["verdict"] for _ in range(30)]
    # Ten seconds' worth at once, and what has come since.
    assert 10 <= verdicts.count("ok") <= 11 + took
    assert verdicts.count("ok") + verdicts.count("limit_rate") == 30


def test_an_upload_ends_at_its_limit(stack: ExitStack) -> None:
    taken: list[int] = []

    def handle(stream: socket.socket) -> None:
        count = 0
        with suppress(ConnectionResetError):
            while some := stream.recv(65536):
                count += len(some)
                stream.sendall(b"y")
        taken.append(count)

    server = stack.enter_context(Server(handle))
    broker = start(stack, server, grants=[host(NAME, server.port, upload_bytes=100_000)])
    for said, expected in [(60_000, "ok"), (60_000, "limit_upload"), (1, "limit_upload")]:
        with broker.connect(NAME, server.port) as client:
            try:
                client.sendall(bytes(said))
                client.shutdown(socket.SHUT_WR)
                read_all(client)
            except OSError:
                assert expected != "ok"
        assert broker.expect("connection")["verdict"] == expected
    assert [event["up_bytes"] for event in broker.of("connection")] == [60_000, 40_000, 0]
    # Who sends nothing is let through.
    with broker.connect(NAME, server.port) as client:
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
    assert broker.expect("connection")["verdict"] == "ok"
    totals = broker.finish()
    assert (totals["up_bytes"], totals["refused"]) == (100_000, 0)


def test_an_upload_is_limited_per_grant(stack: ExitStack, server: Server) -> None:
    other = "other.example.com"
    grants = [host(NAME, server.port, upload_bytes=10), host("*.example.com", server.port)]
    broker = start(stack, server, grants=grants, hosts=[[NAME, "127.0.0.1"], [other, "127.0.0.1"]])
    assert talk(broker, server.port, bytes(11)) is None
    with broker.connect(other, server.port) as client:
        client.sendall(bytes(11))
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == bytes(11)


def test_connections_beyond_a_rate_are_counted(stack: ExitStack, server: Server) -> None:
    broker = start(stack, server, limits={"max_events_per_s": 1})
    for _ in range(50):
        assert talk(broker, server.port) == b"X"
    totals = broker.finish()
    told = len(broker.of("connection"))
    assert 1 <= told < 50
    assert (totals["connections"], totals["suppressed"]) == (50, 50 - told)
    assert totals["up_bytes"] == totals["down_bytes"] == 50


def test_a_kernel_that_does_not_listen_holds_nothing_up(stack: ExitStack, server: Server) -> None:
    broker = start(stack, server, limits={"max_events_per_s": 1_000_000, "max_rate": 1_000_000})
    address = broker.address(NAME)
    for _ in range(3000):
        with closing(broker.connect(address, server.port)) as client:
            client.sendall(b"x")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(2) == b"X"
    totals = broker.finish()
    told = len(broker.of("connection"))
    assert totals["connections"] == 3000 == told + totals["suppressed"]
    assert totals["suppressed"] > 0


def test_a_thousand_connections_in_little_memory(stack: ExitStack) -> None:
    wanted, soft_hard = 1024, resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft_hard[1] < 3 * wanted:
        pytest.skip(f"open files are limited to {soft_hard[1]}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft_hard[1], soft_hard[1]))
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, soft_hard)

    def handle(stream: socket.socket) -> None:
        # More than the sockets hold: what is left waits in the broker.
        stream.settimeout(1.0)
        with suppress(TimeoutError):
            stream.sendall(bytes(MIB))
        stream.settimeout(DEADLINE_S)
        read_all(stream)

    server = stack.enter_context(Server(handle))
    broker = start(stack, server, limits={"max_rate": 1_000_000})
    address = broker.address(NAME)
    kept = [stack.enter_context(broker.connect(address, server.port)) for _ in range(wanted)]
    for client in kept:
        client.sendall(b"hello")
    for client in kept:
        assert client.recv(1) == b"\0"
    assert broker.refusal(address, server.port)["verdict"] == "limit_connections"
    assert broker.memory_bytes() < 64 * MIB
    idle = broker.cpu_s()
    time.sleep(1.0)
    assert broker.cpu_s() - idle < 0.3
    assert broker.finish()["connections"] == wanted + 1


def test_without_descriptors_it_waits_and_does_not_spin(stack: ExitStack, server: Server) -> None:
    broker = start(stack, server, open_files=30)
    address = broker.address(NAME)
    kept = []
    for _ in range(60):
        # One that it has taken and cannot dial on is reset, on a busy machine before connect(2) has returned.
        with suppress(ConnectionResetError):
            kept.append(stack.enter_context(broker.connect(address, server.port)))
    busy = broker.cpu_s()
    time.sleep(1.0)
    assert broker.cpu_s() - busy < 0.3
    for client in kept:
        client.close()
    deadline = time.monotonic() + DEADLINE_S
    while talk(broker, server.port) != b"X":
        assert time.monotonic() < deadline
    assert broker.finish()["connections"] > 60


# --- observing


def test_an_observed_refusal_tells_name_and_port(stack: ExitStack, server: Server) -> None:
    broker = start(stack, server, observe=True, grants=[host("other.example.com", server.port)])
    event = broker.refusal("evil.test", server.port)
    assert (event["verdict"], event["name"], event["port"]) == (
        "not_granted",
        "evil.test",
        server.port,
    )
    (lookup,) = broker.of("lookup")
    assert (lookup["name"], lookup["verdict"]) == ("evil.test", "not_granted")
    assert server.peers == []


# --- the end


def test_the_end_of_the_run_ends_connections(stack: ExitStack) -> None:
    taken: list[bytes] = []
    server = stack.enter_context(Server(lambda stream: taken.append(read_all(stream))))
    broker = start(stack, server)
    with broker.connect(NAME, server.port) as client:
        client.sendall(b"last words")
        deadline = time.monotonic() + DEADLINE_S
        while not server.peers:
            assert time.monotonic() < deadline
        totals = broker.finish()
        assert was_reset(client)
    assert (totals["connections"], totals["up_bytes"]) == (1, 10)
    (event,) = broker.of("connection")
    assert (event["verdict"], event["detail"]) == ("ok", "ended with the run")
    stack.close()
    assert taken == [b"last words"]


def test_what_a_dead_client_had_sent_still_arrives(stack: ExitStack) -> None:
    taken: list[int] = []

    def handle(stream: socket.socket) -> None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        time.sleep(0.2)
        taken.append(len(read_all(stream)))

    server = stack.enter_context(Server(handle))
    broker = start(stack, server)
    with broker.connect(NAME, server.port) as client:
        client.sendall(bytes(4 * MIB))
    assert broker.finish()["up_bytes"] == 4 * MIB
    deadline = time.monotonic() + DEADLINE_S
    while not taken and time.monotonic() < deadline:
        time.sleep(0.01)
    assert taken == [4 * MIB]


def test_a_finish_does_not_wait_for_a_name_or_a_server(stack: ExitStack) -> None:
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with silent:
        silent.bind(("127.0.0.1", 0))
        resolver = f"127.0.0.1:{silent.getsockname()[1]}"
        server = stack.enter_context(Server())
        broker = start(stack, server, hosts=[], resolvers=[resolver])
        with broker.connect(NAME, server.port):
            silent.settimeout(DEADLINE_S)
            silent.recv(512)
            begun = time.monotonic()
            assert broker.finish()["refused"] == 1
            assert time.monotonic() - begun < 2
    assert broker.of("connection")[0]["detail"] == "the run ended"


def test_without_a_kernel_it_ends(stack: ExitStack, server: Server) -> None:
    broker = start(stack, server)
    with broker.connect(NAME, server.port) as client:
        broker.close_control()
        assert broker.wait() == 1
        # It reads an end or a reset, whatever was on its way.
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""


# --- orders


def refused(orders: Event) -> tuple[int | None, Event]:
    with Broker(orders, served=False) as broker:
        error = broker.fails()
    return broker.status, error


def test_orders_that_cannot_be_obeyed() -> None:
    status, error = refused(opening([{"host": "*.com", "ports": [[443, 443]]}]))
    assert (status, error["code"]) == (3, "config.network_grant") and "*.com" in error["message"]
    unfit: list[tuple[Event, str]] = [
        ({"blocked": ["10.0.0.1/8"]}, "blocked"),
        ({"proxy": "http://proxy:3128"}, "proxy"),
        ({"resolvers": ["resolver.test:53"]}, "resolvers"),
        ({"limits": {"max_rate": 0}}, "limits"),
    ]
    for more, field in unfit:
        status, error = refused(opening([], **more))
        assert (status, error["code"], error["field"]) == (3, "config.network", field)
    status, error = refused({"type": "finish"})
    assert (status, error["code"]) == (1, "internal.control")
    status, error = refused({"type": "open"})
    assert (status, error["code"]) == (1, "internal.control")


def hand(broker: Broker, message: object, *sockets: socket.socket) -> None:
    text = message if isinstance(message, bytes) else json.dumps(message).encode()
    socket.send_fds(broker.sockets, [text], [one.fileno() for one in sockets])


def packet(client: str = "source", kind: str = "tcp", **more: object) -> Event:
    return {
        "client": client,
        "part": 0,
        "parts": 1,
        "sockets": [{"kind": kind, "port": 1, "family": 4}],
        **more,
    }


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (packet(client="nobody"), 1),
        (packet(kind="raw"), 1),
        (packet(kind="dns_udp"), 1),
        (packet(part=1), 1),
        (packet(parts=10_000), 1),
        (packet(), 0),
        (packet(), 2),
        (b"not json", 1),
        (b"x" * 40_000, 1),
    ],
)
def test_sockets_that_are_not_as_said(message: object, count: int) -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(opening([]), served=False))
        broker.expect("opened")
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        hand(broker, message, *listeners)
        assert broker.fails()["code"] == "internal.sockets"
        assert broker.status == 1


def test_two_clients_have_their_own_grants_and_counts(stack: ExitStack, server: Server) -> None:
    orders = opening([host(NAME, server.port)], hosts=[[NAME, "127.0.0.1"]])
    orders["clients"].append({"name": "target", "grants": [host("other.test", server.port)]})
    broker = stack.enter_context(Broker(orders, ports=[server.port]))
    assert talk(broker, server.port) == b"X"
    other = stack.enter_context(Inside())
    broker.serve(other, "target", [server.port], [])
    with closing(broker.connect(NAME, server.port)) as client:
        address = client.getpeername()
    # The same address is nobody's there.
    with (
        closing(other.socket(socket.AF_INET, socket.SOCK_STREAM)) as client,
        suppress(ConnectionResetError),
    ):
        client.connect(address)
        assert was_reset(client)
    verdicts = [broker.expect("connection") for _ in range(3)]
    assert {(event["client"], event["verdict"]) for event in verdicts} == {
        ("source", "ok"),
        ("target", "not_granted"),
    }
    broker.send({"type": "finish"})
    totals = broker.expect("finished")["clients"]
    assert [(one["client"], one["connections"], one["refused"]) for one in totals] == [
        ("source", 2, 0),
        ("target", 1, 1),
    ]


def test_many_ports_come_in_parts(stack: ExitStack) -> None:
    ports = list(range(20_000, 21_000))
    grants = [{"cidr": "127.0.0.0/8", "ports": [[20_000, 20_999]]}]
    broker = stack.enter_context(Broker(opening(grants, blocked=["127.0.0.0/8"]), ports=ports))
    for port in (20_000, 20_500, 20_999):
        assert broker.refusal("127.0.0.9", port)["verdict"] == "address_blocked"


def test_it_tells_its_version() -> None:
    import subprocess

    from tests.contract.played import executable

    said = subprocess.run(
        [executable("dativo-broker"), "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("dativo-broker ") and "protocol 1.0" in said.stdout
