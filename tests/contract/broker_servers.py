"""Servers on loopback that the broker dials, and what clients say to them in TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

DEADLINE_S = 20.0

# Cipher suites without certificates: what is looked at is the opening, not the keys.
_ANONYMOUS = "AECDH-AES256-SHA:@SECLEVEL=0"


def reset(stream: socket.socket) -> None:
    """Close with a reset: a linger time of nought (socket(7))."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def read_all(stream: socket.socket) -> bytes:
    """Read to the end."""
    data = bytearray()
    while some := stream.recv(1 << 20):
        data += some
    return bytes(data)


def shout(stream: socket.socket) -> None:
    """Answer everything at its end, in capitals."""
    stream.sendall(read_all(stream).upper())


@dataclass
class Server:
    """A server that handles each connection in a thread. Use it as a context manager.

    What a handler raises is raised at the end, but for a client that breaks off.
    """

    handle: Callable[[socket.socket], None] = shout
    address: str = "127.0.0.1"
    port: int = 0
    peers: list[str] = field(default_factory=list)

    def __enter__(self) -> Server:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self._listener = socket.create_server(
            (self.address, self.port), family=family, backlog=1024
        )
        self.port = self._listener.getsockname()[1]
        self._errors: list[BaseException] = []
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()
        return self

    def _serve(self) -> None:
        while True:
            try:
                stream, peer = self._listener.accept()
            except OSError:
                return  # shut down
            stream.settimeout(DEADLINE_S)
            self.peers.append(peer[0])
            self._open.add(stream)
            thread = threading.Thread(target=self._one, args=(stream,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _one(self, stream: socket.socket) -> None:
        try:
            self.handle(stream)
        except (ConnectionResetError, BrokenPipeError):
            pass  # the client's doing
        except BaseException as error:
            self._errors.append(error)
        finally:
            self._open.discard(stream)
            stream.close()

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for stream in list(self._open):
            # It wakes a handler that still waits.
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE_S)
        if self._errors:
            raise self._errors[0]


def client_hello(name: str | None) -> bytes:
    """Return the ClientHello of a client that wants ``name``, as OpenSSL writes it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake with nobody")


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_ANONYMOUS)
    return context


def as_server(stream: socket.socket) -> ssl.SSLSocket:
    """Return the server's end of TLS."""
    return _context(ssl.PROTOCOL_TLS_SERVER).wrap_socket(stream, server_side=True)


def as_client(stream: socket.socket, name: str) -> ssl.SSLSocket:
    """Return the client's end of TLS."""
    return _context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(stream, server_hostname=name)
