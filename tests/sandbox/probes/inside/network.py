"""Acts on sockets."""

from __future__ import annotations

import ctypes
import socket
import struct

from tests.sandbox.probes.inside.files import checked, unseen

LIBC = ctypes.CDLL(None, use_errno=True)


def connect(host: str, port: str, protocol: str = "0") -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, int(protocol)) as client:
        client.settimeout(2)
        client.connect((host, int(port)))


def connect_fast(port: str) -> None:
    """TCP fast open: a connect that is a send, and waits."""
    with socket.socket() as client:
        client.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", int(port)))


def connect_by_option(port: str) -> None:
    """TCP_FASTOPEN_CONNECT: connect returns at once, the first write connects."""
    with socket.socket() as client:
        client.settimeout(2)
        client.setsockopt(socket.IPPROTO_TCP, 30, 1)
        client.connect(("127.0.0.1", int(port)))
        client.send(b"x")


def send_datagram(port: str) -> None:
    """The second send hears of an answer that nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", int(port)))
        sender.send(b"x")
        sender.send(b"x")


def connect_unix(address: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + address[1:] if address.startswith("@") else address)


def open_socket(family: str, kind: str, protocol: str) -> None:
    socket.socket(int(family), int(kind), int(protocol)).close()


def listen(host: str, port: str) -> None:
    with socket.socket() as listener:
        listener.bind((host, int(port)))
        listener.listen()


def attach_filter(option: str) -> None:
    """A socket filter of one instruction: take everything."""
    instruction = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0xFFFF))
    program = struct.pack("@HP", 1, ctypes.addressof(instruction))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, int(option), program)


def use_upper_protocol() -> None:
    """TCP_ULP: kernel TLS. Unconnected, the kernel answers ENOTCONN."""
    with socket.socket() as one:
        one.setsockopt(socket.IPPROTO_TCP, 31, b"tls")


def other_interfaces() -> None:
    if [name for _, name in socket.if_nameindex()] == ["lo"]:
        raise unseen("an interface of the host")


def ask_routes() -> int:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as routing:
        return routing.fileno()


def bind_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))


def set_interface_up() -> None:
    """SIOCSIFFLAGS on lo as it is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        request = ctypes.create_string_buffer(struct.pack("16sH22x", b"lo", 0x49))
        checked(LIBC.ioctl(one.fileno(), ctypes.c_ulong(0x8914), request))
