"""Names, queries and answers of DNS (RFC 1035), and a resolver that answers as a test has it answer.

Written apart from the broker's own: the two are held against each other.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

A, CNAME, PTR, TXT, AAAA, SRV, HTTPS = 1, 5, 12, 16, 28, 33, 65
NO_ERROR, FORMAT, FAILED, NO_NAME, NOT_IMPLEMENTED, REFUSED = 0, 1, 2, 3, 4, 5
TRUNCATED = 0x0200
_IN = 1
_MAX_UDP_BYTES = 512


@dataclass(frozen=True, slots=True)
class Record:
    """One record. ``data`` is an address, a name, or of SRV a tuple of priority, weight, port and target."""

    name: str
    kind: int
    data: object
    ttl: int = 60


@dataclass(frozen=True, slots=True)
class Message:
    """An answer, as it was read."""

    id: int
    flags: int
    rcode: int
    question: tuple[str, int] | None
    answers: tuple[Record, ...]
    size: int

    @property
    def truncated(self) -> bool:
        """Whether it is cut."""
        return bool(self.flags & TRUNCATED)


def name_bytes(name: str) -> bytes:
    """Return a name as it stands in a message, uncompressed."""
    labels = [label.encode("latin-1") for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def query(name: str, kind: int, *, id_: int = 1, flags: int = 0x0100) -> bytes:
    """Return a query."""
    return (
        struct.pack("!6H", id_, flags, 1, 0, 0, 0)
        + name_bytes(name)
        + struct.pack("!2H", kind, _IN)
    )


def _read_name(message: bytes, at: int) -> tuple[str, int]:
    labels, end, jumps = [], None, 0
    while length := message[at]:
        if length >= 0xC0:
            end = at + 2 if end is None else end
            at, jumps = struct.unpack_from("!H", message, at)[0] & 0x3FFF, jumps + 1
            assert jumps < 64
            continue
        labels.append(message[at + 1 : at + 1 + length].decode("latin-1"))
        at += 1 + length
    return ".".join(labels), at + 1 if end is None else end


def parse(message: bytes) -> Message:
    """Read an answer to its last byte."""
    id_, flags, questions, answers, authority, more = struct.unpack_from("!6H", message)
    at, question = 12, None
    if questions:
        name, at = _read_name(message, at)
        question = (name, struct.unpack_from("!H", message, at)[0])
        at += 4
    records = []
    for _ in range(answers):
        name, at = _read_name(message, at)
        kind, class_, ttl, length = struct.unpack_from("!2HIH", message, at)
        assert class_ == _IN
        at += 10
        records.append(Record(name, kind, _read_data(message, at, kind, length), ttl))
        at += length
    assert (at, authority, more) == (len(message), 0, 0)
    return Message(id_, flags, flags & 15, question, tuple(records), len(message))


def _read_data(message: bytes, at: int, kind: int, length: int) -> object:
    if kind in (A, AAAA):
        return str(ipaddress.ip_address(message[at : at + length]))
    if kind in (PTR, CNAME):
        return _read_name(message, at)[0]
    if kind == SRV:
        return (*struct.unpack_from("!3H", message, at), _read_name(message, at + 6)[0])
    return message[at : at + length]


def _data_bytes(record: Record) -> bytes:
    data = record.data
    if record.kind in (A, AAAA):
        return ipaddress.ip_address(str(data)).packed
    if record.kind == SRV and isinstance(data, tuple):
        *numbers, target = data
        return struct.pack("!3H", *numbers) + name_bytes(target)
    return data if isinstance(data, bytes) else name_bytes(str(data))


def answer(
    asked: bytes, records: Sequence[Record], *, rcode: int = NO_ERROR, flags: int = 0x8180
) -> bytes:
    """Return an answer to the query ``asked``."""
    _, at = _read_name(asked, 12)
    head = asked[:2] + struct.pack("!5H", flags | rcode, 1, len(records), 0, 0)
    body = asked[12 : at + 4]
    for record in records:
        data = _data_bytes(record)
        body += (
            name_bytes(record.name)
            + struct.pack("!2HIH", record.kind, _IN, record.ttl, len(data))
            + data
        )
    return head + body


def receive_tcp(stream: socket.socket) -> bytes:
    """Read one message behind its length; empty where the other side is done."""
    data = b""
    while len(data) < 2 or len(data) < 2 + struct.unpack_from("!H", data)[0]:
        some = stream.recv(65537)
        if not some:
            return b""
        data += some
    return data[2:]


def _same_port() -> tuple[socket.socket, socket.socket]:
    """Return a socket for packets and a listener at one port of loopback."""
    for _ in range(100):
        listener = socket.create_server(("127.0.0.1", 0))
        packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            packets.bind(listener.getsockname())
        except OSError:  # somebody has that port
            listener.close()
            packets.close()
        else:
            return packets, listener
    raise AssertionError("no port is free")


# What a resolver does with a query that came over UDP or, where the last is true, TCP: the packets that it sends.
Behave = Callable[[bytes, str, int, bool], Sequence[bytes]]


@dataclass
class Resolver:
    """A resolver with some records, or one that behaves as it is told. Use it as a context manager.

    ``sockets`` are a bound one for packets and a listener, of another network namespace; without them it is on loopback.
    """

    records: Sequence[Record] = ()
    behave: Behave | None = None
    # Name, type, and whether it came over TCP.
    queries: list[tuple[str, int, bool]] = field(default_factory=list)
    # Of each query over UDP: its id and its sender's port.
    seen: list[tuple[int, int]] = field(default_factory=list)
    sockets: tuple[socket.socket, socket.socket] | None = None

    def __enter__(self) -> Resolver:
        self._udp, self._tcp = self.sockets or _same_port()
        self.address = "{}:{}".format(*self._udp.getsockname())
        self._threads = [
            threading.Thread(target=self._serve_udp, daemon=True),
            threading.Thread(target=self._serve_tcp, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for listener in (self._udp, self._tcp):
            # It wakes whoever waits for it (shutdown(2)); a datagram socket has no peer, and says so.
            try:
                listener.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                assert listener is self._udp, error
        for thread in self._threads:
            thread.join(10)
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            asked, sender = self._udp.recvfrom(4096)
            if not asked:
                return
            self.seen.append((struct.unpack_from("!H", asked)[0], sender[1]))
            for packet in self._answers(asked, tcp=False):
                self._udp.sendto(packet, sender)

    def _serve_tcp(self) -> None:
        while True:
            try:
                stream, _ = self._tcp.accept()
            except OSError:
                return  # shut down
            with stream:
                while asked := receive_tcp(stream):
                    for packet in self._answers(asked, tcp=True):
                        stream.sendall(struct.pack("!H", len(packet)) + packet)

    def _answers(self, asked: bytes, *, tcp: bool) -> Sequence[bytes]:
        name, at = _read_name(asked, 12)
        (kind,) = struct.unpack_from("!H", asked, at)
        self.queries.append((name, kind, tcp))
        if self.behave is not None:
            return self.behave(asked, name, kind, tcp)
        found = [record for record in self.records if record.name == name]
        if not found:
            return [answer(asked, [], rcode=NO_NAME)]
        fitting = [record for record in found if record.kind in (kind, CNAME)]
        full = answer(asked, fitting)
        if not tcp and len(full) > _MAX_UDP_BYTES:
            full = answer(asked, [], flags=0x8180 | TRUNCATED)
        return [full]
