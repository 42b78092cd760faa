"""``dativo-pump``: a confined process that moves bytes between the user's descriptors and pipes of ours.

A plugin or jailed command gets pipes that we made, never a file, a terminal or a socket of the user's; the pump holds these. In a
loop of one's own::

    with Processes(...) as …:
        pump = start_pump(processes, selector)          # registers itself; its key's data is the Pump
        pump.open([Pair("stdin", 0, write_end)])        # then close write_end, and release(0)
        ...
        for key, mask in selector.select(0.1):
            if key.data is pump:
                for ended in pump.take(mask): ...       # one Pumped a pair
        pump.watch()                                    # every 100 ms
"""

from __future__ import annotations

import os
import resource
import selectors
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from dativo.kernel import registry, walls
from dativo.kernel.limits import PUMP_MEMORY_BYTES
from dativo.kernel.peer import Peer, greet, last_line
from dativo.kernel.processes import Processes, own_identity, tool_limits, widen
from dativo.protocol import control, events
from dativo.protocol.errors import InternalError, Where
from dativo.sandbox import Confined, Grants, Program

PROGRAM: Final = "dativo-pump"
_NO_LIMIT_BYTES: Final = 2**63 - 1

Name = Literal["stdin", "stdout", "stderr"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One direction: everything that ``source`` gives goes to ``sink``. ``escape``: the sink is a terminal."""

    name: Name
    source: int
    sink: int
    escape: bool = False


class Pump(Peer):
    """A started pump. ``ended`` holds the pairs that have ended, by name."""

    def __init__(
        self, confined: Confined, sock: socket.socket, selector: selectors.BaseSelector
    ) -> None:
        super().__init__(PROGRAM, confined, sock, selector)
        self.ended: dict[str, events.Pumped] = {}
        self._names: frozenset[str] = frozenset()

    def open(self, pairs: Sequence[Pair]) -> None:
        """Hand the descriptors over and let it begin. The caller keeps its copies and closes them. Does not block."""
        pairs = tuple(pairs)
        self._names = frozenset(pair.name for pair in pairs)
        line = control.encode(
            {
                "type": "open",
                "pairs": [{"name": pair.name, "escape": pair.escape} for pair in pairs],
            }
        )
        fds = [fd for pair in pairs for fd in (pair.source, pair.sink)]
        for fd in fds:
            widen(fd)
        # A short line into an empty socket: it is taken whole, with its descriptors (unix(7)).
        if socket.send_fds(self._sock, [line], fds) != len(line):
            raise InternalError(f"{PROGRAM} did not take its orders", Where(plugin=PROGRAM))

    @property
    def done(self) -> bool:
        """Whether every pair has ended."""
        return self._names <= self.ended.keys()

    def take(self, mask: int) -> list[events.Pumped]:
        """Read what it tells and return the pairs that have ended. Raises InternalError, ProtocolViolation."""
        return self._told(self.ready(mask))

    def watch(self) -> None:
        """Keep its limits; raise InternalError when it has ended before its pairs have."""
        self.confined.watch()
        if self.exit is not None or (ended := self.confined.poll_exit()) is None:
            return
        self.exit = ended
        self._told(self.drain())
        if not self.done:
            raise InternalError(
                f"{PROGRAM} ended before its pairs: {ended.detail or f'status {ended.code}'}",
                Where(plugin=PROGRAM),
                value=last_line(self.confined),
            )

    def _told(self, arrived: Iterable[control.Event]) -> list[events.Pumped]:
        ended = []
        for event in arrived:
            message = events.parse(event)
            if isinstance(message, events.Failure):
                raise InternalError(message.message, Where(plugin=PROGRAM))
            if not isinstance(message, events.Pumped) or message.name not in self._names:
                raise InternalError(
                    f"{PROGRAM} sent what it was not asked for", Where(plugin=PROGRAM)
                )
            self.ended[message.name] = message
            ended.append(message)
        self.said_goodbye = self.done
        return ended


def start_pump(processes: Processes, selector: selectors.BaseSelector) -> Pump:
    """Start a pump that waits for its pairs; it ends with ``processes.stack``. Blocks until it has said hello.

    Raises InternalError and the sandbox's errors.
    """
    binary = registry.executable(PROGRAM, processes.env)
    identity = processes.stack.enter_context(own_identity())
    with walls.starting(PROGRAM, InternalError):
        confined, sock = processes.start_tool(_program(binary), _grants(), identity)
    processes.stack.callback(sock.close)
    session = greet(PROGRAM, confined, sock)
    pump = Pump(confined, sock, selector)
    processes.stack.callback(pump.close)
    pump.session = session
    return pump


def readable(fd: int) -> bool:
    """Whether reading ``fd`` is possible at all: nohup(1) opens stdin for writing only."""
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY


def release(*fds: int) -> None:
    """Put /dev/null in the place of descriptors that a pump holds now, so that their other ends see EOF and EPIPE in time."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        for fd in fds:
            os.dup2(null, fd)
    finally:
        os.close(null)


def _program(binary: Path) -> Program:
    return Program(name="pump", argv=(str(binary),), runtime=(binary,), bare=True)


def _grants() -> Grants:
    # The size of a file that the user writes is bounded by the user's own limit, as without us.
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = _NO_LIMIT_BYTES if soft == resource.RLIM_INFINITY else soft
    return Grants(limits=replace(tool_limits(PUMP_MEMORY_BYTES), file_bytes=most))
