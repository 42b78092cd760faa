"""Control channel between the kernel and dativo's own processes (docs/spec/events.md).

One JSON object per line over a connected ``AF_UNIX`` stream socket. Events are our own documents, so orjson may read them;
what a plugin wrote (states, record values) travels inside them as strings and keeps its bytes.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import orjson

from dativo.protocol.errors import ProtocolViolation

PROTOCOL_VERSION: Final = "1.0"
CONTROL_FD: Final = 3
MAX_EVENT_BYTES: Final = 8 * 1024 * 1024

Event: TypeAlias = dict[str, Any]


def compatible(version: str) -> bool:
    """Tell whether a peer that says ``version`` can be talked to: the same major, any minor."""
    return version.partition(".")[0] == PROTOCOL_VERSION.partition(".")[0]


def encode(event: Mapping[str, object]) -> bytes:
    """Return ``event`` as one line, newline included. Raises ProtocolViolation above MAX_EVENT_BYTES, and for one that is nested
    more deeply than orjson writes (254), which is less than it reads: the event of another process that is passed on."""
    try:
        line = orjson.dumps(event) + b"\n"
    except orjson.JSONEncodeError as error:
        raise ProtocolViolation(
            f"control message {event.get('type')} is nested too deeply"
        ) from error
    if len(line) > MAX_EVENT_BYTES:
        raise ProtocolViolation(
            f"control message {event.get('type')} has {len(line)} bytes, the limit is {MAX_EVENT_BYTES}"
        )
    return line


def decode(line: bytes | memoryview) -> Event:
    """Return the event on one line (without its newline). Raises ProtocolViolation unless it is an object with a type."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ProtocolViolation("control message is not JSON", value=_clip(line)) from error
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise ProtocolViolation("control message is not an object with a type", value=_clip(line))
    return event


def _clip(line: bytes | memoryview) -> str:
    return bytes(line[:200]).decode("utf-8", "backslashreplace")


class LineBuffer:
    """Cut a byte stream into lines, never holding more than MAX_EVENT_BYTES of an unfinished one."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events that ``data`` completes, in order. Raises ProtocolViolation on a bad or over-long line."""
        self._pending += data
        while (end := self._pending.find(b"\n", self._searched)) >= 0:
            if end > MAX_EVENT_BYTES:
                break
            line = bytes(self._pending[:end])
            del self._pending[: end + 1]
            self._searched = 0
            yield decode(line)
        self._searched = len(self._pending)
        if len(self._pending) > MAX_EVENT_BYTES:
            raise ProtocolViolation(f"control message longer than {MAX_EVENT_BYTES} bytes")

    @property
    def unfinished(self) -> bool:
        """True while the last line has no newline yet."""
        return bool(self._pending)


class Channel:
    """Blocking channel over a connected socket; owns the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = LineBuffer()
        self._ready: list[Event] = []

    @classmethod
    def inherited(cls) -> Channel:
        """Take over descriptor 3, where the kernel puts the control socket."""
        return cls(socket.socket(fileno=CONTROL_FD))

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def send(self, event: Mapping[str, object]) -> None:
        """Write one event; blocks until the socket took it. Raises ProtocolViolation when it is too large."""
        self._sock.sendall(encode(event))

    def receive(self) -> Event | None:
        """Return the next event; blocks. None at end of file. Raises ProtocolViolation on a bad line."""
        while not self._ready:
            data = self._sock.recv(65536)
            if not data:
                if self._buffer.unfinished:
                    raise ProtocolViolation("control socket closed inside a message")
                return None
            self._ready.extend(self._buffer.feed(data))
        return self._ready.pop(0)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
