"""Play the kernel's part to the real dativo-broker, and a client's in a network namespace of its own.

The sockets in that namespace are made by the real ``dativo-confine sockets``. A client's socket is made there by a small
process and handed to the test, which then uses it as any other: it stays in its namespace.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from tests.contract import broker_dns as dns
from tests.contract.played import Event as Event
from tests.contract.played import Played, executable

DEADLINE_S: Final = 20.0
RESOLVER: Final = ("127.0.0.1", 53)
LIMITS: Final[Mapping[str, float]] = {
    "max_connections": 1024,
    "max_rate": 500,
    "max_names": 10000,
    "connect_timeout_s": 10,
    "max_events_per_s": 1000,
}

# Makes a network namespace with its loopback up (SIOCSIFFLAGS, netdevice(7)), then a socket for each request.
_INSIDE: Final = """
import ctypes, fcntl, os, socket, struct, sys
channel = socket.socket(fileno=int(sys.argv[1]))
CLONE_NEWUSER, CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x10000000, 0x40000000, 0x8914, 1
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
    raise OSError(ctypes.get_errno(), "unshare")
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
channel.send(b"ready")
while request := channel.recv(16):
    with socket.socket(*struct.unpack("2i", request)) as made:
        socket.send_fds(channel, [b"made"], [made.fileno()])
"""


def host(
    name: str,
    port: int,
    *,
    private: bool = False,
    upload_bytes: int | None = None,
    sni: bool = True,
) -> Event:
    """Return a grant of one port of a name."""
    return {
        "host": name,
        "ports": [[port, port]],
        "private": private,
        "upload_bytes": upload_bytes,
        "sni": sni,
    }


def opening(grants: Sequence[Event], **more: Any) -> Event:
    """Return an ``open`` for the one client ``source``; ``limits`` are added to the default ones."""
    limits = more.pop("limits", {})
    return {
        "type": "open",
        "clients": [{"name": "source", "grants": list(grants)}],
        "blocked_hosts": [],
        "blocked": [],
        "permit_special": ["127.0.0.0/8", "::1/128"],
        "own": [],
        "resolvers": [],
        "hosts": [],
        "proxy": None,
        "proxy_authorization": None,
        "observe": False,
        "limits": {**LIMITS, **limits},
        **more,
    }


class Inside:
    """A network namespace with nothing in it but its loopback."""

    def __enter__(self) -> Inside:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(DEADLINE_S)
        number = theirs.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _INSIDE, str(number)], pass_fds=[number]
        )
        theirs.close()
        if self._channel.recv(16) != b"ready":
            raise RuntimeError("no network namespace can be made here")
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._process.wait(DEADLINE_S)

    @property
    def path(self) -> str:
        """Where the namespace is found."""
        return f"/proc/{self._process.pid}/ns/net"

    def socket(self, family: int, kind: int) -> socket.socket:
        """Return a socket of the namespace."""
        self._channel.send(struct.pack("2i", family, kind))
        _, fds, _, _ = socket.recv_fds(self._channel, 16, 1)
        made = socket.socket(fileno=fds[0])
        made.settimeout(DEADLINE_S)
        return made


@dataclass
class Broker(Played):
    """One broker process with one client's namespace.

    ``ports`` and ``networks`` are what stands in the namespace beside the resolver; without ``served`` nothing does.
    """

    program: ClassVar[str] = "dativo-broker"

    ports: Sequence[int] = ()
    networks: Sequence[str] = ()
    served: bool = True
    open_files: int | None = None

    def __enter__(self) -> Self:
        self.sockets, stdin = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stack = contextlib.ExitStack()
        through: Sequence[str] = ()
        if self.open_files is not None:
            through = ("/bin/sh", "-c", f'ulimit -n {self.open_files}; exec "$0"')
        self.spawn(stdin.fileno(), through=through)
        stdin.close()
        try:
            self.send(self.open_)
            if self.served:
                self.expect("opened")
                self.inside = self._stack.enter_context(Inside())
                self.serve(self.inside, "source", self.ports, self.networks)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def close(self) -> None:
        """Close what this side holds."""
        self._stack.close()
        self.sockets.close()
        super().close()

    def serve(
        self, inside: Inside, client: str, ports: Sequence[int], networks: Sequence[str]
    ) -> None:
        """Have the sockets of ``client`` made in its namespace and handed to the broker."""
        namespace = os.open(inside.path, os.O_RDONLY | os.O_CLOEXEC)
        sending = self.sockets.fileno()
        words: list[object] = ["parent", os.getpid(), "namespace", namespace, "broker", sending]
        words += ["client", client]
        for port in ports:
            words += ["port", port, port]
        for network in networks:
            one = ipaddress.ip_network(network)
            words += ["network", one.network_address, one.prefixlen]
        plan = os.memfd_create("plan")
        try:
            os.write(plan, b"".join(str(word).encode() + b"\0" for word in words))
            os.lseek(plan, 0, os.SEEK_SET)
            subprocess.run(
                [executable("dativo-confine"), "sockets", str(plan)],
                pass_fds=[plan, namespace, sending],
                check=True,
                timeout=DEADLINE_S,
            )
        finally:
            os.close(plan)
            os.close(namespace)

    # --- as the kernel

    def finish(self) -> Event:
        """End it as the kernel does; return what ``source`` did in all."""
        self.send({"type": "finish"})
        totals: Event = self.expect("finished")["clients"][0]
        assert self.next() is None and self.wait() == 0, self.stderr()
        return totals

    def fails(self) -> Event:
        """Return the error that it ends with."""
        self.drain()
        return self.error()

    def cpu_s(self) -> float:
        """Return the CPU that it has used: utime and stime of proc(5)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # --- as the client

    def ask(self, name: str, kind: int = dns.A, *, tcp: bool = False) -> dns.Message:
        """Ask the resolver inside."""
        return self.exchange(dns.query(name, kind, id_=0x1234), tcp=tcp)

    def exchange(self, message: bytes, *, tcp: bool = False) -> dns.Message:
        """Send ``message`` to the resolver inside; return what it answers."""
        with self.inside.socket(
            socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        ) as asking:
            asking.connect(RESOLVER)
            if not tcp:
                asking.send(message)
                return dns.parse(asking.recv(65535))
            asking.sendall(struct.pack("!H", len(message)) + message)
            return dns.parse(dns.receive_tcp(asking))

    def address(self, name: str) -> str:
        """Return the address that a granted name is given."""
        (answer,) = self.ask(name).answers
        return str(answer.data)

    def connect(self, name: str, port: int) -> socket.socket:
        """Return a connection to a name, or a literal address. It stands at once, whatever the broker thinks of it."""
        try:
            address = str(ipaddress.ip_address(name))
        except ValueError:
            address = self.address(name)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        client = self.inside.socket(family, socket.SOCK_STREAM)
        try:
            client.connect((address, port))
        except BaseException:
            client.close()
            raise
        return client

    def refusal(self, name: str, port: int, said: bytes = b"") -> Event:
        """Connect, send ``said``, expect a reset, and return what is told of it."""
        try:
            with self.connect(name, port) as client:
                client.sendall(said)
                assert was_reset(client)
        except (ConnectionResetError, BrokenPipeError):
            pass  # it came that early
        return self.expect("connection")


def was_reset(client: socket.socket) -> bool:
    """Whether the other side broke it off; what it sent before is passed over."""
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return False
