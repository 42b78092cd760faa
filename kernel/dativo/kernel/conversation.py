"""The conversation of a run: two control sockets, one source, and who ends whom.

    source ──stdout──▶ writer ──sealed──▶ kernel ──sealed──▶ committer ──committed──▶ kernel ──committed──▶ writer

One thread, one selector. Messages are parsed (dativo.protocol.events) before they are looked at or relayed. The first failure is
the run's failure; what follows from it (a source whose reader is gone, a writer that is told to abort) is never blamed.
Epochs that were sealed and handed to the committer before a failure are committed; the open one is dropped.
"""

from __future__ import annotations

import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from dativo.kernel import show
from dativo.kernel.limits import (
    ABORT_TIMEOUT_S,
    CLOSE_TIMEOUT_S,
    DRAIN_TIMEOUT_S,
    FINISH_TIMEOUT_S,
    HELLO_TIMEOUT_S,
    MAX_VALUE_CHARS,
    STOP_GRACE_S,
)
from dativo.kernel.tally import Tally
from dativo.protocol import control, events, handshake
from dativo.protocol.errors import (
    Blame,
    DativoError,
    ExitStatus,
    InternalError,
    LimitExceeded,
    PluginFailed,
    ProtocolViolation,
    TargetFailed,
    Where,
    error_for_code,
)
from dativo.sandbox import Confined, Exit

TICK_S: Final = 0.1


class Interrupted(DativoError):
    """Ended by SIGINT."""

    status = ExitStatus.INTERRUPTED
    default_blame = Blame.USER


class Terminated(Interrupted):
    """Ended by SIGTERM."""

    status = ExitStatus.TERMINATED


class Peer:
    """One of dativo's own processes: confined, with a control socket that speaks the native handshake."""

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

    def ready(self, mask: int) -> list[control.Event]:
        """Move bytes both ways; return the events that arrived."""
        if mask & selectors.EVENT_WRITE:
            self._flush()
        if not mask & selectors.EVENT_READ:
            return []
        try:
            data = self._sock.recv(262144)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            data = b""
        if not data:
            self._selector.unregister(self._sock)
            return []
        return list(self._incoming.feed(data))

    def drain(self) -> list[control.Event]:
        """Return what is left on the socket of a process that has ended."""
        arrived: list[control.Event] = []
        while self._sock in self._selector.get_map():
            before = len(arrived)
            arrived += self.ready(selectors.EVENT_READ)
            if len(arrived) == before and self._sock in self._selector.get_map():
                break
        return arrived

    def close(self) -> None:
        """Close the socket."""
        if self._sock in self._selector.get_map():
            self._selector.unregister(self._sock)
        self._sock.close()


class Conversation:
    """Carry one run from ``open`` to the last commit. Not reusable."""

    def __init__(
        self,
        *,
        idle_time_s: float | None,
        on_progress: Callable[[Tally], None],
        on_message: Callable[[events.SourceMessage], None],
    ) -> None:
        self.tally = Tally()
        self._selector = selectors.DefaultSelector()
        self._idle_time_s = idle_time_s
        self._on_progress = on_progress
        self._on_message = on_message
        self._writer: Peer | None = None
        self._committer: Peer | None = None
        self._source: Confined | None = None
        self._source_exit: Exit | None = None
        self._finish_sent_at: float | None = None
        self._final_committed = False
        self._failure: DativoError | None = None
        self.signum: int | None = None

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in (self._writer, self._committer):
            if peer is not None:
                peer.close()
        self._selector.close()

    # --- the path of a run ---------------------------------------------------------------------------------------------

    def open_target(
        self,
        writer: tuple[Confined, socket.socket],
        committer: tuple[Confined, socket.socket],
        *,
        program: str,
        to_writer: Mapping[str, object],
        to_committer: Mapping[str, object],
    ) -> events.Opened:
        """Shake hands with both, open the target and return its state. Raises the first failure."""
        self._writer = Peer("dativo-writer", *writer, self._selector)
        self._committer = Peer(program, *committer, self._selector)
        for peer in (self._writer, self._committer):
            self._selector.register(peer.confined.stderr_fd, selectors.EVENT_READ, peer.confined)
        deadline = time.monotonic() + HELLO_TIMEOUT_S
        # The committer first: what the writer says at once is relayed, and must not come before the committer's own open.
        opens = {self._committer: to_committer, self._writer: to_writer}
        while self.tally.opened is None:
            self._turn()
            while opens and (peer := next(iter(opens))).session is not None:
                peer.send(opens.pop(peer))
            if time.monotonic() > deadline and self._failure is None:
                late = " and ".join(p.program for p in opens) or program
                self._fail(InternalError(f"{late} did not answer within {HELLO_TIMEOUT_S:.0f} s"))
            if self._failure is not None:
                raise self._failure
        return self.tally.opened

    def carry(self, source: Confined) -> None:
        """Follow source, writer and committer to the end. Raises the run's failure after everything has settled."""
        self._source = source
        self._selector.register(source.stderr_fd, selectors.EVENT_READ, source)
        while not self._final_committed and self._failure is None:
            self._turn()
            self._watch_source(source)
            self._watch_finish()
        if (
            isinstance(self._failure, PluginFailed | LimitExceeded)
            and self._source_exit is not None
        ):
            # What it wrote before it died is still in the pipe: its last words, and states that it really sent.
            self._until(self._is_drained, DRAIN_TIMEOUT_S)
            self._failure.value = self._last_words(source)
        if self._failure is not None:
            self._abandon(source)
        self._close_committer()
        if self._failure is not None:
            raise self._failure

    # --- one turn of the loop ------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Wait for at most TICK_S, then deal with what is there."""
        for key, mask in self._selector.select(TICK_S):
            if isinstance(key.data, Peer):
                self._take(key.data, key.data.ready(mask))
            else:
                self._log(key.data)
        for confined in self._everyone():
            confined.watch()
        for peer in self._peers():
            self._watch_peer(peer)
        if self.signum is not None and not self._final_committed:
            kind = Terminated if self.signum == signal.SIGTERM else Interrupted
            self._fail(
                kind(
                    f"ended by {signal.Signals(self.signum).name}",
                    hint="Run it again: it goes on from the last state",
                )
            )

    def _peers(self) -> list[Peer]:
        return [peer for peer in (self._writer, self._committer) if peer is not None]

    def _everyone(self) -> list[Confined]:
        source = [self._source] if self._source is not None else []
        return [*source, *(peer.confined for peer in self._peers())]

    def _log(self, confined: Confined) -> None:
        confined.read_stderr()
        if confined.stderr_fd < 0 or confined.stderr_closed:
            self._selector.unregister(confined.stderr_fd)

    def _take(self, peer: Peer, arrived: list[control.Event]) -> None:
        for event in arrived:
            try:
                self._dispatch(peer, event, events.parse(event))
            except ProtocolViolation as error:
                error.where = Where(plugin=peer.program)
                self._fail(error)

    def _dispatch(self, peer: Peer, event: control.Event, message: events.ControlMessage) -> None:
        """Deal with one checked message; relay those that belong to the other side."""
        match message:
            case events.Hello():
                peer.session = handshake.agree(message, program=peer.program)
            case events.Opened() if peer is self._committer:
                self.tally.take_opened(message)
            case (
                events.StreamSchema()
                | events.StateSeen()
                | events.Sealed()
                | events.Stats()
                | events.SourceMessage()
            ) if peer is self._writer:
                self._from_writer(event, message)
            case events.StreamPlan() | events.Committed() | events.Closed() if (
                peer is self._committer
            ):
                self._from_committer(event, message)
            case events.Failure():
                peer.said_goodbye = True
                self._fail(self._blamed(peer, message))
            case _:
                raise ProtocolViolation(f"{peer.program} may not send {event['type']}")

    def _from_writer(self, event: control.Event, message: Any) -> None:
        match message:
            case events.StreamSchema():
                self._relay(self._committer, event)
            case events.Sealed():
                self.tally.take_sealed(message)
                self._relay(self._committer, event)
            case events.Stats():
                self.tally.stats = message
                if message.bytes and self.tally.first_byte_cpu_s is None:
                    self.tally.first_byte_cpu_s = time.process_time()
                self._on_progress(self.tally)
            case events.SourceMessage():
                if message.kind == "trace_error":
                    self.tally.last_error = message.text
                self._on_message(message)
            case _:
                pass  # StateSeen: progress comes with stats

    def _from_committer(self, event: control.Event, message: Any) -> None:
        match message:
            case events.StreamPlan():
                self.tally.take_plan(message)
                self._relay(self._writer, event)
            case events.Committed():
                self._final_committed = self.tally.take_committed(message)
                self._relay(self._writer, event)
                self._on_progress(self.tally)
            case _:
                if self._committer is not None:
                    self._committer.said_goodbye = True

    def _relay(self, peer: Peer | None, event: control.Event) -> None:
        if peer is not None and peer.exit is None:
            peer.send(event)

    # --- who ended, and why --------------------------------------------------------------------------------------------

    def _watch_peer(self, peer: Peer) -> None:
        if peer.exit is not None:
            return
        ended = peer.confined.poll_exit()
        if ended is None:
            return
        peer.exit = ended
        self._take(peer, peer.drain())
        finished = peer is self._writer and self.tally.final_sealed
        if (
            ended.cause == "exited" and ended.code == 0 and (finished or peer.said_goodbye)
        ) or peer.said_goodbye:
            return
        self._fail(self._crashed(peer, ended))

    def _watch_source(self, source: Confined) -> None:
        if self._source_exit is None:
            ended = source.poll_exit()
            if ended is None:
                self._watch_idle()
                return
            self._source_exit = ended
            source.read_stderr()
            if ended.cause == "exited" and ended.code == 0:
                if self._writer is not None and self._failure is None:
                    self._writer.send({"type": "finish"})
                    self._finish_sent_at = time.monotonic()
            else:
                self._fail(self._source_failed(ended))

    def _watch_idle(self) -> None:
        stats = self.tally.stats
        if self._idle_time_s is not None and stats is not None and stats.idle_s > self._idle_time_s:
            self._fail(
                LimitExceeded(
                    f"the source was silent for {stats.idle_s:.0f} s",
                    Where(plugin="source"),
                    hint=f"The limit is source.grants.idle: {self._idle_time_s:.0f}s",
                )
            )

    def _watch_finish(self) -> None:
        if (
            self._finish_sent_at is not None
            and time.monotonic() - self._finish_sent_at > FINISH_TIMEOUT_S
        ):
            self._fail(
                InternalError(
                    f"writer and committer did not finish within {FINISH_TIMEOUT_S:.0f} s"
                )
            )

    def _is_drained(self) -> bool:
        stats = self.tally.stats
        return (
            (stats is not None and stats.ended)
            or self._writer is None
            or self._writer.exit is not None
        )

    def _last_words(self, source: Confined) -> str | None:
        """Return what the source said last: a TRACE of an error, else the last line of its stderr."""
        tail = source.stderr_tail().splitlines()
        last = self.tally.last_error or (
            tail[-1].decode("utf-8", "backslashreplace") if tail else None
        )
        return show.foreign(last, max_chars=MAX_VALUE_CHARS) if last else None

    def _source_failed(self, ended: Exit) -> DativoError:
        where = Where(plugin="source")
        if ended.cause in ("memory", "pids", "wall_time", "file_size"):
            return LimitExceeded(f"the source hit its limit: {ended.detail}", where)
        how = f"exit status {ended.code}" if ended.code is not None else f"signal {ended.signal}"
        return PluginFailed(f"the source failed with {how}", where)

    def _crashed(self, peer: Peer, ended: Exit) -> DativoError:
        tail = show.foreign(peer.confined.stderr_tail()[-400:]) or None
        where = Where(plugin=peer.program)
        if ended.cause in ("memory", "pids", "wall_time", "file_size"):
            return LimitExceeded(f"{peer.program} hit its limit: {ended.detail}", where, value=tail)
        how = f"exit status {ended.code}" if ended.code is not None else f"signal {ended.signal}"
        if peer is self._committer:
            return TargetFailed(f"{peer.program} ended with {how}", where, value=tail)
        return InternalError(f"{peer.program} ended with {how}", where, value=tail)

    def _blamed(self, peer: Peer, said: events.Failure) -> DativoError:
        kind = error_for_code(said.code)
        message = f"{said.code}: {show.foreign(said.message)}"
        if said.field is not None:
            message += f" in field {show.foreign(said.field)}"
        return kind(
            message,
            Where(
                plugin="source" if peer is self._writer else peer.program,
                stream=show.foreign(str(said.stream)) if said.stream else None,
                line=said.line,
                byte=said.byte,
            ),
            value=show.foreign(said.value) if said.value is not None else None,
            hint=show.foreign(said.hint) if said.hint else None,
            blame=said.blame,
        )

    def _fail(self, error: DativoError) -> None:
        if self._failure is None:
            self._failure = error

    # --- the end -------------------------------------------------------------------------------------------------------

    def _abandon(self, source: Confined) -> None:
        """End source and writer after a failure; the open epoch is dropped."""
        if self._source_exit is None:
            source.terminate(
                grace_s=STOP_GRACE_S if isinstance(self._failure, Interrupted) else 0.0
            )
            self._source_exit = source.poll_exit()
        writer = self._writer
        if writer is None or writer.exit is not None:
            return
        writer.said_goodbye = True
        writer.send({"type": "abort"})
        self._until(lambda: writer.exit is not None, ABORT_TIMEOUT_S)
        if writer.exit is None:
            writer.confined.kill()

    def _close_committer(self) -> None:
        """Let the committer finish what it was handed, then close it."""
        committer = self._committer
        if committer is None or committer.exit is not None:
            return
        committer.send({"type": "close"})
        self._until(lambda: committer.exit is not None, CLOSE_TIMEOUT_S)
        if committer.exit is None:
            committer.confined.kill()
            self._fail(
                TargetFailed(f"{committer.program} did not close within {CLOSE_TIMEOUT_S:.0f} s")
            )
        writer = self._writer
        if writer is not None and writer.exit is None:
            self._until(lambda: writer.exit is not None, ABORT_TIMEOUT_S)

    def _until(self, reached: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not reached() and time.monotonic() < deadline:
            self._turn()
