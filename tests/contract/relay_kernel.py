"""Play the kernel's part to the real dativo-relay: a socketpair on descriptor 3, pipes on stdin and stdout."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from dativo.protocol import events

Event = dict[str, Any]

DEADLINE_S: Final = 30.0
LIMITS: Final[Mapping[str, int]] = {
    "max_line_bytes": 33554432,
    "max_depth": 64,
    "max_columns": 2000,
    "max_streams": 1000,
    "max_state_bytes": 1048576,
    "max_text_lines": 10000,
    "max_withheld_bytes": 16777216,
}


def binary() -> Path:
    """Return the relay: in $DATIVO_BIN_DIR, else where the environment has its scripts."""
    folder = os.environ.get("DATIVO_BIN_DIR") or sysconfig.get_path("scripts")
    return Path(folder) / "dativo-relay"


def stream(
    name: str,
    *,
    namespace: str | None = None,
    out: str | None = None,
    key: Sequence[str] = (),
    schema: object = None,
    drop: Sequence[str] = (),
) -> Event:
    """Return one entry of ``open.streams``; ``out`` is its name in a Singer output, ``schema`` a JSON Schema."""
    return {
        "stream": {"namespace": namespace, "name": name},
        "name": out or name,
        "key": list(key),
        "schema": None if schema is None else json.dumps(schema),
        "drop": list(drop),
    }


def opening(dialect: str, to: str, streams: Sequence[Event], **more: Any) -> Event:
    """Return an ``open`` of the role ``pass`` with defaults but for ``more``; ``limits`` are added to the default ones."""
    limits = more.pop("limits", {})
    return {
        "type": "open",
        "input": "0",
        "role": "pass",
        "dialect": dialect,
        "as": to,
        "strict": False,
        "undeclared": "refuse",
        "streams": list(streams),
        "states": "pass",
        "report_states": False,
        "statuses": False,
        "max_records": None,
        "limits": {**LIMITS, **limits},
        **more,
    }


def acks(dialect: str, *, strict: bool = False, **limits: int) -> Event:
    """Return an ``open`` of the role ``acks``."""
    return {
        "type": "open",
        "role": "acks",
        "input": "0",
        "dialect": dialect,
        "strict": strict,
        "limits": {**LIMITS, **limits},
    }


@dataclass
class Relay:
    """One relay process. Use it as a context manager: it is killed and reaped at the end.

    Its output is collected in ``output`` unless ``read`` is false: then the test reads the descriptor ``stdout``.
    With ``sink`` it writes to that descriptor instead of a pipe.
    """

    open_: Event
    read: bool = True
    sink: int | None = None
    events: list[Event] = field(default_factory=list)
    output: bytearray = field(default_factory=bytearray)
    status: int | None = None
    usage: resource.struct_rusage | None = None
    peak_bytes: int = 0

    def __enter__(self) -> Relay:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        stdin, self.stdin = os.pipe2(os.O_CLOEXEC)
        self.stdout, stdout = os.pipe2(os.O_CLOEXEC)
        self._stderr = os.memfd_create("stderr", os.MFD_CLOEXEC)
        program = str(binary())
        self.pid = os.posix_spawn(
            program,
            [program],
            {},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, stdout if self.sink is None else self.sink, 1),
                (os.POSIX_SPAWN_DUP2, self._stderr, 2),
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
            ],
            setsigdef=[signal.SIGPIPE],
        )
        theirs.close()
        os.close(stdin)
        os.close(stdout)
        self._pending = bytearray()
        self._threads = [threading.Thread(target=self._watch, daemon=True)]
        if self.read:
            self._threads.append(threading.Thread(target=self._collect, daemon=True))
        for thread in self._threads:
            thread.start()
        self.send(self.open_)
        return self

    def _collect(self) -> None:
        while data := os.read(self.stdout, 1 << 16):
            self.output += data

    def _watch(self) -> None:
        """Keep the peak of its memory. (ru_maxrss holds that of the test's own process from before the exec.)"""
        while self.status is None:
            try:
                status = Path(f"/proc/{self.pid}/status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                return
            peaks = [
                int(line.split()[1]) * 1024
                for line in status.splitlines()
                if line.startswith("VmHWM:")
            ]
            self.peak_bytes = max([self.peak_bytes, *peaks])
            time.sleep(0.002)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        # They end by themselves now; only then may their descriptors be closed.
        for thread in self._threads:
            thread.join(DEADLINE_S)
        self.close_stdin()
        self.close_stdout()
        self._sock.close()
        os.close(self._stderr)

    # --- towards the relay

    def send(self, event: Event) -> None:
        """Send one control message; one that has ended is told nothing: its last event says why."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(json.dumps(event).encode() + b"\n")

    def finish(self, *, complete: bool = True, at_once: bool = False) -> None:
        """Tell it that the source is done."""
        event = {"type": "finish", "rest": "commit", "complete": complete, "at_once": at_once}
        self.send(event)

    def feed(self, data: bytes) -> None:
        """Write to stdin; ``data`` must fit the pipe or be read."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.stdin, view) :]

    def feed_all(self, chunks: Iterator[bytes]) -> None:
        """Write ``chunks`` to stdin from a thread and close it."""

        def run() -> None:
            try:
                for chunk in chunks:
                    self.feed(chunk)
            except BrokenPipeError:
                pass  # the relay gave up; its error event is what the test looks at
            self.close_stdin()

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def close_stdin(self) -> None:
        """End the relay's input."""
        fd, self.stdin = self.stdin, -1
        if fd >= 0:
            os.close(fd)

    def close_stdout(self) -> None:
        """Be a reader that goes away."""
        fd, self.stdout = self.stdout, -1
        if fd >= 0:
            os.close(fd)

    # --- from the relay

    def next(self, timeout_s: float = DEADLINE_S) -> Event | None:
        """Return the next message; None when the relay has closed the socket."""
        deadline = time.monotonic() + timeout_s
        while (end := self._pending.find(b"\n")) < 0:
            ready, _, _ = select.select([self._sock], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the relay said nothing for {timeout_s} s: {self.stderr()}")
            try:
                data = self._sock.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._pending += data
        event: Event = json.loads(self._pending[:end])
        del self._pending[: end + 1]
        events.parse(event)  # the kernel's own check: raises on what breaks the contract
        self.events.append(event)
        return event

    def expect(self, kind: str, timeout_s: float = DEADLINE_S) -> Event:
        """Return the next message of ``kind``, passing over others but errors."""
        deadline = time.monotonic() + timeout_s
        while (event := self.next(max(0.0, deadline - time.monotonic()))) is not None:
            if event["type"] == kind:
                return event
            if event["type"] == "error":
                raise AssertionError(f"waited for {kind}, got {event}")
        raise AssertionError(f"waited for {kind}, the relay ended: {self.stderr()}")

    def drain(self) -> None:
        """Take messages until the relay closes the socket, then reap it."""
        while self.next() is not None:
            pass
        self.wait()

    def wait(self) -> int:
        """Reap the process and return its exit status, negative for a signal."""
        if self.status is None:
            deadline = time.monotonic() + DEADLINE_S
            while True:
                pid, raw, usage = os.wait4(self.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError("the relay does not end")
                time.sleep(0.005)
            self.status, self.usage = os.waitstatus_to_exitcode(raw), usage
        return self.status

    def stderr(self) -> str:
        """Return what it wrote to stderr so far."""
        size = os.fstat(self._stderr).st_size
        return os.pread(self._stderr, size, 0).decode("utf-8", "replace")

    # --- what came

    def of(self, kind: str) -> list[Event]:
        """Return the messages of ``kind``."""
        return [event for event in self.events if event["type"] == kind]

    def error(self) -> Event:
        """Return its only error."""
        (error,) = self.of("error")
        return error

    def lines(self) -> list[str]:
        """Return the lines of its output, which must end with a whole one."""
        text = self.output.decode()
        assert text == "" or text.endswith("\n"), text[-100:]
        return text.split("\n")[:-1]

    def wait_for(self, size: int) -> bytes:
        """Return the output once it has at least ``size`` bytes."""
        deadline = time.monotonic() + DEADLINE_S
        while len(self.output) < size:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{len(self.output)} bytes of output: {bytes(self.output[-200:])!r}"
                )
            time.sleep(0.005)
        return bytes(self.output)


def play(open_: Event, *chunks: bytes, complete: bool = True) -> Relay:
    """Run a whole source: all of ``chunks``, end of file, ``finish``, until the relay is gone."""
    with Relay(open_) as relay:
        relay.feed_all(iter(chunks))
        relay.finish(complete=complete)
        relay.drain()
    return relay
