"""One of dativo's own processes in a conversation: confined, with a control socket that speaks the native handshake."""

from __future__ import annotations

import select
import selectors
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Final

from dativo.kernel.limits import HELLO_TIMEOUT_S
from dativo.protocol import control, events, handshake
from dativo.protocol.errors import InternalError, Where
from dativo.sandbox import Confined, Exit

LONGEST_TURN_S: Final = 1.0


class Peer:
    """A process and our end of its socket.

    ``said_goodbye``: it has told that it ends, and how. ``silent_s``: for how long it has not said a word, while we listened.
    """

    def __init__(
        self,
        program: str,
        confined: Confined,
        sock: socket.socket,
        selector: selectors.BaseSelector,
    ) -> None:
        self.program = program
        self.confined = confined
        self.exit: Exit | None = None
        self.session: handshake.Session | None = None
        self.said_goodbye = False
        self.silent_s = 0.0
        self._listened_at = time.monotonic()
        self._sock = sock
        self._selector = selector
        self._incoming = control.LineBuffer()
        self._outgoing = bytearray()
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, self)

    def send(self, event: Mapping[str, object]) -> None:
        """Queue one event; written as the socket takes it."""
        self._outgoing += control.encode(event)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._outgoing:
                sent = self._sock.send(self._outgoing)
                del self._outgoing[:sent]
        except BlockingIOError:
            pass  # the rest goes out when the selector says so
        except (BrokenPipeError, ConnectionResetError):
            self._outgoing.clear()  # it is gone; its exit tells why
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outgoing else 0)
        if self._sock.fileno() >= 0 and self._sock in self._selector.get_map():
            self._selector.modify(self._sock, wanted, self)

    def ready(self, mask: int) -> Iterator[control.Event]:
        """Move bytes both ways; yield the events that arrived. Raises ProtocolViolation."""
        if mask & selectors.EVENT_WRITE:
            self._flush()
        data = self._receive() if mask & selectors.EVENT_READ else None
        if data:
            yield from self._incoming.feed(data)

    def listen(self) -> None:
        """Count silence, once in every turn; time in which we ourselves stood still does not count."""
        now = time.monotonic()
        self.silent_s += min(now - self._listened_at, LONGEST_TURN_S)
        self._listened_at = now

    def mute(self) -> None:
        """Hear nothing more of it."""
        if self._sock in self._selector.get_map():
            self._selector.unregister(self._sock)

    def _receive(self) -> bytes | None:
        """Return what is there, at most 256 KiB; None when nothing is, or no more will come."""
        if self._sock not in self._selector.get_map():
            return None  # its end was read since the selector spoke
        try:
            data = self._sock.recv(262144)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            data = b""
        if not data:
            self._selector.unregister(self._sock)
            return None
        self.silent_s = 0.0
        return data

    def has_ended(self) -> bool:
        """Return whether the process has ended and was reaped."""
        return self.exit is not None

    def drain(self) -> Iterator[control.Event]:
        """Yield everything that is on the socket now. Raises ProtocolViolation."""
        while (data := self._receive()) is not None:
            yield from self._incoming.feed(data)

    def close(self) -> None:
        """Close the socket. Closing twice is harmless."""
        if self._sock.fileno() < 0:
            return
        if self._sock in self._selector.get_map():
            self._selector.unregister(self._sock)
        self._sock.close()


def await_message(
    program: str, confined: Confined, sock: socket.socket, wanted: str
) -> events.ControlMessage:
    """Wait for the one message that a process of ours sends next, at most HELLO_TIMEOUT_S. Raises InternalError.

    For a process that says nothing more until it is spoken to: what follows on the socket is not looked for.
    """
    deadline = time.monotonic() + HELLO_TIMEOUT_S
    buffer = control.LineBuffer()
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while (left_s := deadline - time.monotonic()) > 0 and poll.poll(left_s * 1000):
        data = sock.recv(65536)
        if not data:
            raise InternalError(
                f"{program} ended before it said {wanted}",
                Where(plugin=program),
                value=last_line(confined),
            )
        for event in buffer.feed(data):
            return events.parse(event)
    raise InternalError(
        f"{program} did not answer within {HELLO_TIMEOUT_S:.0f} s", Where(plugin=program)
    )


def greet(program: str, confined: Confined, sock: socket.socket) -> handshake.Session:
    """Wait for the hello of a process of ours. Raises InternalError, ProtocolViolation."""
    message = await_message(program, confined, sock, "hello")
    if not isinstance(message, events.Hello):
        raise InternalError(f"{program} did not begin with hello", Where(plugin=program))
    return handshake.agree(message, program=program)


def last_line(confined: Confined) -> str | None:
    """Return the last line of what a process has said on stderr."""
    confined.read_stderr()
    lines = confined.stderr_tail().decode("utf-8", "backslashreplace").strip().splitlines()
    return lines[-1] if lines else None
