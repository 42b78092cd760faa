"""A network of granted ports, from the inside, with the test itself as its broker."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from tests.sandbox.conftest import ACTS, PYTHON, Launch, outcome
from tests.sandbox.seen import Outcome
from tests.sandbox.stub_broker import KNOWN, StubBroker

from dativo.sandbox import Grants, Limits, Network, WallMissing

Run = Callable[..., Outcome]
WEB = Network(((443, 443), (8000, 8010)))
LITERAL = Network(((5432, 5432),), ("10.20.0.0/16", "fd00:7::/32"))
LIMITS = Limits(wall_time_s=60)
LANDLOCK_OF_TCP = 4  # the first ABI that knows ports; without it nobody listens on an ungranted one


@pytest.fixture
def served(act: Launch) -> Run:
    """Run one act with a network that a stub answers for."""

    def run(network: Network, name: str, *arguments: str) -> Outcome:
        with closing(StubBroker()) as broker:
            confined = act(
                name,
                *arguments,
                grants=Grants(network=network, limits=LIMITS),
                sockets=broker.far.fileno(),
                client="source",
            )
            broker.serve()
            assert confined.attestation.network == "named"
            return outcome(confined)

    return run


def refused(found: Outcome) -> bool:
    """Whether a TCP port was refused, by Landlock where it knows ports, else by nobody listening."""
    assert found.attestation is not None
    by_landlock = found.attestation.landlock_abi >= LANDLOCK_OF_TCP
    return found.errno == ("EACCES" if by_landlock else "ECONNREFUSED")


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("AI_ADDRCONFIG",), ("AI_ADDRCONFIG", "AI_V4MAPPED")])
def test_a_granted_name_has_an_address(served: Run, flags: tuple[str, ...]) -> None:
    for name, address in KNOWN.items():
        assert served(WEB, "resolve", name, *flags).value == [address]


def test_an_ungranted_name_has_none(served: Run) -> None:
    assert served(WEB, "resolve", "evil.test").errno == "EAI_NONAME"


def test_localhost_needs_no_resolver(served: Run, inside: Run) -> None:
    assert "127.0.0.1" in served(WEB, "resolve", "localhost").value
    assert "127.0.0.1" in inside("resolve", "localhost").value


def test_without_a_grant_nobody_answers(inside: Run) -> None:
    assert inside("resolve", "api.example.com").errno in ("EAI_AGAIN", "EAI_NONAME")


def test_the_resolver_answers_over_tcp(served: Run) -> None:
    assert served(WEB, "lookup_by_tcp", "api.example.com").value == 1
    assert served(WEB, "lookup_by_tcp", "evil.test").value == 0


# --- connections ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", ["443", "8000", "8010"])
def test_the_broker_knows_name_and_port_of_a_connection(served: Run, port: str) -> None:
    address = KNOWN["db.internal"]
    assert served(WEB, "talk", "db.internal", port).value == f"{address} {port}\n"


@pytest.mark.parametrize("address", ["10.20.0.1", "10.20.255.254", "fd00:7::1", "fd00:7:ffff::2"])
def test_a_literal_address_below_a_granted_network(served: Run, address: str) -> None:
    assert served(LITERAL, "talk", address, "5432").value == f"{address} 5432\n"


@pytest.mark.parametrize("address", ["10.21.0.1", "192.0.2.1", "169.254.169.254", "fd00:8::1"])
def test_no_way_leads_to_another_address(served: Run, address: str) -> None:
    assert served(LITERAL, "talk", address, "5432").errno in ("ENETUNREACH", "EADDRNOTAVAIL")


@pytest.mark.parametrize("port", ["80", "442", "8011", "5432"])
def test_an_ungranted_port_is_refused(served: Run, port: str) -> None:
    assert refused(served(WEB, "talk", "api.example.com", port))


def test_the_hosts_loopback_is_another(served: Run, outside: Run) -> None:
    """A granted port of the host's own loopback leads to the broker, as it leads for any address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert refused(served(WEB, "talk", "127.0.0.1", str(port)))
        granted = Network(((port, port),))
        assert served(granted, "talk", "127.0.0.1", str(port)).value == f"127.0.0.1 {port}\n"
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
        assert outside("connect", str(port)).errno is None


def test_datagrams_reach_nobody_but_the_resolver(served: Run) -> None:
    assert served(WEB, "udp", "443").errno == "ENETUNREACH"


def test_the_namespace_is_not_the_programs_to_change(served: Run, inside: Run) -> None:
    assert served(WEB, "add_address").errno == "EPERM"
    assert inside("add_address").errno == "EPERM"
    owned = ("unshare", "--user", "--map-root-user", "--net", PYTHON, "-I", str(ACTS))
    found = subprocess.run([*owned, "add_address"], capture_output=True, check=True, timeout=30)
    assert json.loads(found.stdout)["errno"] is None


# --- listening -----------------------------------------------------------------------------------------------------


def test_nobody_listens_without_a_grant(served: Run, inside: Run) -> None:
    for found in (served(WEB, "bind", "127.0.0.1", "9999"), inside("bind", "127.0.0.1", "9999")):
        assert found.attestation is not None
        if found.attestation.landlock_abi >= LANDLOCK_OF_TCP:
            assert found.errno == "EACCES"


def test_a_loopback_that_is_granted_is_the_programs_own(served: Run, inside: Run) -> None:
    both = Network(WEB.ports, loopback=True)
    assert served(both, "talk_to_itself").value == "hello"
    assert served(both, "talk", "api.example.com", "443").value == "198.18.0.5 443\n"
    alone = Grants(network=Network(loopback=True), limits=LIMITS)
    found = inside("talk_to_itself", grants=alone)
    assert found.value == "hello"
    assert found.attestation is not None
    assert found.attestation.network == "empty"
    assert inside("talk", "192.0.2.1", "443", grants=alone).errno == "ENETUNREACH"


@pytest.mark.parametrize("options", [(), ("SO_REUSEADDR", "SO_REUSEPORT")])
@pytest.mark.parametrize(
    ("address", "port"), [("0.0.0.0", "5432"), ("10.20.0.1", "5432"), ("::", "5432")]
)
def test_nobody_binds_beside_the_broker(
    served: Run, address: str, port: str, options: tuple[str, ...]
) -> None:
    network = Network(LITERAL.ports, LITERAL.cidrs, loopback=True)
    assert served(network, "bind", address, port, *options).errno == "EADDRINUSE"
    assert served(network, "bind", address, "5433", *options).errno is None


# --- the launcher's own ---------------------------------------------------------------------------------------------


def test_the_launchers_network_is_only_for_who_asks(inside: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        found = inside("connect", port, grants=Grants(host_network=True, limits=LIMITS))
        assert found.errno is None
        assert found.attestation is not None
        assert found.attestation.network == "host"
        assert inside("connect", port).errno in ("EACCES", "ECONNREFUSED")


# --- handing over --------------------------------------------------------------------------------------------------


def test_every_socket_is_named_and_ready(act: Launch) -> None:
    with closing(StubBroker()) as broker:
        grants = Grants(network=LITERAL, limits=LIMITS)
        confined = act("identity", grants=grants, sockets=broker.far.fileno(), client='a"b')
        broker.receive()
        assert outcome(confined).errno is None
        assert [message["client"] for message in broker.messages] == ['a"b']
        wanted = [
            {"kind": "dns_udp"},
            {"kind": "dns_tcp"},
            {"kind": "tcp", "port": 5432, "family": 4},
            {"kind": "tcp", "port": 5432, "family": 6},
        ]
        assert [said for said, _ in broker.sockets] == wanted
        for said, made in broker.sockets:
            assert not os.get_blocking(made.fileno())
            listens = made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            assert listens == (said["kind"] != "dns_udp")
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                assert made.getsockopt(socket.SOL_SOCKET, option) == 0


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process hold as many sockets as a broker does; few may is usual where systemd starts it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_as_many_ports_as_can_be_granted(act: Launch) -> None:
    with closing(StubBroker()) as broker:
        network = Network(((1000, 2023),), ("10.0.0.0/8", "fd00::/8"))
        grants = Grants(network=network, limits=LIMITS)
        handed = {"sockets": broker.far.fileno(), "client": "source"}
        confined = act("talk", "10.1.2.3", "2023", grants=grants, **handed)
        broker.serve()
        assert len(broker.sockets) == 2 + 2 * 1024
        assert [message["part"] for message in broker.messages] == list(range(9))
        assert outcome(confined).value == "10.1.2.3 2023\n"


def test_a_broker_that_is_gone(act: Launch) -> None:
    with closing(StubBroker()) as broker:
        broker.near.close()
        with pytest.raises(WallMissing, match="cannot hand sockets to the broker") as caught:
            act(
                "identity",
                grants=Grants(network=WEB, limits=LIMITS),
                sockets=broker.far.fileno(),
                client="source",
            )
    assert caught.value.wall == "network"


@pytest.mark.parametrize("blocking", [True, False])
def test_a_broker_that_takes_nothing(act: Launch, blocking: bool) -> None:
    with closing(StubBroker()) as broker:
        broker.far.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                broker.far.send(b"x" * 4096)
        broker.far.setblocking(blocking)
        before = time.monotonic()
        with pytest.raises(WallMissing, match="did not take its sockets in time"):
            act(
                "identity",
                grants=Grants(network=WEB, limits=LIMITS),
                sockets=broker.far.fileno(),
                client="source",
                attest_timeout_s=1,
            )
        assert time.monotonic() - before < 5
