"""The addresses of this machine itself, in the network namespace of the caller: what the broker refuses as it does loopback.

They are the local routes, which hold every address of an interface and whatever else is delivered here (``ip route add local``).
RTM_GETROUTE of rtnetlink(7), in the strict form of Linux 4.20 that leaves other tables out.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

from dativo.protocol.errors import Blame, InternalError

_TIMEOUT_S: Final = 5.0
_ROOM_BYTES: Final = 256 * 1024
_MAX_ROUTES: Final = 50_000
# linux/netlink.h, linux/rtnetlink.h
_SOL_NETLINK: Final = 270
_NETLINK_GET_STRICT_CHK: Final = 12
_NLM_F_REQUEST: Final = 0x1
_NLM_F_DUMP: Final = 0x300
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_RTM_NEWROUTE: Final = 24
_RTM_GETROUTE: Final = 26
_RT_TABLE_LOCAL: Final = 255
_RTN_LOCAL: Final = 2
_RTN_ANYCAST: Final = 4
_RTA_DST: Final = 1
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ROUTE: Final = struct.Struct("=8BI")  # rtmsg
_ATTRIBUTE: Final = struct.Struct("=HH")  # rtattr: length, type
_ERROR: Final = struct.Struct("=i")
_WIDTHS: Final = {socket.AF_INET: 4, socket.AF_INET6: 16}


def own_networks() -> tuple[str, ...]:
    """Return the networks (mostly of one address) that are this machine, IPv4 first. Raises InternalError."""
    try:
        return tuple(network for family in _WIDTHS for network in _local_routes(family))
    except OSError as error:
        raise InternalError(
            f"the addresses of this machine cannot be listed: {error.strerror or error}",
            blame=Blame.MACHINE,
        ) from error


def _local_routes(family: socket.AddressFamily) -> Iterator[str]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(_TIMEOUT_S)
        netlink.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        wanted = _ROUTE.pack(family, 0, 0, 0, _RT_TABLE_LOCAL, 0, 0, 0, 0)
        flags = _NLM_F_REQUEST | _NLM_F_DUMP
        length = _HEADER.size + len(wanted)
        netlink.send(_HEADER.pack(length, _RTM_GETROUTE, flags, 1, 0) + wanted)
        for count, (kind, body) in enumerate(_messages(netlink)):
            if kind == _NLMSG_ERROR:
                code = -_ERROR.unpack_from(body)[0]
                if family == socket.AF_INET6 and code in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
                    return  # a machine without IPv6
                raise OSError(code, os.strerror(code))
            if count > _MAX_ROUTES:
                raise OSError(errno.E2BIG, f"more than {_MAX_ROUTES} local routes")
            if kind == _RTM_NEWROUTE and (network := _network(body, _WIDTHS[family])) is not None:
                yield network


def _messages(netlink: socket.socket) -> Iterator[tuple[int, memoryview]]:
    """Yield type and body of each message of a dump, up to its end."""
    while True:
        packet = memoryview(netlink.recv(_ROOM_BYTES))
        while packet:
            length, kind, *_ = _HEADER.unpack_from(packet)
            if kind == _NLMSG_DONE:
                return
            yield kind, packet[_HEADER.size : length]
            packet = packet[_aligned(length) :]


def _network(route: memoryview, width: int) -> str | None:
    """Return where a route leads, where that is here; IPv4 and IPv6 alike are written canonically."""
    _, bits, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(route)
    if table != _RT_TABLE_LOCAL or kind not in (_RTN_LOCAL, _RTN_ANYCAST):
        return None
    address = bytes(width)
    rest = route[_ROUTE.size :]
    while len(rest) >= _ATTRIBUTE.size:
        length, name = _ATTRIBUTE.unpack_from(rest)
        if name == _RTA_DST:
            address = bytes(rest[_ATTRIBUTE.size : length])
        rest = rest[_aligned(length) :]
    family = socket.AF_INET if width == _WIDTHS[socket.AF_INET] else socket.AF_INET6
    return f"{socket.inet_ntop(family, address)}/{bits}"


def _aligned(length: int) -> int:
    return (length + 3) & ~3
