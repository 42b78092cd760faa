"""What names are answered inside, and how they are asked for outside (docs/spec/network.md, What is answered)."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

import pytest
from tests.contract import broker_dns as dns
from tests.contract.broker_dns import Record, Resolver
from tests.contract.broker_kernel import DEADLINE_S, RESOLVER, Broker, Event, host, opening
from tests.contract.broker_servers import Server, read_all

NAME = "api.example.com"
GRANTS = [host("*.example.com", 443), {"srv": "_kafka._tcp.example.net"}]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def broker(stack: ExitStack) -> Broker:
    """A broker without a resolver: nobody outside is asked for what is answered inside."""
    return stack.enter_context(Broker(opening(GRANTS), ports=[443]))


# --- inside


@pytest.mark.parametrize("tcp", [False, True])
def test_a_granted_name_has_a_synthetic_address(broker: Broker, tcp: bool) -> None:
    answered = broker.ask(NAME, tcp=tcp)
    assert (answered.id, answered.rcode, answered.question) == (0x1234, dns.NO_ERROR, (NAME, dns.A))
    assert answered.answers == (Record(NAME, dns.A, "198.18.0.2", ttl=0),)
    # Recursion was asked for and is available; nobody claims to be an authority.
    assert answered.flags == 0x8180
    for kind in (dns.AAAA, dns.TXT, dns.HTTPS, dns.SRV, 255):
        other = broker.ask(NAME, kind, tcp=tcp)
        assert (other.rcode, other.answers) == (dns.NO_ERROR, ())


def test_the_case_of_a_question_comes_back(broker: Broker) -> None:
    answered = broker.ask("aPI.Example.COM")
    assert answered.question == ("aPI.Example.COM", dns.A)
    assert [one.data for one in answered.answers] == [broker.address(NAME)]


def test_options_of_a_client_are_passed_over(broker: Broker) -> None:
    # EDNS (RFC 6891): a record of type 41 behind the question, whose class is a size.
    asked = dns.query(NAME, dns.A)
    edns = asked[:10] + b"\0\1" + asked[12:] + b"\0" + struct.pack("!2HIH", 41, 1232, 0, 0)
    assert [one.data for one in broker.exchange(edns).answers] == ["198.18.0.2"]


def test_an_address_has_its_name(broker: Broker) -> None:
    address = broker.address(NAME)
    (answer,) = broker.ask(
        ".".join(reversed(address.split("."))) + ".in-addr.arpa", dns.PTR
    ).answers
    assert answer.data == NAME
    for other in ("9.0.18.198.in-addr.arpa", "1.0.0.127.in-addr.arpa", "evil.test"):
        assert broker.ask(other, dns.PTR).rcode == dns.NO_NAME


def test_what_is_not_granted_is_no_name_and_told(broker: Broker) -> None:
    asked = ["evil.test", "example.com", "example.com.evil.test", "_smtp._tcp.example.net"]
    for name in asked:
        assert broker.ask(name).rcode == dns.NO_NAME
    for name in asked:
        event = broker.expect("lookup")
        assert event == {
            "type": "lookup", "client": "source", "name": name, "kind": "A", "verdict": "not_granted", "count": 1,
        }  # fmt: skip
    # Told again with its count at the end, where it came again.
    for _ in range(4):
        broker.ask("evil.test")
    broker.finish()
    assert [(event["name"], event["count"]) for event in broker.of("lookup")][4:] == [
        ("evil.test", 5)
    ]


def test_names_are_told_so_that_they_do_no_harm(broker: Broker) -> None:
    for name in ["a\x1b[31m.test", "a\0.example.com", 'quo"te\\.test', "\xff.test", "a b.test"]:
        assert broker.ask(name).rcode == dns.NO_NAME
    told = [broker.expect("lookup")["name"] for _ in range(5)]
    assert told == [
        r"a\027\09131m.test", r"a\000.example.com", r"quo\034te\092.test", r"\255.test", r"a\032b.test",
    ]  # fmt: skip


def malformed() -> list[tuple[bytes, int | None]]:
    """Packets and the code of their answer; None where none comes."""
    good = dns.query(NAME, dns.A)
    loop = good[:12] + b"\xc0\x0c" + good[-4:]
    forward = good[:12] + b"\xc0\x20" + good[-4:]
    none, two = (good[:4] + struct.pack("!H", number) + good[6:] for number in (0, 2))
    return [
        (b"\0", None), (good[:11], None), (dns.answer(good, []), None),
        (good[:12], dns.FORMAT), (good[:-1], dns.FORMAT), (loop, dns.FORMAT), (forward, dns.FORMAT),
        (none, dns.FORMAT), (two, dns.FORMAT), (good[:12] + b"\x80" + good[13:], dns.FORMAT),
        (good[:12] + b"\x3f" * 400, dns.FORMAT), (good[:2] + b"\x28\0" + good[4:], dns.NOT_IMPLEMENTED),
    ]  # fmt: skip


def test_malformed_queries_over_udp(broker: Broker) -> None:
    with closing(broker.inside.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
        asking.connect(RESOLVER)
        for packet, code in malformed():
            asking.send(packet)
            if code is not None:
                answered = dns.parse(asking.recv(4096))
                assert (answered.rcode, answered.question) == (code, None), packet
        # An answer to what came before would come first.
        asking.send(dns.query(NAME, dns.A, id_=77))
        assert dns.parse(asking.recv(4096)).id == 77


def test_malformed_queries_over_tcp(broker: Broker) -> None:
    for packet, code in malformed():
        with closing(broker.inside.socket(socket.AF_INET, socket.SOCK_STREAM)) as asking:
            asking.connect(RESOLVER)
            asking.sendall(struct.pack("!H", len(packet)) + packet)
            if code is None:
                assert dns.receive_tcp(asking) == b""
            else:
                assert dns.parse(dns.receive_tcp(asking)).rcode == code
    assert broker.ask(NAME).rcode == dns.NO_ERROR


def test_noise_does_no_harm(broker: Broker) -> None:
    noise = random.Random(7)
    good = dns.query(NAME, dns.A)
    with closing(broker.inside.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
        asking.connect(RESOLVER)
        for _ in range(3000):
            packet = bytearray(good)
            for _ in range(noise.randrange(1, 6)):
                packet[noise.randrange(len(packet))] = noise.randrange(256)
            asking.send(packet[: noise.randrange(len(packet) + 1)])
    assert broker.address(NAME) == "198.18.0.2"


def test_one_connection_asks_many_times_and_in_pieces(broker: Broker) -> None:
    with closing(broker.inside.socket(socket.AF_INET, socket.SOCK_STREAM)) as asking:
        asking.connect(RESOLVER)
        queries = [dns.query(f"n{at}.example.com", dns.A, id_=at) for at in range(50)]
        stream = b"".join(struct.pack("!H", len(one)) + one for one in queries)
        for at in range(0, len(stream), 99):
            asking.sendall(stream[at : at + 99])
        taken = b""
        ids: list[int] = []
        while len(ids) < 50:
            taken += asking.recv(65536)
            while len(taken) >= 2 and len(taken) >= 2 + struct.unpack_from("!H", taken)[0]:
                (length,) = struct.unpack_from("!H", taken)
                ids.append(dns.parse(taken[2 : 2 + length]).id)
                taken = taken[2 + length :]
        assert ids == list(range(50))


def test_a_long_query_over_tcp_ends_the_connection(broker: Broker) -> None:
    with closing(broker.inside.socket(socket.AF_INET, socket.SOCK_STREAM)) as asking:
        asking.connect(RESOLVER)
        asking.sendall(struct.pack("!H", 5000))
        assert dns.receive_tcp(asking) == b""


def test_connections_to_the_resolver_are_bounded(broker: Broker, stack: ExitStack) -> None:
    waiting = []
    for _ in range(64):
        asking = stack.enter_context(broker.inside.socket(socket.AF_INET, socket.SOCK_STREAM))
        asking.connect(RESOLVER)
        waiting.append(asking)
    # The last one was taken, too, once the broker has answered it.
    message = dns.query(NAME, dns.A)
    waiting[-1].sendall(struct.pack("!H", len(message)) + message)
    assert dns.receive_tcp(waiting[-1])
    with (
        closing(broker.inside.socket(socket.AF_INET, socket.SOCK_STREAM)) as one_more,
        pytest.raises(ConnectionResetError),
    ):
        one_more.connect(RESOLVER)
        one_more.recv(1)
    waiting[0].close()
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            assert broker.ask(NAME, tcp=True).answers
            break
        except (ConnectionResetError, BrokenPipeError):
            continue
    else:
        raise AssertionError("a place that is left is not given again")


def test_names_are_bounded(stack: ExitStack) -> None:
    broker = stack.enter_context(Broker(opening(GRANTS, limits={"max_names": 3}), ports=[443]))
    given = [broker.address(f"n{at}.example.com") for at in range(3)]
    assert len(set(given)) == 3
    assert broker.ask("n3.example.com").rcode == dns.NO_NAME
    assert broker.expect("lookup")["verdict"] == "limit_names"
    for at in range(10):
        broker.ask(f"n{at}.test")
    assert broker.finish()["lookups"] == 14
    assert [event["name"] for event in broker.of("lookup")] == [
        "n3.example.com",
        "n0.test",
        "n1.test",
    ]


# --- services


def services(*targets: tuple[str, int]) -> list[Record]:
    return [
        Record("_kafka._tcp.example.net", dns.SRV, (1, 2, port, target)) for target, port in targets
    ]


def served(
    stack: ExitStack, records: Sequence[Record], ports: Sequence[int] = (443,), **more: Any
) -> tuple[Broker, Resolver]:
    resolver = stack.enter_context(Resolver(records))
    orders = opening(GRANTS, resolvers=[resolver.address], **more)
    return stack.enter_context(Broker(orders, ports=ports)), resolver


def test_a_service_leads_to_its_targets(stack: ExitStack) -> None:
    server = stack.enter_context(Server())
    records = services(
        ("b1.example.net", server.port), ("b2.example.net", 9093), ("evil.test", 9092)
    )
    records.append(Record("b1.example.net", dns.A, "127.0.0.1"))
    broker, _ = served(stack, records, ports=[server.port])
    # Only a name that a service has led to is one.
    assert broker.ask("b1.example.net").rcode == dns.NO_NAME
    found = broker.ask("_kafka._tcp.example.net", dns.SRV).answers
    assert [one.data for one in found] == [
        (1, 2, server.port, "b1.example.net"),
        (1, 2, 9093, "b2.example.net"),
    ]
    with broker.connect("b1.example.net", server.port) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"HELLO"
    assert broker.expect("connection")["verdict"] == "ok"
    # Its port is that of the other target alone.
    assert broker.refusal("b2.example.net", server.port)["verdict"] == "not_granted"
    told = [(event["name"], event["kind"]) for event in broker.of("lookup")]
    assert ("evil.test", "SRV") in told


def test_a_long_answer_for_a_service_needs_tcp(stack: ExitStack) -> None:
    broker, resolver = served(
        stack, services(*((f"b{at}.example.net", 9000 + at) for at in range(60)))
    )
    cut = broker.ask("_kafka._tcp.example.net", dns.SRV)
    assert cut.truncated and cut.answers == () and cut.size < 512
    whole = broker.ask("_kafka._tcp.example.net", dns.SRV, tcp=True)
    assert len(whole.answers) == 60
    assert {tcp for _, _, tcp in resolver.queries} == {False, True}


def test_a_service_that_cannot_be_found(stack: ExitStack) -> None:
    broker, _ = served(stack, [])
    assert broker.ask("_kafka._tcp.example.net", dns.SRV).rcode == dns.NO_NAME
    assert broker.expect("lookup")["verdict"] == "name_not_found"
    alone = stack.enter_context(Broker(opening(GRANTS), ports=[443]))
    assert alone.ask("_kafka._tcp.example.net", dns.SRV).rcode == dns.FAILED
    assert alone.expect("lookup")["verdict"] == "resolver_failed"


def test_services_are_asked_for_at_a_rate(stack: ExitStack) -> None:
    limits = {"max_rate": 1}
    broker, resolver = served(stack, services(("b1.example.net", 9092)), limits=limits)
    begun = time.monotonic()
    codes = [broker.ask("_kafka._tcp.example.net", dns.SRV).rcode for _ in range(30)]
    took = time.monotonic() - begun
    # Ten seconds' worth at once, and what has come since.
    assert 10 <= codes.count(dns.NO_ERROR) <= 11 + took
    assert codes.count(dns.FAILED) == 30 - codes.count(dns.NO_ERROR)
    assert len(resolver.queries) == codes.count(dns.NO_ERROR)
    assert broker.expect("lookup")["verdict"] == "limit_rate"


def test_few_services_are_asked_for_at_a_time(stack: ExitStack) -> None:
    silent = stack.enter_context(Resolver(behave=lambda *_: []))
    orders = opening(GRANTS, resolvers=[silent.address])
    broker = stack.enter_context(Broker(orders, ports=[443]))
    deadline = time.monotonic() + DEADLINE_S
    with broker.inside.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(RESOLVER)
        for number in range(256):
            client.send(dns.query("_kafka._tcp.example.net", dns.SRV, id_=number))
            # No faster than they are taken: a datagram that finds no room is lost.
            while len(silent.seen) <= number and time.monotonic() < deadline:
                time.sleep(0.001)
        client.send(dns.query("_kafka._tcp.example.net", dns.SRV, id_=256))
        refused = dns.parse(client.recv(512))
    assert (refused.id, refused.rcode) == (256, dns.FAILED)
    assert broker.expect("lookup")["verdict"] == "limit_resolving"


# --- outside


@pytest.fixture
def server(stack: ExitStack) -> Server:
    return stack.enter_context(Server())


def reach(stack: ExitStack, server: Server, name: str = NAME, **more: Any) -> Event:
    """Connect to ``name`` once; what is told of it."""
    orders = opening([host("*.example.com", server.port)], **more)
    broker = stack.enter_context(Broker(orders, ports=[server.port]))
    try:
        with broker.connect(name, server.port) as client:
            client.shutdown(socket.SHUT_WR)
            read_all(client)
    except OSError:
        pass  # a reset; the event says why
    return broker.expect("connection")


def test_a_name_that_is_none(stack: ExitStack, server: Server) -> None:
    resolver = stack.enter_context(Resolver())
    assert reach(stack, server, resolvers=[resolver.address])["verdict"] == "name_not_found"
    # Nor has one without addresses any.
    empty = stack.enter_context(Resolver([Record(NAME, dns.TXT, b"\x01x")]))
    assert reach(stack, server, resolvers=[empty.address])["verdict"] == "name_not_found"


def test_aliases_lead_on(stack: ExitStack, server: Server) -> None:
    chain = [
        Record(NAME, dns.CNAME, "a.other.test"),
        Record("a.other.test", dns.CNAME, "b.other.test"),
        Record("b.other.test", dns.A, "127.0.0.1"),
    ]
    # Each by itself, as a resolver that does not follow them.
    apart = stack.enter_context(Resolver(chain))
    assert reach(stack, server, resolvers=[apart.address])["verdict"] == "ok"
    together = stack.enter_context(Resolver(behave=lambda asked, *_: [dns.answer(asked, chain)]))
    assert reach(stack, server, resolvers=[together.address])["verdict"] == "ok"


def test_aliases_that_do_not_end(stack: ExitStack, server: Server) -> None:
    def behave(asked: bytes, name: str, _kind: int, _tcp: bool) -> Sequence[bytes]:
        return [dns.answer(asked, [Record(name, dns.CNAME, f"x{name}")])]

    resolver = stack.enter_context(Resolver(behave=behave))
    event = reach(stack, server, resolvers=[resolver.address])
    assert (event["verdict"], event["detail"].split(" ", 1)[1]) == (
        "resolver_failed",
        "leads on and on",
    )
    loop = [Record(NAME, dns.CNAME, "a.test"), Record("a.test", dns.CNAME, NAME)]
    circle = stack.enter_context(Resolver(behave=lambda asked, *_: [dns.answer(asked, loop)]))
    assert reach(stack, server, resolvers=[circle.address])["verdict"] in (
        "resolver_failed",
        "name_not_found",
    )


def test_addresses_of_others_are_not_taken(stack: ExitStack, server: Server) -> None:
    others = [Record("other.test", dns.A, "127.0.0.1")]
    resolver = stack.enter_context(Resolver(behave=lambda asked, *_: [dns.answer(asked, others)]))
    assert reach(stack, server, resolvers=[resolver.address])["verdict"] == "name_not_found"


def test_a_cut_answer_is_asked_for_over_tcp(stack: ExitStack, server: Server) -> None:
    many = [Record(NAME, dns.A, "127.0.0.1") for _ in range(60)]
    resolver = stack.enter_context(Resolver(many))
    assert reach(stack, server, resolvers=[resolver.address])["verdict"] == "ok"
    assert (NAME, dns.A, True) in resolver.queries


def test_only_the_answer_counts(stack: ExitStack, server: Server) -> None:
    evil = [Record(NAME, dns.A, "127.0.0.9")]

    def behave(asked: bytes, _name: str, kind: int, _tcp: bool) -> Sequence[bytes]:
        wrong_id = bytes([asked[0] ^ 1]) + asked[1:]
        wrong_name = dns.query("evil.test", kind, id_=struct.unpack_from("!H", asked)[0])
        good = [Record(NAME, dns.A, "127.0.0.1")] if kind == dns.A else []
        return [b"", b"\xff" * 40, dns.answer(wrong_id, evil), dns.answer(wrong_name, evil), dns.answer(asked, good)]  # fmt: skip

    resolver = stack.enter_context(Resolver(behave=behave))
    event = reach(stack, server, resolvers=[resolver.address])
    assert (event["verdict"], event["address"]) == ("ok", "127.0.0.1")


def test_ids_and_ports_cannot_be_foreseen(stack: ExitStack, server: Server) -> None:
    resolver = stack.enter_context(Resolver([Record(NAME, dns.A, "127.0.0.1")]))
    orders = opening([host(NAME, server.port)], resolvers=[resolver.address])
    broker = stack.enter_context(Broker(orders, ports=[server.port]))
    address = broker.address(NAME)
    for _ in range(20):
        with broker.connect(address, server.port) as client:
            client.shutdown(socket.SHUT_WR)
            read_all(client)
        broker.expect("connection")
    ids, ports = {one for one, _ in resolver.seen}, {one for _, one in resolver.seen}
    assert len(resolver.seen) == 40
    assert len(ids) > 35 and len(ports) > 30
    assert sorted(ids) != list(range(min(ids), max(ids) + 1))


def test_the_next_resolver_is_asked(stack: ExitStack, server: Server) -> None:
    good = stack.enter_context(Resolver([Record(NAME, dns.A, "127.0.0.1")]))
    failing = stack.enter_context(
        Resolver(behave=lambda asked, *_: [dns.answer(asked, [], rcode=dns.FAILED)])
    )
    silent = stack.enter_context(Resolver(behave=lambda *_: []))
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as unused:
        unused.bind(("127.0.0.1", 0))
        gone = f"127.0.0.1:{unused.getsockname()[1]}"
    for bad in (failing.address, gone, silent.address):
        assert reach(stack, server, resolvers=[bad, good.address])["verdict"] == "ok"


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("failing", "SERVFAIL"),
        ("refusing", "REFUSED"),
        ("silent", "in time"),
        ("none", "no resolver"),
        ("noisy", "belong to no query"),
    ],
)
def test_a_resolver_that_is_of_no_use(
    stack: ExitStack, server: Server, behaviour: str, said: str
) -> None:
    def behave(asked: bytes, *_: object) -> Sequence[bytes]:
        match behaviour:
            case "failing":
                return [dns.answer(asked, [], rcode=dns.FAILED)]
            case "refusing":
                return [dns.answer(asked, [], rcode=dns.REFUSED)]
            case "noisy":
                return [b"noise"] * 100
            case _:
                return []

    resolver = stack.enter_context(Resolver(behave=behave))
    resolvers = [] if behaviour == "none" else [resolver.address]
    event = reach(stack, server, resolvers=resolvers, limits={"connect_timeout_s": 0.8})
    assert event["verdict"] == "resolver_failed"
    assert said in event["detail"]


def test_hosts_are_looked_at_before(stack: ExitStack, server: Server) -> None:
    resolver = stack.enter_context(Resolver())
    hosts = [["API.example.com", "127.0.0.9"], [NAME, "127.0.0.1"], ["not a host", "::1"]]
    event = reach(stack, server, hosts=hosts, resolvers=[resolver.address])
    assert (event["verdict"], event["address"]) == ("ok", "127.0.0.1")
    assert resolver.queries == []
    # What they say is checked as any other answer.
    event = reach(stack, server, hosts=[[NAME, "10.0.0.5"]])
    assert (event["verdict"], event["address"]) == ("address_private", "10.0.0.5")
