"""What becomes of a connection: whom it reaches, what is refused, and that bytes, ends and resets pass (docs/spec/network.md)."""

from __future__ import annotations

import hashlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.contract import broker_dns as dns
from tests.contract.broker_dns import Record, Resolver
from tests.contract.broker_kernel import DEADLINE_S, Broker, Event, host, opening, was_reset
from tests.contract.broker_servers import (
    Server,
    as_client,
    as_server,
    client_hello,
    read_all,
    reset,
)

NAME = "api.example.com"
MIB = 1 << 20

Start = Callable[..., Broker]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start(stack: ExitStack) -> Start:
    """Start a broker whose client is granted ``NAME`` at the port of a server, and whose resolver knows it."""

    def run(
        server: Server | None = None,
        *,
        port: int = 0,
        records: list[Record] | None = None,
        grant: Event | None = None,
        ports: list[int] | None = None,
        networks: list[str] | None = None,
        **more: Any,
    ) -> Broker:
        port = server.port if server else port
        known = [Record(NAME, dns.A, "127.0.0.1")] if records is None else records
        if "resolvers" not in more:
            more["resolvers"] = [stack.enter_context(Resolver(known)).address]
        grants = more.pop("grants", [grant or host(NAME, port)])
        return stack.enter_context(
            Broker(opening(grants, **more), ports=ports or [port], networks=networks or [])
        )

    return run


@pytest.fixture
def server(stack: ExitStack) -> Server:
    return stack.enter_context(Server())


def verdict(event: Event) -> tuple[str, str | None, str | None]:
    return event["verdict"], event["name"], event["address"]


# --- bytes, ends and resets


def test_bytes_and_their_ends_pass(start: Start, server: Server) -> None:
    broker = start(server)
    with broker.connect(NAME, server.port) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"HELLO"
    event = broker.expect("connection")
    seconds = event.pop("seconds")
    assert 0 < seconds < DEADLINE_S
    assert event == {
        "type": "connection", "client": "source", "name": NAME, "address": "127.0.0.1", "port": server.port,
        "verdict": "ok", "up_bytes": 5, "down_bytes": 5, "detail": None,
    }  # fmt: skip
    assert broker.finish() == {
        "client": "source", "connections": 1, "refused": 0, "up_bytes": 5, "down_bytes": 5, "lookups": 1, "suppressed": 0,
    }  # fmt: skip


def test_the_server_may_be_done_first(start: Start, stack: ExitStack) -> None:
    taken: list[bytes] = []

    def handle(stream: socket.socket) -> None:
        stream.sendall(b"bye")
        stream.shutdown(socket.SHUT_WR)
        taken.append(read_all(stream))

    server = stack.enter_context(Server(handle))
    broker = start(server)
    with broker.connect(NAME, server.port) as client:
        assert read_all(client) == b"bye"
        client.sendall(b"and one more thing")
    event = broker.expect("connection")
    assert (event["up_bytes"], event["down_bytes"], event["detail"]) == (18, 3, None)
    stack.close()
    assert taken == [b"and one more thing"]


def test_a_server_that_speaks_first_is_heard(start: Start, stack: ExitStack) -> None:
    def handle(stream: socket.socket) -> None:
        stream.sendall(b"220 ready\r\n")
        stream.sendall(stream.recv(100).upper())

    server = stack.enter_context(Server(handle))
    with start(server).connect(NAME, server.port) as client:
        assert client.recv(100) == b"220 ready\r\n"
        client.sendall(b"ehlo")
        assert client.recv(100) == b"EHLO"


def test_a_reset_of_the_server_reaches_the_client(start: Start, stack: ExitStack) -> None:
    def handle(stream: socket.socket) -> None:
        stream.recv(1)
        reset(stream)

    server = stack.enter_context(Server(handle))
    broker = start(server)
    with broker.connect(NAME, server.port) as client:
        client.sendall(b"x")
        assert was_reset(client)
    event = broker.expect("connection")
    assert (event["verdict"], event["detail"]) == ("ok", "reset by the server")


def test_a_reset_of_the_client_reaches_the_server(start: Start, stack: ExitStack) -> None:
    seen: list[bool] = []

    def handle(stream: socket.socket) -> None:
        stream.sendall(b"x")
        seen.append(was_reset(stream))

    server = stack.enter_context(Server(handle))
    broker = start(server)
    client = broker.connect(NAME, server.port)
    assert client.recv(1) == b"x"
    reset(client)
    event = broker.expect("connection")
    assert (event["verdict"], event["detail"]) == ("ok", "reset by the client")
    stack.close()
    assert seen == [True]


def test_a_reset_after_the_last_byte_reaches_the_client(start: Start, stack: ExitStack) -> None:
    heard = threading.Event()

    def handle(stream: socket.socket) -> None:
        stream.shutdown(socket.SHUT_WR)
        assert heard.wait(DEADLINE_S)
        reset(stream)

    server = stack.enter_context(Server(handle))
    broker = start(server)
    with broker.connect(NAME, server.port) as client:
        assert client.recv(1) == b""
        heard.set()
        broken = select.poll()
        broken.register(client, 0)
        assert broken.poll(DEADLINE_S * 1000)
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    assert broker.expect("connection")["detail"] == "reset by the server"


def test_much_goes_both_ways_at_once_and_is_counted(start: Start, stack: ExitStack) -> None:
    blocks = [bytes([at]) * MIB for at in range(32)]
    digests: list[str] = []

    def send(stream: socket.socket) -> None:
        for block in blocks:
            stream.sendall(block)
        stream.shutdown(socket.SHUT_WR)

    def both(stream: socket.socket) -> None:
        sending = threading.Thread(target=send, args=(stream,))
        sending.start()
        digests.append(hashlib.sha256(read_all(stream)).hexdigest())
        sending.join(DEADLINE_S)

    server = stack.enter_context(Server(both))
    broker = start(server)
    with broker.connect(NAME, server.port) as client:
        both(client)
    event = broker.expect("connection")
    assert event["up_bytes"] == event["down_bytes"] == 32 * MIB
    expected = hashlib.sha256(b"".join(blocks)).hexdigest()
    stack.close()
    assert digests == [expected, expected]


def test_a_slow_reader_holds_its_sender_back(start: Start, stack: ExitStack) -> None:
    sent: list[int] = []

    def handle(stream: socket.socket) -> None:
        stream.settimeout(1.0)
        block = bytes(MIB)
        for at in range(512):
            try:
                stream.sendall(block)
            except TimeoutError:
                sent.append(at)
                return

    server = stack.enter_context(Server(handle))
    broker = start(server)
    with broker.connect(NAME, server.port) as client:
        assert client.recv(1)
        deadline = time.monotonic() + DEADLINE_S
        while not sent and time.monotonic() < deadline:
            time.sleep(0.01)
        # What socket buffers hold; the broker itself keeps next to nothing.
        assert sent and sent[0] < 64
        assert broker.memory_bytes() < 16 * MIB


# --- where to


def test_only_the_granted_port_of_a_name(start: Start, server: Server, stack: ExitStack) -> None:
    other = stack.enter_context(Server())
    broker = start(server, ports=[server.port, other.port])
    assert verdict(broker.refusal(NAME, other.port)) == ("not_granted", NAME, None)
    assert other.peers == []


def test_addresses_that_nobody_was_given(start: Start, server: Server) -> None:
    broker = start(server)
    for address in ["198.18.0.1", "198.18.0.2", "198.19.255.254", "127.0.0.1", "127.0.0.53"]:
        assert verdict(broker.refusal(address, server.port)) == ("not_granted", None, address)
    assert server.peers == []
    assert broker.finish()["refused"] == 5


def test_a_literal_address(start: Start, stack: ExitStack) -> None:
    server = stack.enter_context(Server(address="127.0.0.5"))
    grants = [{"cidr": "127.0.0.4/31", "ports": [[server.port, server.port]]}]
    broker = start(server, grants=grants)
    with broker.connect("127.0.0.5", server.port) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"HELLO"
    assert verdict(broker.expect("connection")) == ("ok", None, "127.0.0.5")
    assert verdict(broker.refusal("127.0.0.6", server.port)) == ("not_granted", None, "127.0.0.6")


def test_a_literal_address_of_ipv6(start: Start, stack: ExitStack) -> None:
    server = stack.enter_context(Server(address="::1"))
    grants = [
        {"cidr": cidr, "ports": [[server.port, server.port]]} for cidr in ["::1/128", "fd00::/8"]
    ]
    broker = start(server, grants=grants, networks=["fd00::/8"], blocked=["fd00:7::/32"])
    with broker.connect("::1", server.port) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"HELLO"
    assert verdict(broker.expect("connection")) == ("ok", None, "::1")
    assert verdict(broker.refusal("fd00:7::9", server.port)) == (
        "address_blocked",
        None,
        "fd00:7::9",
    )


def test_a_literal_network_may_not_hold_what_nobody_may_reach(start: Start, server: Server) -> None:
    grants = [{"cidr": "0.0.0.0/0", "ports": [[server.port, server.port]]}]
    broker = start(server, grants=grants, networks=["169.254.0.0/16"], permit_special=[])
    for address, expected in [
        ("169.254.169.254", "address_cloud"),
        ("127.0.0.1", "address_special"),
    ]:
        assert verdict(broker.refusal(address, server.port)) == (expected, None, address)


def test_a_blocked_name(start: Start, server: Server) -> None:
    broker = start(server, blocked_hosts=["*.example.com"])
    assert verdict(broker.refusal(NAME, server.port)) == ("host_blocked", NAME, None)
    assert server.peers == []


# --- which address


def test_the_name_is_resolved_at_each_connection_and_once(
    stack: ExitStack, start: Start, server: Server
) -> None:
    resolver = stack.enter_context(Resolver([Record(NAME, dns.A, "127.0.0.1")]))
    broker = start(server, resolvers=[resolver.address])
    address = broker.address(NAME)
    assert resolver.queries == []
    for count in (1, 2):
        with broker.connect(address, server.port) as client:
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b""
        assert broker.expect("connection")["verdict"] == "ok"
        assert sorted(resolver.queries) == sorted(
            [(NAME, dns.A, False), (NAME, dns.AAAA, False)] * count
        )


def records(*addresses: str) -> list[Record]:
    return [Record(NAME, dns.AAAA if ":" in one else dns.A, one) for one in addresses]


@pytest.mark.parametrize(
    ("addresses", "expected", "address"),
    [
        (["10.0.0.5"], "address_private", "10.0.0.5"),
        (["fd00::5"], "address_private", "fd00::5"),
        (["169.254.169.254"], "address_cloud", "169.254.169.254"),
        (["100.100.100.200", "10.0.0.5"], "address_cloud", "100.100.100.200"),
        (["::ffff:169.254.169.254"], "address_cloud", "::ffff:169.254.169.254"),
        (["64:ff9b::a9fe:a9fe"], "address_cloud", "64:ff9b::a9fe:a9fe"),
        (["127.0.0.1", "0.0.0.0"], "address_special", "127.0.0.1"),
        (["10.0.0.5", "198.18.0.7"], "address_special", "198.18.0.7"),
        (["8.8.4.4"], "address_own", "8.8.4.4"),
        (["127.0.0.1", "2002:808:404::1"], "address_own", "2002:808:404::1"),
        (["8.8.4.4", "169.254.169.254"], "address_cloud", "169.254.169.254"),
        (["10.0.0.5", "203.0.113.9", "169.254.169.254", "172.30.0.1"], "address_blocked", "172.30.0.1"),
    ],
)  # fmt: skip
def test_the_worst_reason_is_the_verdict(
    start: Start, addresses: list[str], expected: str, address: str
) -> None:
    broker = start(
        port=4431,
        records=records(*addresses),
        permit_special=[],
        blocked=["172.30.0.0/16"],
        own=["8.8.4.4/32"],
    )
    assert verdict(broker.refusal(NAME, 4431)) == (expected, NAME, address)


def test_what_may_not_be_dialled_is_left_out(start: Start, stack: ExitStack) -> None:
    other = stack.enter_context(Server(address="127.0.0.2"))
    server = stack.enter_context(Server(address="127.0.0.3", port=other.port))
    found = records("10.0.0.5", "127.0.0.2", "127.0.0.3")
    broker = start(server, records=found, permit_special=["127.0.0.3/32"])
    with broker.connect(NAME, server.port) as client:
        client.shutdown(socket.SHUT_WR)
        read_all(client)
    assert verdict(broker.expect("connection")) == ("ok", NAME, "127.0.0.3")
    assert other.peers == []


def test_a_private_grant_may_lead_to_private_addresses(start: Start, server: Server) -> None:
    # Nobody is at that address: it is tried, and that is all.
    grant = host(NAME, server.port, private=True)
    broker = start(
        server, grant=grant, records=records("10.255.255.1"), limits={"connect_timeout_s": 0.3}
    )
    assert broker.refusal(NAME, server.port)["verdict"] in ("connect_timeout", "connect_failed")


def test_addresses_are_dialled_in_turn(start: Start, server: Server) -> None:
    broker = start(server, records=records("127.0.0.9", "127.0.0.1"))
    with broker.connect(NAME, server.port) as client:
        client.sendall(b"x")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"X"
    assert verdict(broker.expect("connection")) == ("ok", NAME, "127.0.0.1")


def test_nobody_listens(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    event = start(port=port, records=records("127.0.0.8", "127.0.0.9")).refusal(NAME, port)
    assert verdict(event) == ("connect_failed", NAME, "127.0.0.8")
    assert "refused" in event["detail"]


def test_nobody_answers(start: Start, stack: ExitStack) -> None:
    full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    # The queue of one that does not accept holds one; further ones are not answered.
    for _ in range(2):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(full.getsockname())
    port = full.getsockname()[1]
    event = start(port=port, limits={"connect_timeout_s": 0.5}).refusal(NAME, port)
    assert verdict(event) == ("connect_timeout", NAME, "127.0.0.1")
    assert 0.4 < event["seconds"] < 5


# --- TLS


def test_tls_with_the_looked_up_name_passes(start: Start, stack: ExitStack) -> None:
    def handle(stream: socket.socket) -> None:
        with as_server(stream) as tls:
            tls.sendall(tls.recv(100).upper())

    server = stack.enter_context(Server(handle))
    broker = start(server)
    with as_client(broker.connect(NAME, server.port), NAME.upper()) as client:
        client.sendall(b"secret")
        assert client.recv(100) == b"SECRET"
    event = broker.expect("connection")
    assert event["verdict"] == "ok" and event["up_bytes"] > 300


@pytest.mark.parametrize("at_once", [1, 7, 100, 10_000])
def test_another_server_name_reaches_nobody(start: Start, stack: ExitStack, at_once: int) -> None:
    taken: list[bytes] = []
    server = stack.enter_context(Server(lambda stream: taken.append(read_all(stream))))
    broker = start(server)
    hello = client_hello("other.example.com")
    with broker.connect(NAME, server.port) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(hello), at_once):
            client.sendall(hello[at : at + at_once])
        assert was_reset(client)
    event = broker.expect("connection")
    assert verdict(event) == ("sni_mismatch", NAME, "127.0.0.1")
    assert (event["up_bytes"], event["detail"]) == (0, "other.example.com")
    stack.close()
    assert b"".join(taken) == b""


def test_what_is_said_behind_a_good_hello_passes_whole(start: Start, stack: ExitStack) -> None:
    taken: list[bytes] = []
    server = stack.enter_context(Server(lambda stream: taken.append(read_all(stream))))
    broker = start(server)
    said = client_hello(NAME) + bytes(100_000)
    with broker.connect(NAME, server.port) as client:
        client.sendall(said[:300])
        client.sendall(said[300:])
        client.shutdown(socket.SHUT_WR)
        read_all(client)
    assert broker.expect("connection")["up_bytes"] == len(said)
    stack.close()
    assert taken == [said]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (client_hello(None), "sni_missing"),
        (client_hello(NAME)[:9] + b"\xff" * 600, "tls_malformed"),
        (b"\x16\x03\x01\x00\x00" + bytes(9), "not_tls"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00", "tls_malformed"),
    ],
)
def test_hellos_that_are_none(start: Start, server: Server, said: bytes, expected: str) -> None:
    broker = start(server)
    with broker.connect(NAME, server.port) as client:
        client.sendall(said)
        if expected == "not_tls":
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == said.upper()
        else:
            with suppress(OSError):  # reset already
                client.shutdown(socket.SHUT_WR)
            assert was_reset(client)
    expected = "ok" if expected == "not_tls" else expected
    assert broker.expect("connection")["verdict"] == expected


def test_the_server_is_heard_while_a_hello_is_not_whole(start: Start, stack: ExitStack) -> None:
    def handle(stream: socket.socket) -> None:
        stream.sendall(b"first")
        stream.sendall(stream.recv(1000)[:5])

    server = stack.enter_context(Server(handle))
    hello = client_hello(NAME)
    with start(server).connect(NAME, server.port) as client:
        client.sendall(hello[:50])
        assert client.recv(100) == b"first"
        client.sendall(hello[50:])
        assert client.recv(100) == hello[:5]


def test_a_hello_has_its_time(start: Start, server: Server) -> None:
    broker = start(server, limits={"connect_timeout_s": 0.4})
    event = broker.refusal(NAME, server.port, client_hello(NAME)[:100])
    assert (event["verdict"], event["detail"]) == ("tls_malformed", "not whole in time")
    # Who says nothing at all is waited for.
    with broker.connect(NAME, server.port) as client:
        time.sleep(0.6)
        client.sendall(b"x")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"X"


def test_a_grant_without_server_name(start: Start, server: Server) -> None:
    broker = start(server, grant=host(NAME, server.port, sni=False))
    with broker.connect(NAME, server.port) as client:
        client.sendall(client_hello("other.example.com"))
        client.shutdown(socket.SHUT_WR)
        assert read_all(client)
    assert broker.expect("connection")["verdict"] == "ok"


def test_a_literal_has_no_name_to_compare(start: Start, server: Server) -> None:
    broker = start(server, grants=[{"cidr": "127.0.0.1/32", "ports": [[server.port, server.port]]}])
    with broker.connect("127.0.0.1", server.port) as client:
        client.sendall(client_hello("any.example.com"))
        client.shutdown(socket.SHUT_WR)
        assert read_all(client)
    assert broker.expect("connection")["verdict"] == "ok"


def test_a_name_in_tls_that_is_not_ascii(start: Start, server: Server) -> None:
    hello = client_hello(NAME).replace(NAME.encode(), b"api.exampl\xe9.com")
    event = start(server).refusal(NAME, server.port, hello)
    assert (event["verdict"], event["detail"]) == ("sni_mismatch", "api.exampl\ufffd.com")


# --- through a proxy


def tunnel(
    answer: bytes, asked: list[bytes], port: Callable[[], int]
) -> Callable[[socket.socket], None]:
    """A proxy that answers so; where that is a success it leads to ``port`` of loopback."""

    def handle(stream: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += stream.recv(1)
        asked.append(head)
        if not answer.startswith(b"HTTP/1.1 200"):
            stream.sendall(answer)
            return
        with socket.create_connection(("127.0.0.1", port())) as onwards:
            stream.sendall(answer)
            onwards.sendall(read_all(stream))
            onwards.shutdown(socket.SHUT_WR)
            stream.sendall(read_all(onwards))

    return handle


def test_a_proxy_is_asked_instead(stack: ExitStack, start: Start, server: Server) -> None:
    asked: list[bytes] = []
    answer = b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\nearly "
    proxy = stack.enter_context(Server(tunnel(answer, asked, lambda: server.port)))
    broker = start(server, resolvers=[], proxy=f"127.0.0.1:{proxy.port}")
    with broker.connect(NAME, server.port) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"early HELLO"
    event = broker.expect("connection")
    assert verdict(event) == ("ok", NAME, None)
    assert (event["up_bytes"], event["down_bytes"]) == (5, 11)
    where = f"{NAME}:{server.port}".encode()
    assert asked == [b"CONNECT " + where + b" HTTP/1.1\r\nHost: " + where + b"\r\n\r\n"]
    # Grants and server names are checked as ever.
    assert broker.refusal("198.18.0.9", server.port)["verdict"] == "not_granted"
    assert broker.refusal(NAME, server.port, client_hello("x.test"))["verdict"] == "sni_mismatch"


def test_a_proxy_is_given_its_credentials_and_nobody_else(
    stack: ExitStack, start: Start, server: Server
) -> None:
    asked: list[bytes] = []
    answer = b"HTTP/1.1 200 OK\r\n\r\n"
    proxy = stack.enter_context(Server(tunnel(answer, asked, lambda: server.port)))
    broker = start(
        server,
        resolvers=[],
        proxy=f"127.0.0.1:{proxy.port}",
        proxy_authorization="Basic bWU6b3BlbiBzZXNhbWU=",
    )
    with broker.connect(NAME, server.port) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"HELLO"
    [head] = asked
    assert b"\r\nProxy-Authorization: Basic bWU6b3BlbiBzZXNhbWU=\r\n\r\n" in head
    told = f"{broker.expect('connection')}{broker.events}"
    for place in ("cmdline", "environ"):
        told += Path(f"/proc/{broker.pid}/{place}").read_text()
    assert "bWU6" not in told


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (
            b"HTTP/1.1 403 Forbidden by \x1b[31mpolicy\r\n\r\n",
            "HTTP/1.1 403 Forbidden by \x1b[31mpolicy",
        ),
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\nA: b\r\n\r\n",
            "HTTP/1.1 407 Proxy Authentication Required",
        ),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "SSH-2.0-OpenSSH"),
        (b"", "it closed the connection"),
        (b"HTTP/1.1 300 " + b"x" * 9000, "its answer does not end"),
    ],
)
def test_a_proxy_that_refuses(stack: ExitStack, start: Start, answer: bytes, detail: str) -> None:
    proxy = stack.enter_context(Server(tunnel(answer, [], lambda: 0)))
    broker = start(port=4432, resolvers=[], proxy=f"127.0.0.1:{proxy.port}")
    event = broker.refusal(NAME, 4432)
    assert verdict(event) == ("proxy_refused", NAME, None)
    assert event["detail"] == detail


def listen(stream: socket.socket) -> None:
    read_all(stream)


def test_a_proxy_that_is_not_there_and_one_that_is_silent(stack: ExitStack, start: Start) -> None:
    silent = stack.enter_context(Server(listen))
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    limits = {"connect_timeout_s": 0.5}
    gone = start(port=4433, proxy=f"127.0.0.1:{port}", limits=limits).refusal(NAME, 4433)
    assert verdict(gone) == ("connect_failed", NAME, None)
    mute = start(port=4434, proxy=f"127.0.0.1:{silent.port}", limits=limits).refusal(NAME, 4434)
    assert verdict(mute) == ("connect_timeout", NAME, None)


def test_a_literal_behind_a_proxy_is_checked(
    stack: ExitStack, start: Start, server: Server
) -> None:
    asked: list[bytes] = []
    proxy = stack.enter_context(
        Server(tunnel(b"HTTP/1.1 200 OK\r\n\r\n", asked, lambda: server.port))
    )
    broker = start(
        server,
        grants=[{"cidr": "127.0.0.0/8", "ports": [[server.port, server.port]]}],
        proxy=f"127.0.0.1:{proxy.port}",
        blocked=["127.9.0.0/16"],
    )
    assert broker.refusal("127.9.0.1", server.port)["verdict"] == "address_blocked"
    assert asked == []
    with broker.connect("127.0.0.7", server.port) as client:
        client.shutdown(socket.SHUT_WR)
        read_all(client)
    assert verdict(broker.expect("connection")) == ("ok", None, "127.0.0.7")
    assert asked[0].startswith(b"CONNECT 127.0.0.7:")


# Named here, as its error is what a client sees of a reset in the middle of a handshake.
TLS_ERRORS = (ssl.SSLError, ConnectionResetError)


def test_a_client_sees_a_refused_handshake_as_a_reset(start: Start, server: Server) -> None:
    with pytest.raises(TLS_ERRORS):
        as_client(start(server).connect(NAME, server.port), "other.example.com")
