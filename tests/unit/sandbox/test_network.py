"""Networks that can be built, those that cannot, and what the plans say of them."""

from __future__ import annotations

import pytest

from dativo.sandbox import Grants, Identity, Network, Program, WallMissing
from dativo.sandbox.mounts import bubblewrap_options, plan_view
from dativo.sandbox.network import check_network, local_routes, served_ports, standing
from dativo.sandbox.stages import sockets_plan, stage2_plan
from dativo.sandbox.streams import Streams

WEB = Network(((443, 443),))


def refused(
    network: Network | None, *, host: bool = False, sockets: int | None = 9, client: str = "source"
) -> str:
    with pytest.raises(WallMissing) as caught:
        check_network(network, host=host, sockets=sockets, client=client)
    assert caught.value.wall == "network"
    return caught.value.reason


def test_what_must_stand() -> None:
    assert standing(None, host=False) == "empty"
    assert standing(Network(), host=False) == "empty"
    assert standing(Network(loopback=True), host=False) == "empty"
    assert standing(WEB, host=False) == "named"
    assert standing(None, host=True) == "host"


def test_a_network_that_can_be_built() -> None:
    check_network(None, host=False, sockets=None, client="")
    check_network(Network(loopback=True), host=False, sockets=None, client="")
    check_network(WEB, host=False, sockets=9, client="source")
    check_network(None, host=True, sockets=None, client="")


def test_a_network_of_names_needs_a_broker_and_a_name() -> None:
    assert "no broker" in refused(WEB, sockets=None)
    assert "no port" in refused(None)
    assert "no port" in refused(Network(loopback=True))
    for client in ("", "x" * 129, "a\nb"):
        assert "client" in refused(WEB, client=client)
    assert "exclude" in refused(WEB, host=True)


def test_ports() -> None:
    assert served_ports(Network(((8000, 8010), (443, 443), (8005, 8020)))) == (
        (443, 443),
        (8000, 8020),
    )
    assert served_ports(Network(((1000, 2023),))) == ((1000, 2023),)
    assert "1025 ports" in refused(Network(((1000, 2024),)))
    for first, last in ((0, 1), (443, 442), (65535, 65536), (-1, 5)):
        assert "no range" in refused(Network(((first, last),)))
    for first, last in ((53, 53), (1, 100)):
        assert "resolver" in refused(Network(((first, last),)))


def test_literal_networks() -> None:
    ports = ((443, 443),)
    given = ("10.0.0.0/8", "fd00::/8", "10.1.2.3", "127.0.0.1/32", "::1", "10.0.0.0/8")
    assert local_routes(Network(ports, given)) == (("10.0.0.0", 8), ("fd00::", 8), ("10.1.2.3", 32))
    assert "without a port" in refused(Network((), ("10.0.0.0/8",)))
    for text in ("10.0.0.1/8", "example.com", "", "10.0.0.0/33", "fe80::1%eth0/64\n"):
        assert "no literal network" in refused(Network(ports, (text,)))
    for text in ("198.18.0.0/15", "198.19.255.255", "2001:2::5"):
        assert "names get their addresses" in refused(Network(ports, (text,)))
    many = tuple(f"10.{number // 250}.{number % 250}.1" for number in range(1025))
    assert "1025 literal networks" in refused(Network(ports, many))


def test_plan_of_the_maker_of_sockets() -> None:
    network = Network(((443, 444),), ("10.0.0.0/8", "fd00::/8"))
    plan = sockets_plan(network, "source", Identity(5, 6), namespace=11, broker=12)
    fields = plan.split(b"\0")[2:-1]
    assert fields == [
        *(b"namespace", b"11", b"broker", b"12", b"identity", b"5", b"6", b"client", b"source"),
        *(b"port", b"443", b"444", b"network", b"10.0.0.0", b"8", b"network", b"fd00::", b"8"),
    ]


@pytest.mark.parametrize(
    ("grants", "said"),
    [
        (Grants(), []),
        (Grants(network=WEB), ["connect", "53", "53", "connect", "443", "443"]),
        (Grants(network=Network(((443, 443),), loopback=True)), ["tcp", "any"]),
        (Grants(network=Network(loopback=True)), ["tcp", "any"]),
        (Grants(host_network=True), ["tcp", "any"]),
    ],
)  # fmt: skip
def test_what_landlock_permits(grants: Grants, said: list[str]) -> None:
    program = Program("test", ("/bin/true",))
    view = plan_view(program, grants)
    fields = (
        stage2_plan(program, grants, view, {}, Streams(9, 0, 1, None, None)).decode().split("\0")
    )
    start = next(
        number for number, field in enumerate(fields) if field in ("connect", "tcp", "folder")
    )
    assert fields[start : fields.index("folder")] == said
    options = bubblewrap_options(view, grants, stage2_source="/x", sources={}, fds={})
    assert ("--unshare-net" in options) is not grants.host_network
