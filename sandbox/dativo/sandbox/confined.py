"""A process behind its walls: its stderr, its limits in time, its end."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from dativo.sandbox import watchdog
from dativo.sandbox.attestation import Attestation
from dativo.sandbox.cgroup import Counted, Leaf
from dativo.sandbox.ending import Cause, Exit, Usage
from dativo.sandbox.errors import SandboxError
from dativo.sandbox.program import Limits
from dativo.sandbox.stderr import StderrTail

WATCH_INTERVAL_S: Final = 0.1
REAP_WITHIN_S: Final = 10.0
_MAX_REPORT_BYTES: Final = 65536
# A program with more threads than its share of CPU is held back now and then, which is no event.
_HELD_BACK_S: Final = 0.5
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Handles:
    """What a launch made and a :class:`Confined` owns. ``monitor`` is our child: stage 1, then bubblewrap."""

    monitor: int
    monitor_fd: int
    tree_fd: int
    report: socket.socket
    stderr: StderrTail
    stdout: int | None
    leaf: Leaf | None


class Confined:
    """A started process whose walls have been attested.

    Not for more than one thread. Use it as a context manager, or call :meth:`close`: either kills what still runs, reaps
    it and removes its cgroup. Call :meth:`watch` about every 100 ms, :meth:`read_stderr` when ``stderr_fd`` is readable,
    :meth:`poll_exit` when ``report_fd`` is; :meth:`wait` does all three.
    """

    def __init__(
        self, name: str, attestation: Attestation, limits: Limits, handles: Handles
    ) -> None:
        self.name = name
        self.attestation = attestation
        self.limits = limits
        self._handles = handles
        self._started_s = time.monotonic()
        self._reason: tuple[Cause, str] | None = None
        self._peak_memory_bytes = 0
        self._peak_tasks = 0
        self._ended: Exit | None = None
        self._closed = False

    @property
    def pid(self) -> int:
        """Stage 2's pid outside; the program is its child."""
        return self.attestation.pid

    @property
    def stdout(self) -> int:
        """The read end of the program's stdout when the launch was given none; the caller's to read. Closed by close()."""
        if self._handles.stdout is None:
            raise SandboxError("stdout was handed to another process")
        return self._handles.stdout

    @property
    def stderr_fd(self) -> int:
        """Non-blocking; stays open until :meth:`close`, also after its end (``stderr_closed``)."""
        return self._handles.stderr.fd

    @property
    def stderr_closed(self) -> bool:
        """Whether the end of stderr has been read."""
        return self._handles.stderr.closed

    @property
    def report_fd(self) -> int:
        """Readable once everything inside is dead."""
        return self._handles.monitor_fd

    def read_stderr(self) -> list[bytes]:
        """Take what is there, at most 256 KiB, and return the lines it completes, each cut at 4 KiB. Does not block."""
        return self._handles.stderr.read()

    def stderr_tail(self) -> bytes:
        """Return the last ``limits.stderr_bytes`` of stderr read so far. Foreign text."""
        return self._handles.stderr.tail()

    def signal(self, signum: int, *, group: bool = False) -> None:
        """Send a signal to the program, with ``group`` to its process group, as a terminal does. Harmless once it has ended."""
        if self._ended is None:
            try:
                self._handles.report.send(b"%s %d" % (b"group" if group else b"signal", signum))
            except (BrokenPipeError, ConnectionResetError):
                return  # stage 2 has exited: the end is about to be known

    def kill(self) -> None:
        """Kill everything inside at once. Does not wait."""
        self._end("killed", "killed by the launcher")

    def watch(self) -> None:
        """Enforce wall time, bytes of stderr and, without a cgroup, memory and processes; end a tree that had an OOM kill."""
        if self._ended is not None or self._reason is not None:
            return
        wall_time_s = self.limits.wall_time_s
        if wall_time_s is not None and time.monotonic() - self._started_s > wall_time_s:
            self._end("wall_time", f"ran longer than {wall_time_s:g} s")
        elif self._has_flooded():
            self._end("output", f"wrote more than {self.limits.output_bytes} bytes to stderr")
        elif self._handles.leaf is None:
            self._watch_tree()
        elif self._handles.leaf.counted().memory_kills:
            # Version 1 kills one process and leaves the rest; half a tree only lies about its work.
            self._end("memory", self._memory_detail())

    def poll_exit(self) -> Exit | None:
        """Return the end once it is known, else None. Does not block until bubblewrap has ended; then reaps."""
        if self._ended is None and _readable(self._handles.monitor_fd):
            self._ended = self._reap()
        return self._ended

    def wait(self, timeout_s: float) -> Exit:
        """Wait for the end, reading stderr and watching the limits; raise TimeoutError and leave it running."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self.report_fd, select.POLLIN)
        if not self.stderr_closed:
            poll.register(self.stderr_fd, select.POLLIN)
        while (ended := self.poll_exit()) is None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"{self.name} still runs after {timeout_s:g} s")
            poll.poll(max(1, min(WATCH_INTERVAL_S, left_s) * 1000))
            self._drain(poll)
            self.watch()
        return ended

    def _drain(self, poll: select.poll) -> None:
        if not self.stderr_closed:
            self.read_stderr()
            if self._handles.stderr.closed:
                poll.unregister(self.stderr_fd)

    def terminate(self, grace_s: float) -> Exit:
        """Send SIGTERM to the program, wait up to ``grace_s``, then kill the tree. Blocks until the end."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(grace_s)
        except TimeoutError:
            self._end("killed", f"killed {grace_s:g} s after SIGTERM")
            return self.wait(REAP_WITHIN_S)

    def close(self) -> None:
        """Kill what still runs, reap it, remove the cgroup and close every descriptor. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._ended is None:
                self.kill()
                self.wait(REAP_WITHIN_S)
        finally:
            handles = self._handles
            if self._ended is None:
                _send_kill(handles.monitor_fd)  # it did not reap: the error tells
            for fd in (handles.monitor_fd, handles.tree_fd, handles.stderr.fd, handles.stdout):
                if fd is not None:
                    os.close(fd)
            handles.report.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _end(self, cause: Cause, detail: str) -> None:
        """Record the first reason and kill: process 1 of the pid namespace takes everything with it.

        Bubblewrap is left to reap it, so that no zombie falls to the init of the machine.
        """
        if self._ended is not None:
            return
        if self._reason is None:
            self._reason = (cause, detail)
        if self._handles.leaf is not None:
            self._handles.leaf.kill()
        _send_kill(self._handles.tree_fd)

    def _has_flooded(self) -> bool:
        most = self.limits.output_bytes
        return most is not None and self._handles.stderr.total > most

    def _watch_tree(self) -> None:
        limits = self.limits
        seen = watchdog.sample(self.pid, enough_tasks=limits.pids, enough_bytes=limits.memory_bytes)
        self._peak_memory_bytes = max(self._peak_memory_bytes, seen.memory_bytes)
        self._peak_tasks = max(self._peak_tasks, seen.tasks)
        if seen.memory_bytes > limits.memory_bytes:
            self._end("memory", self._memory_detail())
        elif seen.tasks > limits.pids:
            self._end("pids", f"ran more than {limits.pids} processes and threads")

    def _memory_detail(self) -> str:
        return f"needed more than {self.limits.memory_bytes} bytes of memory"

    def _reap(self) -> Exit:
        """Collect the report, make sure that nothing is left, read the counters, remove the cgroup."""
        report = self._last_report()
        # Dead already unless somebody killed bubblewrap alone; its parent-death signal is then on its way.
        _send_kill(self._handles.tree_fd)
        _wait_readable(self._handles.tree_fd, REAP_WITHIN_S, f"{self.name} does not die")
        status = os.waitid(os.P_PIDFD, self._handles.monitor_fd, os.WEXITED)
        self._handles.stderr.drain()
        leaf, counted = self._handles.leaf, None
        if leaf is not None:
            counted = leaf.counted()
            leaf.remove()
        usage = self._usage(report, counted)
        code = sig = None
        if report is not None:
            code, sig = _decode(report["status"])
        cause, detail = self._judge(code, sig, report, counted)
        if report is None and not detail and status is not None:
            detail = f"stage 2 left no report; bubblewrap ended with {status.si_status}"
        return Exit(code, sig, cause, usage, detail)

    def _last_report(self) -> dict[str, int] | None:
        while True:
            try:
                message = self._handles.report.recv(_MAX_REPORT_BYTES, socket.MSG_DONTWAIT)
            except (BlockingIOError, ConnectionResetError):
                return None
            if not message:
                return None
            found = json.loads(message)
            if found["type"] == "ended":
                del found["type"]
                return {name: int(value) for name, value in found.items()}

    def _usage(self, report: dict[str, int] | None, counted: Counted | None) -> Usage:
        memory, tasks = self._peak_memory_bytes, self._peak_tasks or None
        cpu_s = 0.0
        if report is not None:
            memory = max(memory, report["max_rss_kib"] * 1024)
            cpu_s = (report["user_us"] + report["system_us"]) / _US
        if counted is None:
            return Usage(memory, cpu_s, tasks)
        return Usage(
            memory if counted.peak_memory_bytes is None else counted.peak_memory_bytes,
            cpu_s if counted.cpu_s is None else counted.cpu_s,
            counted.pids_peak,
            round(counted.throttled_s, 3),
            counted.read_bytes,
            counted.written_bytes,
            _events(counted, self.limits),
        )

    def _judge(
        self,
        code: int | None,
        sig: int | None,
        report: dict[str, int] | None,
        counted: Counted | None,
    ) -> tuple[Cause, str]:
        if counted is not None and counted.memory_kills:
            return "memory", self._memory_detail()
        detail = _forks_refused(counted, self.limits) if counted is not None else ""
        # A reason of ours counts when it is what ended the program, not when it had just ended by itself.
        if self._reason is not None and (report is None or sig == signal.SIGKILL):
            cause, why = self._reason
            return cause, "; ".join(filter(None, (why, detail)))
        if sig == signal.SIGXFSZ:
            return "file_size", f"wrote a file of more than {self.limits.file_bytes} bytes"
        if sig is not None:
            name = signal.Signals(sig).name if sig in set(signal.Signals) else f"signal {sig}"
            return "signaled", "; ".join(filter(None, (f"ended by {name}", detail)))
        if code is not None:
            return "exited", detail
        return "lost", detail


def _events(counted: Counted, limits: Limits) -> tuple[str, ...]:
    """Tell what the limits did, in words for a report."""
    events: list[str] = []
    if kills := counted.memory_kills:
        events.append(f"{kills} killed for want of memory at {limits.memory_bytes} bytes")
    if refused := _forks_refused(counted, limits):
        events.append(refused)
    if counted.throttled_s >= _HELD_BACK_S:
        periods = counted.throttled_periods
        events.append(
            f"held back for {counted.throttled_s:.1f} s in {periods} periods at {limits.cpus:g} cpus"
        )
    return tuple(events)


def _forks_refused(counted: Counted, limits: Limits) -> str:
    refused = counted.forks_refused
    return f"was refused {refused} forks at {limits.pids} processes and threads" if refused else ""


def _decode(status: int) -> tuple[int | None, int | None]:
    """Split a raw wait status into exit code or signal."""
    value = os.waitstatus_to_exitcode(status)
    return (value, None) if value >= 0 else (None, -value)


def _readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _wait_readable(fd: int, timeout_s: float, failure: str) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(timeout_s * 1000):
        raise SandboxError(failure, "A process in it waits for a device that does not answer.")


def _send_kill(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return  # dead already
