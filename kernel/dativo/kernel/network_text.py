"""Read what people write as network grants and as network entries of the policy (docs/spec/network.md, Grants).

Everything but the grammar is refused, with the nearest right spelling where that is obvious: a grant that is nearly right is the
most dangerous kind. Names are ASCII, addresses canonical, and no spelling of an address passes for a name.
"""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, Final

from dativo.kernel import quantities
from dativo.kernel.network import HTTPS, WILDCARD, NetworkGrant, Ports, merged
from dativo.protocol.errors import ConfigError, Where
from dativo.sandbox.network import MAX_PORTS, RESOLVER_PORT

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

MAX_TEXT_CHARS: Final = 1024
_MAX_NAME_CHARS: Final = 253
_MAX_LABEL_CHARS: Final = 63
# What 15 digits can say, so that each canonical text can be read again.
_UPLOAD_BYTES: Final = 10**15
_LABEL: Final = re.compile(r"[a-z0-9_-]+")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_PREFIX: Final = re.compile(r"0|[1-9][0-9]{0,2}")
_DIGITS: Final = frozenset(string.digits)
_OF_IPV6: Final = frozenset(string.hexdigits + ":/%")
_SCHEMES: Final = {"https": HTTPS, "http": 80, "postgresql": 5432, "postgres": 5432, "mysql": 3306}

# Ports of services that are found by SRV records and written without ports (IANA service names; MongoDB, Kafka by custom).
SERVICE_PORTS: Final = {
    "_amqp": 5672,
    "_amqps": 5671,
    "_http": 80,
    "_https": 443,
    "_imaps": 993,
    "_kafka": 9092,
    "_ldap": 389,
    "_ldaps": 636,
    "_mongodb": 27017,
    "_mysql": 3306,
    "_postgresql": 5432,
    "_redis": 6379,
}

# Literal networks that are never granted: they mean the machine itself, its link, its cloud, or many machines. The broker's
# rust-plugins/broker/src/addresses.txt classes every address; a test holds this list against it.
NEVER_LITERAL: Final = (
    "0.0.0.0/8",
    "100.96.0.96/32",
    "100.100.100.200/32",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "192.0.0.192/32",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/96",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "2001::/32",
    "2001:2::/48",
    "2002::/16",
    "fd00:42::42/128",
    "fd00:c1::a9fe:a9fe/128",
    "fd00:100::100:200/128",
    "fd00:ec2::/32",
    "fd00:a9fe:a9fe::1/128",
    "fd20:ce::254/128",
    "fe80::/10",
    "ff00::/8",
)


class _Refused(Exception):
    """Why a text is no grant, and what to write instead."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def parse(text: str, where: Where | None = None) -> NetworkGrant:
    """Return the grant that ``text`` means. Raises ConfigError, placed by ``where``, with the nearest right spelling."""
    try:
        return _parse(text)
    except _Refused as refused:
        hint = refused.hint or _instead(text)
        raise ConfigError(
            f"not a network grant: {refused.message}", where or Where(), value=text, hint=hint
        ) from None


def pattern(text: str) -> str:
    """Return a name or ``*.name`` in lower case without a final dot. Raises ConfigError."""
    try:
        return _host(text)
    except _Refused as refused:
        raise ConfigError(refused.message, value=text, hint=refused.hint) from None


def cidr(text: str) -> str:
    """Return a network or address as its canonical CIDR. Raises ConfigError."""
    try:
        return str(_network(text))
    except _Refused as refused:
        raise ConfigError(refused.message, value=text, hint=refused.hint) from None


def is_address(text: str) -> bool:
    """Whether ``text`` is meant as an address or network: nothing else has a colon or a slash, or digits and dots alone."""
    return ":" in text or "/" in text or set(text) <= _DIGITS | {"."}


def endpoint(text: str, port: int | None = None) -> str:
    """Return ``ADDRESS:PORT`` canonically; ``port`` is the default. Raises ConfigError."""
    from ipaddress import ip_address

    host, colon, written = text.rpartition(":")
    if text.endswith("]") or (text.count(":") > 1 and not text.startswith("[")):
        host, colon, written = text, "", ""
    bare = (host if colon else text).removeprefix("[").removesuffix("]")
    wanted = ConfigError(
        "expected an address and a port", value=text, hint="Write 10.0.0.2:53 or [fd00::2]:53"
    )
    try:
        address = ip_address(bare)
        chosen = _one_port(written) if colon else port
    except (ValueError, _Refused):
        raise wanted from None
    if chosen is None or "%" in bare:
        raise wanted
    return f"[{address}]:{chosen}" if address.version == 6 else f"{address}:{chosen}"


def host_and_port(text: str) -> str:
    """Return ``NAME:PORT`` or ``ADDRESS:PORT`` canonically. Raises ConfigError."""
    host, _, written = text.rpartition(":")
    if host and not is_address(host):
        try:
            return f"{_host(host)}:{_one_port(written)}"
        except _Refused as refused:
            raise ConfigError(refused.message, value=text, hint=refused.hint) from None
    return endpoint(text)


# --- the grammar -----------------------------------------------------------------------------------------------------------


def _parse(text: str) -> NetworkGrant:
    if not text:
        raise _Refused("it is empty")
    if len(text) > MAX_TEXT_CHARS:
        raise _Refused(f"it is longer than {MAX_TEXT_CHARS} characters")
    if not text.isascii():
        raise _Refused("it is not ASCII", _a_label(text))
    if not text.isprintable():
        raise _Refused("it holds a control character")
    where, *options = text.split(" ")
    if not where:
        raise _Refused("it begins with a space")
    grant = _where(where)
    for word in options:
        grant = _with_option(grant, word)
    return grant


def _where(text: str) -> NetworkGrant:
    if text == "loopback":
        return NetworkGrant("loopback", "")
    if text.startswith("srv:"):
        return _service(text.removeprefix("srv:"))
    if text.startswith("["):
        return _literal_v6(text)
    if text.count(":") > 1 and set(text) <= _OF_IPV6:
        raise _Refused("IPv6 stands in brackets", "Write [fd00::1]:PORT")
    host, colon, written = text.partition(":")
    address, _, prefix = host.partition("/")
    if address and set(address) <= _DIGITS | {"."} and set(prefix) <= _DIGITS | {"-"}:
        return _literal_v4(host, colon, written)
    if "/" in text or "@" in text:
        raise _Refused("a grant names a host, no URL, path or user")
    name = _host(host)
    return NetworkGrant("host", name, _ports(written) if colon else ((HTTPS, HTTPS),))


def _with_option(grant: NetworkGrant, word: str) -> NetworkGrant:
    from dataclasses import replace

    name, equals, value = word.partition("=")
    if grant.kind == "loopback":
        raise _Refused("loopback has no options", "Write loopback")
    if name == "upload" and equals:
        if grant.upload_bytes is not None:
            raise _Refused("upload is written twice")
        try:
            most = quantities.parse_bytes(value)
        except ValueError as error:
            raise _Refused(f"upload: {error}", "Write upload=10MiB") from None
        if most >= _UPLOAD_BYTES:
            raise _Refused("upload is less than 1000TB", "Leave upload out")
        return replace(grant, upload_bytes=most)
    if word not in ("private", "no-sni"):
        raise _Refused(
            f"unknown option {word!r}" if word else "two spaces, or one at the end",
            "Options are private, upload=SIZE and no-sni" if word else "Write single spaces",
        )
    if grant.kind == "cidr":
        why = "may be private as it is" if word == "private" else "has no name to compare"
        raise _Refused(f"a literal address {why}", f"Leave {word} out")
    changed = replace(grant, private=True) if word == "private" else replace(grant, sni=False)
    if changed == grant:
        raise _Refused(f"{word} is written twice")
    return changed


def _service(text: str) -> NetworkGrant:
    name, colon, written = text.partition(":")
    labels = _name(name).split(".")
    example = "Write srv:_kafka._tcp.example.com"
    if len(labels) < 4 or not labels[0].startswith("_") or labels[1] != "_tcp":
        raise _Refused(
            "a service is _SERVICE._tcp.DOMAIN, the domain of two labels or more", example
        )
    port = SERVICE_PORTS.get(labels[0])
    if colon:
        ports = _ports(written)
    elif port is not None:
        ports = ((port, port),)
    else:
        raise _Refused(
            f"which ports {labels[0]} has is not known", f"Write srv:{'.'.join(labels)}:PORT"
        )
    return NetworkGrant("srv", ".".join(labels), ports)


def _host(text: str) -> str:
    below = text.startswith(WILDCARD)
    name = _name(text.removeprefix(WILDCARD) if below else text)
    labels = name.split(".")
    if labels[-1] == "localhost" or labels == ["loopback"]:
        raise _Refused(
            f"{name} is the process's own namespace", "Write loopback if it is to listen there"
        )
    if labels[-1].isdigit() or labels[-1].startswith("0x"):
        raise _Refused("it is an address in another spelling", "Write an address as 10.1.2.3:PORT")
    if below and len(labels) < 2:
        raise _Refused("a wildcard needs a domain of two labels or more", "Write *.example.com")
    return f"{WILDCARD}{name}" if below else name


def _name(text: str) -> str:
    name = text.removesuffix(".").lower()
    if not name.isascii():
        raise _Refused("it is not ASCII", _a_label(text))
    if "*" in name:
        raise _Refused("`*.` stands at the beginning, once", "Write *.example.com")
    for label in name.split("."):
        if not label:
            raise _Refused("a label is empty")
        if not _LABEL.fullmatch(label):
            raise _Refused(f"{label!r} is no label of a name")
        if len(label) > _MAX_LABEL_CHARS:
            raise _Refused(f"a label has at most {_MAX_LABEL_CHARS} characters")
    if len(name) > _MAX_NAME_CHARS:
        raise _Refused(f"a name has at most {_MAX_NAME_CHARS} characters")
    return name


def _literal_v4(host: str, colon: str, written: str) -> NetworkGrant:
    network = _network(host)
    if not colon:
        raise _Refused("an address needs a port", f"Add the port: {host}:PORT")
    return _literal(network, written)


def _literal_v6(text: str) -> NetworkGrant:
    inside, bracket, rest = text[1:].partition("]")
    if not bracket:
        raise _Refused("the bracket is not closed")
    if inside.count(":") < 2:
        raise _Refused("only IPv6 stands in brackets", f"Write {inside}:PORT")
    network = _network(inside)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None:
        hint = f"Write {mapped}{rest}" if network.prefixlen == network.max_prefixlen else None
        raise _Refused("it is an IPv4 address in another spelling", hint)
    if not rest.startswith(":"):
        raise _Refused("an address needs a port", f"Add the port: [{inside}]:PORT")
    return _literal(network, rest[1:])


def _literal(network: IPv4Network | IPv6Network, written: str) -> NetworkGrant:
    from ipaddress import ip_network

    for never in NEVER_LITERAL:
        special = ip_network(never)
        # One version, so one type, which the checker cannot know.
        if network.version == special.version and network.subnet_of(special):  # type: ignore[arg-type]
            raise _Refused(
                f"{network} is never granted: it lies in {special}",
                "Write loopback for the process's own; else grant a name, and have the operator permit its address "
                "(policy: network.permit_special)",
            )
    return NetworkGrant("cidr", str(network), _ports(written))


def _network(text: str) -> IPv4Network | IPv6Network:
    """Return the network that ``text`` is: an address, or one with a prefix and no bit behind it."""
    from ipaddress import ip_address, ip_network

    address, slash, prefix = text.partition("/")
    try:
        found = ip_address(address)
    except ValueError:
        raise _Refused("it is no address", "Write an address as 10.1.2.3 or fd00::1") from None
    if "%" in address:
        raise _Refused("an address has no zone here", f"Write {address.partition('%')[0]}")
    if not slash:
        return ip_network(found)
    if not _PREFIX.fullmatch(prefix) or int(prefix) > found.max_prefixlen:
        raise _Refused(f"/{prefix} is no prefix length from 0 to {found.max_prefixlen}")
    network = ip_network(f"{found}/{prefix}", strict=False)
    if network.network_address != found:
        raise _Refused(f"{text} has bits beyond its prefix", f"Write {network}")
    return network


def _ports(text: str) -> Ports:
    found = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        low = _one_port(first)
        high = _one_port(last) if dash else low
        if high < low:
            raise _Refused("a range of ports goes upward", f"Write {high}-{low}")
        if low <= RESOLVER_PORT <= high:
            raise _Refused(f"port {RESOLVER_PORT} is the resolver's own inside")
        found.append((low, high))
    ports = merged(found)
    if (count := sum(last - first + 1 for first, last in ports)) > MAX_PORTS:
        raise _Refused(f"{count} ports; at most {MAX_PORTS} can be served")
    return ports


def _one_port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise _Refused(
            f"{text!r} is no port from 1 to 65535", "Write ports as 443, 8000-8010 or 443,8443"
        )
    return int(text)


# --- what to write instead -------------------------------------------------------------------------------------------------


def _instead(text: str) -> str | None:
    """Return the hint for what was meant, when that is a grant; None when it is not obvious."""
    for guess in (text.strip(), _of_url(text)):
        if guess and guess != text:
            try:
                return f"Write {_written(_parse(guess))}"
            except _Refused:
                continue
    return None


def _written(grant: NetworkGrant) -> str:
    """Return a grant as people write it: without a port that is the default."""
    https = grant.kind == "host" and grant.ports == ((HTTPS, HTTPS),)
    return str(grant).replace(f":{HTTPS}", "", 1) if https else str(grant)


def _of_url(text: str) -> str | None:
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    host = rest.partition("/")[0].rpartition("@")[2].partition("?")[0]
    if not host or any(character in host for character in " ,"):
        return None
    port = _SCHEMES.get(scheme.lower())
    bare = host.rpartition("]")[2] if host.startswith("[") else host
    return f"{host}:{port}" if port is not None and ":" not in bare else host


def _a_label(text: str) -> str | None:
    """Return the ASCII spelling of a name in other letters, to be looked at: it may not be the name that it looks like."""
    host, colon, ports = text.partition(":")
    if any(character in host for character in "ßς\u200c\u200d"):
        return "Write the name as its A-labels: xn--…"  # the two standards of names differ here
    try:
        name = host.encode("idna").decode("ascii").lower()
        _host(name)
    except (UnicodeError, _Refused):
        return None
    return f"If it is really that name, write {name}{colon}{ports if ports.isascii() else ''}"
