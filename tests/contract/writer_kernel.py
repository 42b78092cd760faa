"""Play the kernel's part to the real dativo-writer: a socketpair on descriptor 3, a pipe on stdin."""

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
from collections.abc import Callable, Iterator, Mapping
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
    "max_staged_bytes": 107374182400,
    "memory_bytes": 67108864,
}
EPOCH: Final[Mapping[str, int]] = {"max_bytes": 134217728, "max_rows": 1000000, "max_seconds": 60}
PARQUET: Final[Mapping[str, int]] = {
    "row_group_rows": 122880,
    "file_bytes": 134217728,
    "zstd_level": 1,
}


def binary() -> Path:
    """Return the writer: in $DATIVO_BIN_DIR, else where the environment has its scripts."""
    folder = os.environ.get("DATIVO_BIN_DIR") or sysconfig.get_path("scripts")
    return Path(folder) / "dativo-writer"


def stream(name: str, schema: object = None, *, namespace: str | None = None) -> Event:
    """Return one entry of ``open.streams``; ``schema`` (Airbyte) is a JSON Schema or its text."""
    entry: Event = {"stream": {"namespace": namespace, "name": name}, "key": []}
    if schema is not None:
        entry["json_schema"] = schema if isinstance(schema, str) else json.dumps(schema)
    return entry


def opening(
    dialect: str,
    staging: Path,
    streams: list[Event],
    *,
    limits: Mapping[str, int] | None = None,
    epoch: Mapping[str, int] | None = None,
    parquet: Mapping[str, int] | None = None,
    max_epochs_waiting: int = 2,
    undeclared: str = "refuse",
    strict: bool = False,
    echo: bool = False,
) -> Event:
    """Return an ``open`` with the defaults of docs/spec/limits.md but for what is given."""
    return {
        "type": "open",
        "input": "0",
        "dialect": dialect,
        "staging": str(staging),
        "streams": streams,
        "undeclared": undeclared,
        "strict": strict,
        "echo": echo,
        "limits": {**LIMITS, **(limits or {})},
        "epoch": {**EPOCH, **(epoch or {})},
        "max_epochs_waiting": max_epochs_waiting,
        "parquet": {**PARQUET, **(parquet or {})},
    }


def plan_for(schema: Event) -> Event:
    """Answer a ``stream_schema``: each column under its own name, field ids 1 to n."""
    columns = [
        {
            "property": column["property"],
            "column": column["property"],
            "type": column["type"],
            "field_id": index,
            "required": False,
        }
        for index, column in enumerate(schema["columns"], 1)
    ]
    return {
        "type": "stream_plan",
        "input": "0",
        "stream": schema["stream"],
        "revision": schema["revision"],
        "table": f"t.{schema['stream']['name']}"[:1000],
        "schema_id": schema["revision"] - 1,
        "columns": columns,
    }


@dataclass
class Writer:
    """One writer process. Use it as a context manager: it is killed and reaped at the end."""

    open_: Event
    commit: bool = True
    plan: Callable[[Event], Event | None] = plan_for
    events: list[Event] = field(default_factory=list)
    status: int | None = None
    usage: resource.struct_rusage | None = None
    peak_bytes: int = 0

    def __enter__(self) -> Writer:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        read_end, self.stdin = os.pipe2(os.O_CLOEXEC)
        self._stderr_path = os.memfd_create("stderr", os.MFD_CLOEXEC)
        program = str(binary())
        self.pid = os.posix_spawn(
            program,
            [program],
            {},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, read_end, 0),
                (os.POSIX_SPAWN_DUP2, self._stderr_path, 2),
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
            ],
            setsigdef=[signal.SIGPIPE],
        )
        theirs.close()
        os.close(read_end)
        self._pending = bytearray()
        self._feeder: threading.Thread | None = None
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        self.send(self.open_)
        return self

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
        # The feeder first: it ends by itself once nobody reads, and must not find its descriptor closed or taken by another file.
        if self._feeder is not None:
            self._feeder.join(DEADLINE_S)
        self.close_stdin()
        self._watcher.join(DEADLINE_S)
        self._sock.close()
        os.close(self._stderr_path)

    # --- towards the writer

    def send(self, event: Event) -> None:
        """Send one control message; one that has ended is told nothing: its last event says why."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(json.dumps(event).encode() + b"\n")

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
                pass  # the writer gave up; its error event is what the test looks at
            self.close_stdin()

        self._feeder = threading.Thread(target=run, daemon=True)
        self._feeder.start()

    def close_stdin(self) -> None:
        """End the writer's input."""
        fd, self.stdin = self.stdin, -1
        if fd >= 0:
            os.close(fd)

    def finish(self, rest: str = "commit", *, complete: bool = True) -> None:
        """Say that the source is done."""
        self.send({"type": "finish", "rest": rest, "complete": complete})

    # --- from the writer

    def next(self, timeout_s: float = DEADLINE_S) -> Event | None:
        """Return the next message; None when the writer has closed the socket. Answers schemas and epochs."""
        deadline = time.monotonic() + timeout_s
        while (end := self._pending.find(b"\n")) < 0:
            ready, _, _ = select.select([self._sock], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the writer said nothing for {timeout_s} s: {self.stderr()}")
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
        if event["type"] == "stream_schema" and (plan := self.plan(event)) is not None:
            self.send(plan)
        if event["type"] == "sealed" and self.commit and not event["final"]:
            self.committed(event["sequence"])
        return event

    def expect(self, kind: str, timeout_s: float = DEADLINE_S) -> Event:
        """Return the next message of ``kind``, passing over others but errors."""
        deadline = time.monotonic() + timeout_s
        while (event := self.next(max(0.0, deadline - time.monotonic()))) is not None:
            if event["type"] == kind:
                return event
            if event["type"] == "error":
                raise AssertionError(f"waited for {kind}, got {event}")
        raise AssertionError(f"waited for {kind}, the writer ended: {self.stderr()}")

    def committed(self, sequence: int) -> None:
        """Tell the writer that an epoch is durable."""
        self.send(
            {
                "type": "committed",
                "input": "0",
                "sequence": sequence,
                "epoch": sequence,
                "tables": [],
            }
        )

    def drain(self) -> None:
        """Take messages until the writer closes the socket, then reap it."""
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
                    raise TimeoutError("the writer does not end")
                time.sleep(0.005)
            self.status, self.usage = os.waitstatus_to_exitcode(raw), usage
        return self.status

    def stderr(self) -> str:
        """Return what it wrote to stderr so far."""
        size = os.fstat(self._stderr_path).st_size
        return os.pread(self._stderr_path, size, 0).decode("utf-8", "replace")

    # --- what came

    def of(self, kind: str) -> list[Event]:
        """Return the messages of ``kind``."""
        return [event for event in self.events if event["type"] == kind]

    def error(self) -> Event:
        """Return its only error."""
        (error,) = self.of("error")
        return error

    def files(self, name: str) -> list[Event]:
        """Return the sealed files of a stream, in order."""
        return [
            f
            for sealed in self.of("sealed")
            for f in sealed["files"]
            if f["stream"]["name"] == name
        ]


def play(open_: Event, *chunks: bytes, commit: bool = True, rest: str = "commit") -> Writer:
    """Run a whole source: all of ``chunks``, end of file, ``finish``, until the writer is gone."""
    with Writer(open_, commit=commit) as writer:
        writer.feed_all(iter(chunks))
        writer.finish(rest)
        writer.drain()
    return writer
