"""What the tests that play the kernel have in common: a real executable of dativo and its control socket, on descriptor 3."""

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from dativo.protocol import events

Event = dict[str, Any]

DEADLINE_S: Final = 30.0


def executable(name: str) -> str:
    """Return an executable of dativo: in $DATIVO_BIN_DIR, else where the environment has its scripts."""
    folder = os.environ.get("DATIVO_BIN_DIR") or sysconfig.get_path("scripts")
    return str(Path(folder) / name)


@dataclass
class Played:
    """One process whose kernel the test is. Use it as a context manager: it is killed and reaped at the end.

    ``program`` is the executable's name. ``events`` has every message that came, ``status`` and ``usage`` are of its end.
    """

    program: ClassVar[str]

    open_: Event
    events: list[Event] = field(default_factory=list, init=False)
    status: int | None = field(default=None, init=False)
    usage: resource.struct_rusage | None = field(default=None, init=False)

    def spawn(self, stdin: int, stdout: int | None = None, *, through: Sequence[str] = ()) -> None:
        """Start it, with /dev/null as stdout where none is given; ``through`` is a command that gets it as its last argument."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stderr = os.memfd_create("stderr", os.MFD_CLOEXEC)
        self._pending = bytearray()
        argv = [*through, executable(self.program)]
        actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_DUP2, stdin, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
            if stdout is None
            else (os.POSIX_SPAWN_DUP2, stdout, 1),
            (os.POSIX_SPAWN_DUP2, self._stderr, 2),
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
        ]
        self.pid = os.posix_spawn(
            argv[0], argv, {}, file_actions=actions, setsigdef=[signal.SIGPIPE]
        )
        theirs.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self.close()

    def kill(self) -> None:
        """End it, unless it has ended."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def close(self) -> None:
        """Close what this side holds; the process is gone."""
        self._control.close()
        os.close(self._stderr)

    # --- towards it

    def send(self, event: Event) -> None:
        """Send one control message; one that has ended is told nothing: its last event says why."""
        self.send_text(json.dumps(event))

    def send_text(self, text: str) -> None:
        """Send one line, whether it is a control message or not."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.sendall(text.encode() + b"\n")

    def close_control(self) -> None:
        """Be a kernel that is gone."""
        self._control.close()

    # --- from it

    def next(self, timeout_s: float = DEADLINE_S) -> Event | None:
        """Return the next message; None when the socket was closed."""
        deadline = time.monotonic() + timeout_s
        while (end := self._pending.find(b"\n")) < 0:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._control], [], [], left)
            if not ready:
                raise TimeoutError(
                    f"{self.program} said nothing for {timeout_s} s: {self.stderr()}"
                )
            try:
                data = self._control.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._pending += data
        event: Event = json.loads(self._pending[:end])
        del self._pending[: end + 1]
        events.parse(event)  # the kernel's own check: raises on what breaks the contract
        self.events.append(event)
        self.answer(event)
        return event

    def answer(self, event: Event) -> None:
        """Do what the kernel does about a message by itself: nothing, unless a subclass does."""

    def expect(self, kind: str, timeout_s: float = DEADLINE_S) -> Event:
        """Return the next message of ``kind``, passing over others but errors."""
        deadline = time.monotonic() + timeout_s
        while (event := self.next(max(0.0, deadline - time.monotonic()))) is not None:
            if event["type"] == kind:
                return event
            if event["type"] == "error":
                raise AssertionError(f"waited for {kind}, got {event}")
        raise AssertionError(f"waited for {kind}, {self.program} ended: {self.stderr()}")

    def drain(self) -> None:
        """Take messages until the socket is closed, then reap the process."""
        while self.next() is not None:
            pass
        self.wait()

    def wait(self) -> int:
        """Reap the process and return its exit status, negative for a signal."""
        deadline = time.monotonic() + DEADLINE_S
        while self.status is None:
            pid, raw, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.status, self.usage = os.waitstatus_to_exitcode(raw), usage
            elif time.monotonic() > deadline:
                raise TimeoutError(f"{self.program} does not end: {self.stderr()}")
            else:
                time.sleep(0.005)
        return self.status

    # --- what came

    def stderr(self) -> str:
        """Return what it wrote to stderr so far."""
        size = os.fstat(self._stderr).st_size
        return os.pread(self._stderr, size, 0).decode("utf-8", "replace")

    def of(self, kind: str) -> list[Event]:
        """Return the messages of ``kind`` so far."""
        return [event for event in self.events if event["type"] == kind]

    def error(self) -> Event:
        """Return its only error."""
        (error,) = self.of("error")
        return error

    def memory_bytes(self, name: str = "VmHWM") -> int:
        """Return the peak of its resident memory; with ``VmRSS`` the present one (proc_pid_status(5))."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


@dataclass
class Fed(Played):
    """One that reads a source's lines on stdin: a pipe, whose other end is ``stdin``. ``peak_bytes`` is of its memory."""

    peak_bytes: int = field(default=0, init=False)

    def begin(self, stdout: int | None = None, through: Sequence[str] = ()) -> None:
        """Start it with a pipe on stdin and send what opens it."""
        self._threads: list[threading.Thread] = []
        stdin, self.stdin = os.pipe2(os.O_CLOEXEC)
        try:
            self.spawn(stdin, stdout, through=through)
        finally:
            os.close(stdin)
        self.beside(self._watch)
        self.send(self.open_)

    def __enter__(self) -> Self:
        self.begin()
        return self

    def close(self) -> None:
        """Close what this side holds; the process is gone, so that its threads end by themselves."""
        # First the threads: what they read and write must not be closed under them, or taken by another file.
        for thread in self._threads:
            thread.join(DEADLINE_S)
        self.close_stdin()
        super().close()

    def beside(self, work: Callable[[], None]) -> None:
        """Run ``work`` in a thread that ends when the process does."""
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def _watch(self) -> None:
        """Keep the peak of its memory. (ru_maxrss holds that of the test's own process from before the exec.)"""
        while self.status is None:
            try:
                self.peak_bytes = max(self.peak_bytes, self.memory_bytes())
            except (FileNotFoundError, ProcessLookupError, StopIteration):
                return  # it has ended: a zombie has a status and no memory
            time.sleep(0.002)

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
                pass  # it gave up; its error event is what the test looks at
            self.close_stdin()

        self.beside(run)

    def close_stdin(self) -> None:
        """End its input."""
        fd, self.stdin = self.stdin, -1
        if fd >= 0:
            os.close(fd)
