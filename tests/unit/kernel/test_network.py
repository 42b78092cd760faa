"""Network grants: what is one, what is not, what it means, and that both implementations mean the same."""

from __future__ import annotations

import json
import re
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dativo.kernel import network, network_text
from dativo.kernel.network import Granted, NetworkGrant, collect, walled
from dativo.kernel.network_text import NEVER_LITERAL, parse
from dativo.protocol.errors import ConfigError, Where
from dativo.sandbox.network import Network, check_network

ROOT = Path(__file__).parents[3]
CASES: dict[str, Any] = json.loads((ROOT / "tests/network_cases.json").read_text())
ADDRESSES = ROOT / "rust-plugins/broker/src/addresses.txt"
IMPLIED = {"_kafka": 9092, "_mongodb": 27017}


# --- the table that the broker is held to as well --------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES["grants"], ids=lambda case: str(case["grant"]))
def test_a_grant_is_the_brokers_rule(case: dict[str, Any]) -> None:
    rule = parse(case["grant"]).rule()
    assert rule is not None
    if "srv" in rule:
        # The table leaves out what only this side needs: which ports are listened on.
        port = IMPLIED[rule["srv"].partition(".")[0]]
        assert rule.pop("ports") == [[port, port]]
    assert rule == case["rule"]


@pytest.mark.parametrize("text", CASES["grant_errors"])
def test_what_is_no_grant_is_refused_where_it_stands(text: str) -> None:
    with pytest.raises(ConfigError, match="not a network grant: ") as error:
        parse(text, Where(file="job.yaml", pointer="/source/grants/network/0"))
    assert error.value.where.file == "job.yaml"
    assert error.value.value is not None


@pytest.mark.parametrize(
    "case", CASES["names"], ids=lambda c: f"{c['grant']} {c['name']!r} {c['port']}"
)
def test_names(case: dict[str, Any]) -> None:
    # What reaches this side is canonical: the broker's own parser stands before it.
    name = case["name"].removesuffix(".")
    canonical = re.fullmatch(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", name, re.ASCII)
    if canonical is None or len(name) > 253:
        assert not case["expected"]
        return
    grant = parse(case["grant"])
    found = Granted([grant]).by(name.lower(), None, case["port"])
    assert (found is not None and grant.kind == "host") is case["expected"]


@pytest.mark.parametrize(
    "case", CASES["literals"], ids=lambda c: f"{c['grant']} {c['address']} {c['port']}"
)
def test_literals(case: dict[str, Any]) -> None:
    found = Granted([parse(case["grant"])]).by(None, case["address"], case["port"])
    assert (found is not None) is case["expected"]


@pytest.mark.parametrize("case", CASES["srv_targets"], ids=lambda c: f"{c['grant']} {c['target']}")
def test_targets_of_services(case: dict[str, Any]) -> None:
    grant = parse(case["grant"])
    port = grant.ports[0][0]
    target = case["target"].removesuffix(".").lower()
    assert grant.names(target, port) is case["expected"] or "\0" in target
    assert not grant.names(target, port + 1)


def test_what_is_never_a_literal_grant_is_what_the_brokers_table_says() -> None:
    """Every line of a cloud, and every one that hides an IPv4 address, lies in a network that is refused here."""
    never = [ip_network(text) for text in NEVER_LITERAL]
    for line in ADDRESSES.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        text, kind = line.split()[:2]
        if kind == "cloud" or kind.startswith("inner"):
            found = ip_network(text)
            assert any(
                network.is_below(text, str(one)) for one in never if one.version == found.version
            ), text


# --- the texts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("API.example.com", "api.example.com:443"),
        ("api.example.com:8443,443,444", "api.example.com:443-444,8443"),
        ("api.example.com no-sni upload=1024KiB private", "api.example.com:443 private upload=1MiB no-sni"),
        ("*.example.com:5432 private", "*.example.com:5432 private"),
        ("10.1.2.3:5432", "10.1.2.3:5432"),
        ("10.20.0.0/16:5432 upload=5", "10.20.0.0/16:5432 upload=5B"),
        ("[FD00:0::1]:443", "[fd00::1]:443"),
        ("[fd00::/8]:443", "[fd00::/8]:443"),
        ("srv:_Kafka._TCP.example.com", "srv:_kafka._tcp.example.com:9092"),
        ("srv:_odd._tcp.example.com:7,8 private", "srv:_odd._tcp.example.com:7-8 private"),
        ("loopback", "loopback"),
    ],
)  # fmt: skip
def test_the_canonical_text(text: str, canonical: str) -> None:
    grant = parse(text)
    assert str(grant) == canonical
    assert parse(canonical) == grant


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("https://api.example.com", "Write api.example.com"),
        ("http://api.example.com/v1?x=1", "Write api.example.com:80"),
        ("https://api.example.com:8443/v1", "Write api.example.com:8443"),
        ("https://user:secret@api.example.com/", "Write api.example.com"),
        ("https://[fd00::1]:8443/", "Write [fd00::1]:8443"),
        ("api.example.com/path", "Write api.example.com"),
        ("user@api.example.com", "Write api.example.com"),
        (" api.example.com ", "Write api.example.com"),
        ("10.1.2.3", "Add the port: 10.1.2.3:PORT"),
        ("[fd00::1]", "Add the port: [fd00::1]:PORT"),
        ("fd00::1", "Write [fd00::1]:PORT"),
        ("10.20.0.1/16:8080", "Write 10.20.0.0/16"),
        ("[::ffff:10.1.2.3]:443", "Write 10.1.2.3:443"),
        ("[10.1.2.3]:443", "Write 10.1.2.3:PORT"),
        ("[fe80::1%eth0]:443", "Write fe80::1"),
        ("bücher.example", "write xn--bcher-kva.example"),
        ("bücher.example:8443", "write xn--bcher-kva.example:8443"),
        ("straße.example", "A-labels"),
        ("localhost", "Write loopback"),
        ("localhost:8080", "Write loopback"),
        ("127.0.0.1:8080", "permit_special"),
        ("0x7f000001", "Write an address as"),
        ("*", "Write *.example.com"),
        ("a.com upload=lots", "upload=10MiB"),
        ("a.com publicly", "Options are private"),
        ("a.com  private", "single spaces"),
        ("a.com:8010-8000", "Write 8000-8010"),
        ("10.1.2.3:5432 private", "Leave private out"),
        ("loopback private", "Write loopback"),
        ("srv:_odd._tcp.example.com", "srv:_odd._tcp.example.com:PORT"),
        ("srv:kafka.example.com", "srv:_kafka._tcp.example.com"),
    ],
)
def test_what_is_nearly_right_names_the_right_spelling(text: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert hint in str(error.value.hint)


@pytest.mark.parametrize("text", ["a.com:53", "a.com:1-100", "a.com private private", "a.com no-sni no-sni",
                                  "a.com upload=1 upload=2", "a.com\tprivate", "a.com\n", "10.1.2.3:5432 no-sni",
                                  "a.com upload=0", "a.com upload=1000TB", "a.com upload=", "loopback:80",
                                  "a" * 2000])  # fmt: skip
def test_other_things_that_are_no_grant(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


# --- grants together -------------------------------------------------------------------------------------------------------


def test_the_grants_of_a_process_are_each_there_once_and_in_order() -> None:
    found = collect(map(parse, ("b.com", "a.com:8443", "B.com.", "a.com")))
    assert [str(grant) for grant in found] == ["a.com:443", "a.com:8443", "b.com:443"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("a.com", "a.com private"), "contradict"),
        (("a.com:1-50", "a.com:80-90", "a.com:45 upload=1MiB"), "contradict"),
        (("a.com:60,100-200", "a.com:80 private", "a.com:150 private"), "contradict"),
        (("a.com:1000-1600", "b.com:2000-2600"), "1202 ports"),
        (tuple(f"10.{n // 256}.{n % 256}.0/24:80" for n in range(1025)), "1025 networks"),
    ],
)
def test_grants_that_cannot_stand_together(texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        collect(map(parse, texts), Where(file="job.yaml"))


def test_what_the_sandbox_builds() -> None:
    assert walled(()) is None
    assert walled((parse("loopback"),)) == Network(loopback=True)
    grants = collect(map(parse, ("a.com", "*.b.com:444,8000-8010", "10.0.0.0/8:5432", "loopback")))
    built = walled(grants)
    assert built == Network(
        ((443, 444), (5432, 5432), (8000, 8010)), ("10.0.0.0/8",), loopback=True
    )
    check_network(built, host=False, sockets=7, client="source")
    assert not network.needs_broker((parse("loopback"),))
    assert network.needs_broker(grants)


def test_the_closest_grant_is_the_one_that_counts() -> None:
    grants = tuple(
        map(
            parse,
            (
                "*.example.com",
                "*.api.example.com",
                "eu.api.example.com",
                "srv:_x._tcp.example.com:443",
            ),
        )
    )
    for name, expected in {
        "eu.api.example.com": "eu.api.example.com:443",
        "us.api.example.com": "*.api.example.com:443",
        "www.example.com": "*.example.com:443",
        "example.com": "srv:_x._tcp.example.com:443",
    }.items():
        assert str(Granted(grants).by(name, None, 443)) == expected
        assert Granted(grants).means(name)
    assert Granted(grants).by("example.org", None, 443) is None
    assert Granted(grants).by(None, None, 443) is None
    assert not Granted(grants).means("example.org")


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "*.a.example.com", True),
        ("*.a.example.com", "*.example.com", False),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "example.com", False),
        ("a.example.com", "*.a.example.com", False),
        ("a.com:443,8000-8010", "a.com:8000-8005", True),
        ("a.com", "a.com:444", False),
        ("a.com private", "a.com", True),
        ("a.com", "a.com private", False),
        ("a.com", "a.com no-sni", False),
        ("a.com upload=2MiB", "a.com upload=1MiB", True),
        ("a.com upload=2MiB", "a.com", False),
        ("10.0.0.0/8:443", "10.2.0.0/16:443", True),
        ("10.0.0.0/8:443", "[fd00::1]:443", False),
        ("loopback", "loopback", True),
        ("loopback", "a.com", False),
        ("srv:_kafka._tcp.a.com", "srv:_kafka._tcp.a.com", True),
        ("srv:_kafka._tcp.a.com", "srv:_kafka._tcp.b.com", False),
    ],
)
def test_what_covers_what(wide: str, narrow: str, expected: bool) -> None:
    assert parse(wide).covers(parse(narrow)) is expected


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("a.b.com", ["a.b.com", "*.b.com", "*.com"]),
        ("*.a.com", ["*.a.com", "*.com"]),
        ("128.0.0.0/2:80", ["128.0.0.0/2", "128.0.0.0/1", "0.0.0.0/0"]),
        ("srv:_kafka._tcp.a.com", ["_kafka._tcp.a.com"]),
        ("loopback", [""]),
    ],
)
def test_what_encloses_a_place(text: str, places: list[str]) -> None:
    assert list(network.enclosing(parse(text))) == places


# --- of the policy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.0.0.2", "10.0.0.2:53"),
        ("10.0.0.2:5353", "10.0.0.2:5353"),
        ("fd00::2", "[fd00::2]:53"),
        ("[FD00::2]:5353", "[fd00::2]:5353"),
        ("[fd00::2]", "[fd00::2]:53"),
    ],
)
def test_resolvers(text: str, canonical: str) -> None:
    assert network_text.endpoint(text, 53) == canonical


@pytest.mark.parametrize(
    "text",
    ["resolver.corp", "resolver.corp:53", "10.0.0.2:", "10.0.0.2:0", "", ":53", "fe80::1%eth0"],
)
def test_no_resolvers(text: str) -> None:
    with pytest.raises(ConfigError):
        network_text.endpoint(text, 53)


def test_proxies() -> None:
    assert network_text.host_and_port("Proxy.corp:3128") == "proxy.corp:3128"
    assert network_text.host_and_port("10.0.0.1:3128") == "10.0.0.1:3128"
    assert network_text.host_and_port("[fd00::1]:3128") == "[fd00::1]:3128"
    for text in ("proxy.corp", "http://proxy:80", "10.0.0.1", ":80", "a b:80", "proxy:0"):
        with pytest.raises(ConfigError):
            network_text.host_and_port(text)


# --- properties ------------------------------------------------------------------------------------------------------------

LABELS = st.from_regex(r"[a-z0-9_-]{1,12}", fullmatch=True).filter(
    lambda label: not label.isdigit() and not label.startswith("0x")
)
NAMES = (
    st.lists(LABELS, min_size=2, max_size=5)
    .map(".".join)
    .filter(lambda name: not name.endswith("localhost"))
)
PORTS = st.integers(54, 65535)
HOSTS = st.builds(
    lambda name, below, port, private, upload, sni: NetworkGrant(
        "host", ("*." if below else "") + name, ((port, port),), private, upload, sni
    ),
    NAMES, st.booleans(), PORTS, st.booleans(), st.none() | st.integers(1, 10**15 - 1), st.booleans(),
)  # fmt: skip


@given(HOSTS)
def test_a_canonical_text_means_the_grant(grant: NetworkGrant) -> None:
    assert parse(str(grant)) == grant
    where, space, options = str(grant).partition(" ")
    assert parse(where.upper() + space + options) == grant
    assert grant.covers(grant)


@given(st.text(max_size=60) | st.from_regex(r"[a-z0-9.*:/@\[\]_ %=-]{1,40}", fullmatch=True))
def test_every_text_is_a_grant_or_refused(text: str) -> None:
    try:
        grant = parse(text)
    except ConfigError as error:
        assert error.message.startswith("not a network grant: ")
        return
    assert parse(str(grant)) == grant
    built = walled((grant,))
    if network.needs_broker((grant,)):
        check_network(built, host=False, sockets=7, client="source")


@given(HOSTS, HOSTS, NAMES, PORTS)
def test_what_is_covered_is_permitted_too(
    wide: NetworkGrant, narrow: NetworkGrant, name: str, port: int
) -> None:
    if wide.covers(narrow):
        assert wide.where in network.enclosing(narrow)
        assert wide.names(name, port) or not narrow.names(name, port)


@given(st.lists(st.tuples(PORTS, st.integers(0, 30)), max_size=20))
def test_merging_ports_keeps_each_and_adds_none(pairs: list[tuple[int, int]]) -> None:
    ranges = [(first, first + more) for first, more in pairs]
    found = network.merged(ranges)
    assert {p for a, b in found for p in range(a, b + 1)} == {
        p for a, b in ranges for p in range(a, b + 1)
    }
    assert all(b + 1 < c for (_, b), (c, _) in pairwise(found))
