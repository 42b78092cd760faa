"""The other end of a network of names, as small as it can be: what a broker is handed, answered by the test itself.

Names of ``KNOWN`` have their address, any other is no name. Whoever connects is told which address and port were meant.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import threading
from typing import Any

KNOWN = {"api.example.com": "198.18.0.5", "db.internal": "198.19.200.7"}
MAX_MESSAGE_BYTES, MAX_SOCKETS = 65536, 250
A, NO_ERROR, NO_NAME = 1, 0, 3
WITHIN_S = 10.0


class StubBroker:
    """Receives the sockets of one launch and serves them in a thread, until closed."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.near.settimeout(WITHIN_S)
        self.messages: list[dict[str, Any]] = []
        self.queries: list[tuple[str, int]] = []
        self.sockets: list[tuple[dict[str, Any], socket.socket]] = []
        self._stop, self._stopped = socket.socketpair()
        self._thread: threading.Thread | None = None

    def receive(self) -> None:
        """Take every message of one client; raise TimeoutError when one does not come."""
        while not self.messages or len(self.messages) < self.messages[0]["parts"]:
            data, fds, flags, _ = socket.recv_fds(self.near, MAX_MESSAGE_BYTES, MAX_SOCKETS)
            assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
            message = json.loads(data)
            self.messages.append(message)
            made = [socket.socket(fileno=fd) for fd in fds]
            self.sockets += zip(message["sockets"], made, strict=True)

    def serve(self) -> None:
        """Receive, then answer in a thread."""
        self.receive()
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def _answer(self) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self._stopped, selectors.EVENT_READ)
            for said, listener in self.sockets:
                ready.register(listener, selectors.EVENT_READ, said["kind"])
            while True:
                for key, _ in ready.select():
                    if key.data is None:
                        return
                    self._answer_one(key.data, key.fileobj)

    def _answer_one(self, kind: str, listener: Any) -> None:
        if kind == "dns_udp":
            query, sender = listener.recvfrom(512)
            listener.sendto(self.dns(query), sender)
            return
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(WITHIN_S)
            if kind == "dns_tcp":
                answer = self.dns(connection.recv(514)[2:])
                connection.sendall(struct.pack("!H", len(answer)) + answer)
            else:
                host, port = connection.getsockname()[:2]
                connection.sendall(f"{host} {port}\n".encode())

    def dns(self, query: bytes) -> bytes:
        """Answer one question (RFC 1035 4.1): an address, none of that type, or no such name."""
        labels, at = [], 12
        while length := query[at]:
            labels.append(query[at + 1 : at + 1 + length].decode("ascii"))
            at += 1 + length
        (kind,) = struct.unpack_from("!H", query, at + 1)
        name = ".".join(labels).lower()
        self.queries.append((name, kind))
        found = KNOWN.get(name)
        answers = [] if found is None or kind != A else [socket.inet_aton(found)]
        flags = 0x8180 | (NO_NAME if found is None else NO_ERROR)
        head = query[:2] + struct.pack("!5H", flags, 1, len(answers), 0, 0)
        records = b"".join(
            b"\xc0\x0c" + struct.pack("!2HIH", A, 1, 0, len(address)) + address
            for address in answers
        )
        return head + query[12 : at + 5] + records

    def close(self) -> None:
        """End the thread and close everything."""
        self._stop.close()
        if self._thread is not None:
            self._thread.join(WITHIN_S)
        for _, listener in self.sockets:
            listener.close()
        for end in (self.near, self.far, self._stopped):
            end.close()
