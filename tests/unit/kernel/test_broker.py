"""The broker's orders, and what the machine's own files add to them."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dativo.kernel import broker
from dativo.kernel.audit import Audit
from dativo.kernel.broker import OBSERVED_PORTS, Networks
from dativo.kernel.network import collect, merged
from dativo.kernel.network_policy import NetworkPolicy
from dativo.kernel.network_text import parse
from dativo.sandbox.network import check_network

SCHEMA = json.loads(resources.files("dativo.schemas").joinpath("events.json").read_text())
RESOLV_CONF = """\
# made by hand
search corp.test
nameserver 10.0.0.2
 nameserver\tfd00::2
nameserver fe80::1%eth0
nameserver nonsense
options ndots:2
"""
HOSTS = """\
127.0.0.1 localhost
10.0.0.5\tdb.corp.test db   # the database
fd00::5 DB.corp.test
10.0.0.6 kafka1.example.test example.test other.test
fe80::7%eth0 api.corp.test
nonsense api.corp.test
"""


def networks(*texts: str, observe: bool = False, policy: NetworkPolicy | None = None) -> Networks:
    clients = {"source": collect(map(parse, texts)), "target": collect([parse("loopback")])}
    return Networks(clients, policy or NetworkPolicy(), Audit(Path("/nowhere")), observe)


def test_resolvers_of_the_machine() -> None:
    assert broker.resolvers(RESOLV_CONF) == ["10.0.0.2:53", "[fd00::2]:53"]
    assert broker.resolvers("") == ["127.0.0.1:53"]
    assert len(broker.resolvers("nameserver 10.0.0.2\n" * 20)) == 8


def test_only_hosts_that_may_be_granted_are_told() -> None:
    granted = list(map(parse, ("*.corp.test:5432", "srv:_kafka._tcp.example.test")))
    assert broker.hosts(HOSTS, granted) == [
        ["db.corp.test", "10.0.0.5"],
        ["db.corp.test", "fd00::5"],
        ["kafka1.example.test", "10.0.0.6"],
        ["example.test", "10.0.0.6"],
    ]
    assert broker.hosts(HOSTS, []) == []


def test_orders_fit_the_schema() -> None:
    policy = NetworkPolicy(
        ("evil.test",), ("10.9.0.0/16",), ("127.0.0.0/8",), ("10.0.0.2:53",), "proxy.test:1"
    )
    texts = (
        "a.test",
        "*.b.test private upload=1MiB no-sni",
        "10.0.0.0/8:5432 upload=5",
        "loopback",
        "srv:_kafka._tcp.c.test private",
    )
    orders: dict[str, Any] = broker._orders(networks(*texts, policy=policy))
    jsonschema.Draft202012Validator(SCHEMA).validate(orders)
    (client,) = orders["clients"]
    assert client["name"] == "source"
    assert len(client["grants"]) == 4
    assert orders["blocked"] == ["10.9.0.0/16"]
    assert orders["resolvers"] == ["10.0.0.2:53"]
    assert "127.0.0.0/8" in orders["own"]


@pytest.mark.parametrize(
    ("texts", "observe", "served"),
    [
        ((), False, []),
        (("loopback",), False, []),
        (("a.test",), False, ["source"]),
        ((), True, ["source", "target"]),
    ],
)
def test_a_broker_is_needed_for_what_lies_outside(
    texts: tuple[str, ...], observe: bool, served: list[str]
) -> None:
    found = networks(*texts, observe=observe)
    assert list(found.record.processes) == served
    assert found.needed is bool(served)


def test_an_observed_process_may_connect_to_usual_ports_everywhere() -> None:
    found = networks("a.test:1234", observe=True).network("source")
    check_network(found, host=False, sockets=7, client="source")
    assert found is not None
    assert found.cidrs == ("0.0.0.0/0", "::/0")
    assert {(443, 443), (1234, 1234)} <= set(found.ports)
    assert merged(OBSERVED_PORTS) == OBSERVED_PORTS
