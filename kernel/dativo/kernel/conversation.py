"""The conversation of a run: one source or our own stdin, the processes behind it, and who ends whom.

    source ──stdout──▶ writer or relay ──…       events ──▶ kernel

This is the loop that every kind of run shares: one thread, one selector. Messages are parsed (dativo.protocol.events) before they
are looked at or relayed. The first failure is the run's failure; what follows from it (a source whose reader is gone, a writer
that is told to abort) is never blamed. Where the output goes is told by the two kinds: ``Landing`` (writer, inspector and
committer) and ``Passing`` (a relay, with a reader or a foreign target behind it).
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeAlias

from dativo.kernel import show
from dativo.kernel.broker import Broker, Networks, start_broker
from dativo.kernel.limits import (
    ABORT_TIMEOUT_S,
    DRAIN_TIMEOUT_S,
    FINISH_TIMEOUT_S,
    HELLO_TIMEOUT_S,
    MAX_VALUE_CHARS,
    STOP_GRACE_S,
)
from dativo.kernel.peer import Peer
from dativo.kernel.processes import Processes
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
# The limits that end a process, by what they are called in a job.
_SETTING: Final[dict[str, str]] = {
    "memory": "memory",
    "pids": "pids",
    "wall_time": "time",
    "file_size": "file_size",
    "output": "output",
}

Rest: TypeAlias = Literal["commit", "checkpoint"]
Objection: TypeAlias = Callable[[], "DativoError | None"]
"""Asked once in every turn: why the operator wants the run to end, or None."""


class Interrupted(DativoError):
    """Ended by SIGINT."""

    status = ExitStatus.INTERRUPTED
    default_blame = Blame.USER


class Terminated(Interrupted):
    """Ended by SIGTERM."""

    status = ExitStatus.TERMINATED


@dataclass(frozen=True, slots=True)
class Observer:
    """Who is told while a run goes on; each may be called many times a second.

    ``on_durable`` is called once for every epoch, in order, as soon as its data and states are durable; ``on_said`` for each
    message of a foreign target.
    """

    on_progress: Callable[[Tally], None] = lambda _: None
    on_message: Callable[[events.SourceMessage], None] = lambda _: None
    on_durable: Callable[[events.Sealed], None] = lambda _: None
    on_said: Callable[[events.SourceMessage], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Ending:
    """What the end of the input means: which rows stay, and whether the source is known to have given everything.

    ``at_once``: the rest of the input is not waited for.
    """

    rest: Rest = "commit"
    complete: bool = True
    at_once: bool = False


class Conversation(ABC):
    """Carry one run from ``open`` to its end. Not reusable.

    ``source_name`` is who is blamed for what is read: "source", or "stdin" for a run that reads our own.
    """

    def __init__(
        self, *, idle_time_s: float | None, observer: Observer, source_name: str = "source"
    ) -> None:
        self.tally = Tally()
        self.observer = observer
        self.failure: DativoError | None = None
        self._selector = selectors.DefaultSelector()
        self._idle_time_s = idle_time_s
        self._source_name = source_name
        self._peers: list[Peer] = []
        self._pumps: dict[Peer, Callable[[events.Pumped], None]] = {}
        self._watched: list[Confined] = []
        self._source: Confined | None = None
        self._source_exit: Exit | None = None
        self._finish_sent_at: float | None = None
        self._signals: list[int] = []
        self.objection: Objection = lambda: None
        self._broker: Broker | None = None
        self._written_in = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self._peers:
            peer.close()
        self._selector.close()

    # --- what the kinds of run say -------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def reader(self) -> Peer | None:
        """The process that reads the source's output: it is told ``finish`` and ``abort``."""

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """Whether everything is durable or handed on."""

    @abstractmethod
    def dispatch(self, peer: Peer, event: control.Event, message: events.ControlMessage) -> None:
        """Deal with one checked message of ``peer``. Raises ProtocolViolation for what it may not send."""

    @abstractmethod
    def may_end(self, peer: Peer) -> bool:
        """Whether a peer that has exited with 0 without a goodbye did so in its time."""

    @abstractmethod
    def failed_with(self, peer: Peer) -> type[DativoError]:
        """Return the error of a peer that ended badly."""

    @abstractmethod
    def settle(self, *, interrupted: bool) -> None:
        """Save what can be saved after a failure, before the reader is told to abort."""

    @abstractmethod
    def close(self) -> None:
        """End what is behind the reader, after success or failure. May set ``failure``."""

    @property
    def has_deadline(self) -> bool:
        """Whether FINISH_TIMEOUT_S bounds the time from the end of the input to the end of the run."""
        return True

    @property
    def patience_s(self) -> float:
        """How long the reader may take to end after a failure, unless somebody sends a signal."""
        return ABORT_TIMEOUT_S

    def take_end(self) -> Ending:
        """Return what the end of the input means. The default is that of a source that exited with 0."""
        return Ending()

    def look_after(self) -> None:
        """Look after what else belongs to the run, once in every turn."""
        return

    def at_hand(self, peer: Peer) -> str | None:
        """Say what a peer that ended badly was at, if that helps to mend it."""
        return None

    # --- the path of a run ---------------------------------------------------------------------------------------------

    def add_peer(self, peer: Peer) -> Peer:
        """Follow a process that has a control socket."""
        self._peers.append(peer)
        self.watch(peer.confined)
        return peer

    def add_pump(self, pump: Peer, on_end: Callable[[events.Pumped], None]) -> None:
        """Follow a pump between us and the outside; ``on_end`` is told how its one pair has ended."""
        self._pumps[self.add_peer(pump)] = on_end

    def new_peer(self, program: str, started: tuple[Confined, Any]) -> Peer:
        """Follow a process that was started with our end of its control socket."""
        return self.add_peer(Peer(program, *started, self._selector))

    def watch(self, confined: Confined) -> None:
        """Read the stderr of a process and keep its limits."""
        self._watched.append(confined)
        self._selector.register(confined.stderr_fd, selectors.EVENT_READ, confined)

    def serve(self, processes: Processes, networks: Networks, written_in: str) -> None:
        """Begin to start the broker, if something needs one, before the processes that it serves; follow it to its end.

        ``written_in`` names where grants are written, for whoever is told what was refused. Raises its failure.
        """
        self._written_in = written_in
        start_broker(processes, self._selector, networks, self._follow_broker)

    def _follow_broker(self, broker: Broker) -> None:
        self._broker = broker
        self.watch(broker.confined)

    def open(self, opens: Mapping[Peer, Mapping[str, object]], until: Callable[[], bool]) -> None:
        """Shake hands with every peer of ``opens``, in order, and send each its ``open``. Raises the first failure."""
        waiting = dict(opens)
        deadline = time.monotonic() + HELLO_TIMEOUT_S
        while waiting or not until():
            self.turn()
            while waiting and (peer := next(iter(waiting))).session is not None:
                peer.send(waiting.pop(peer))
            if time.monotonic() > deadline:
                late = " and ".join(peer.program for peer in waiting or opens)
                self.fail(InternalError(f"{late} did not answer within {HELLO_TIMEOUT_S:.0f} s"))
            if self.failure is not None:
                raise self.failure

    def carry(self, source: Confined | None) -> None:
        """Follow the run to its end; without a source the input is our own stdin. Raises its failure when all has settled."""
        self._source = source
        if source is not None:
            self.watch(source)
        while not self.is_done and self.failure is None:
            self.turn()
            self._watch_input()
            self._watch_finish()
        if isinstance(self.failure, PluginFailed | LimitExceeded) and self._source_exit is not None:
            # What it wrote before it died is still in the pipe: its last words, and states that it really sent.
            self.until(self._is_drained, DRAIN_TIMEOUT_S)
            self.failure.value = self._last_words()
        if self.failure is not None:
            self._abandon()
        self.close()
        self._end_broker()
        if self.failure is not None:
            raise self.failure

    # --- one turn of the loop ------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Wait for at most TICK_S, then deal with what is there."""
        for key, mask in self._selector.select(TICK_S):
            if isinstance(key.data, Broker):
                self._hear_broker(key.data, mask)
            elif isinstance(key.data, Peer):
                self._take(key.data, key.data.ready(mask))
            else:
                self._log(key.data)
        for confined in self._watched:
            confined.watch()
        if self._broker is not None:
            self._hear_broker(self._broker, 0)
        for peer in self._peers:
            self._watch_peer(peer)
        self.look_after()
        if not self.is_done and (objection := self.objection()) is not None:
            self.fail(objection)
        if self._signals and not self.is_done:
            number = self._signals[0]
            kind = Terminated if number == signal.SIGTERM else Interrupted
            self.fail(
                kind(
                    f"ended by {signal.Signals(number).name}",
                    hint="Run it again: it goes on from the last state",
                )
            )

    def until(self, reached: Callable[[], bool], timeout_s: float) -> None:
        """Turn until ``reached`` or the time is over."""
        deadline = time.monotonic() + timeout_s
        while not reached() and time.monotonic() < deadline:
            self.turn()

    def fail(self, error: DativoError) -> None:
        """Note the run's failure; only the first counts."""
        if self.failure is None:
            self.failure = error

    def interrupt(self, signum: int, _: object = None) -> None:
        """Handle SIGINT or SIGTERM: the run ends at its last state; a second one ends it at once."""
        self._signals.append(signum)

    def relay(self, peer: Peer | None, event: control.Event) -> None:
        """Send a checked event on, unchanged."""
        if peer is not None and peer.exit is None:
            peer.send(event)

    def _log(self, confined: Confined) -> None:
        confined.read_stderr()
        if confined.stderr_fd < 0 or confined.stderr_closed:
            self._selector.unregister(confined.stderr_fd)

    def _take(self, peer: Peer, arrived: Iterable[control.Event]) -> None:
        """Deal with what a peer tells. One that breaks the protocol is not ours any more: it is ended, and nothing that it says
        from then on is heard."""
        try:
            for event in arrived:
                self._dispatch(peer, event, events.parse(event))
        except ProtocolViolation as error:
            error.where = Where(plugin=peer.program)
            self.fail(error)
            peer.mute()
            peer.confined.kill()

    def _dispatch(self, peer: Peer, event: control.Event, message: events.ControlMessage) -> None:
        match message:
            case events.Hello() if peer.session is None:
                peer.session = handshake.agree(message, program=peer.program)
            case events.Failure():
                peer.said_goodbye = True
                self.take_failure(peer, message)
            case events.Stats() if peer is self.reader:
                self.tally.stats = message
                if message.bytes and self.tally.first_byte_cpu_s is None:
                    self.tally.first_byte_cpu_s = time.process_time()
                self.observer.on_progress(self.tally)
            case events.SourceMessage() if peer is self.reader:
                if message.kind == "trace_error":
                    self.tally.last_error = message.text
                self.observer.on_message(message)
            case events.StateSeen() if peer is self.reader:
                pass  # progress comes with stats
            case events.Pumped() if peer in self._pumps:
                peer.said_goodbye = True
                self._pumps[peer](message)
            case _:
                self.dispatch(peer, event, message)

    def _hear_broker(self, broker: Broker, mask: int) -> None:
        """Take what the broker tells. One that has died or lied ends the run at once: nobody knows what goes out."""
        try:
            broker.take(mask)
            broker.watch()
        except DativoError as error:
            self.fail(error)

    def _end_broker(self) -> None:
        """Let the broker tell what is left; say of a plugin that failed what it was refused."""
        broker = self._broker
        if broker is None:
            return
        try:
            broker.conclude()
        except DativoError as error:
            self.fail(error)
        if isinstance(self.failure, PluginFailed | TargetFailed):
            client = "source" if isinstance(self.failure, PluginFailed) else "target"
            processes = broker.networks.record.processes
            # Of one of dativo's own targets the committer reaches places.
            record = processes.get(client) or (
                processes.get("committer") if client == "target" else None
            )
            where = self._written_in.format(client=client)
            told = record.explanation(where) if record is not None else None
            self.failure.hint = ". ".join(filter(None, (self.failure.hint, told))) or None

    # --- who ended, and why --------------------------------------------------------------------------------------------

    def _watch_peer(self, peer: Peer) -> None:
        if peer.exit is not None:
            return
        ended = peer.confined.poll_exit()
        if ended is None:
            return
        peer.exit = ended
        self._take(peer, peer.drain())
        clean = ended.cause == "exited" and ended.code == 0
        if not (peer.said_goodbye or (clean and self.may_end(peer))):
            error = self.crashed(peer.confined, peer.program, ended, self.failed_with(peer))
            error.hint = self.at_hand(peer) or error.hint
            self.fail(error)

    def _watch_input(self) -> None:
        if self._finish_sent_at is not None or self.failure is not None:
            return
        if self._source is None:
            if self.tally.stats is not None and self.tally.stats.ended:
                self.finish(self.take_end())
            return
        if self._source_exit is not None:
            return
        ended = self._source.poll_exit()
        if ended is None:
            self._watch_idle()
            return
        self._source_exit = ended
        self._source.read_stderr()
        if (ended.cause == "exited" and ended.code == 0) or self.ended_on_purpose():
            self.finish(self.take_end())
        else:
            self.fail(self.source_failed(ended))

    def ended_on_purpose(self) -> bool:
        """Whether the source was ended because no more of it was wanted."""
        return False

    def finish(self, ending: Ending) -> None:
        """Tell the reader that the input is done."""
        if self.reader is not None and self.reader.exit is None:
            self.reader.send(
                {
                    "type": "finish",
                    "rest": ending.rest,
                    "complete": ending.complete,
                    "at_once": ending.at_once,
                }
            )
            self._finish_sent_at = time.monotonic()
            self.tally.complete = ending.complete

    def _watch_idle(self) -> None:
        stats = self.tally.stats
        if self._idle_time_s is not None and stats is not None and stats.idle_s > self._idle_time_s:
            self.fail(
                LimitExceeded(
                    f"the source was silent for {stats.idle_s:.0f} s",
                    Where(plugin=self._source_name),
                    hint=f"The limit is source.grants.idle: {self._idle_time_s:.0f}s",
                )
            )

    def _watch_finish(self) -> None:
        sent_at = self._finish_sent_at
        if (
            self.has_deadline
            and sent_at is not None
            and time.monotonic() - sent_at > FINISH_TIMEOUT_S
        ):
            late = " and ".join(peer.program for peer in self._peers if not peer.has_ended())
            self.fail(InternalError(f"{late} did not finish within {FINISH_TIMEOUT_S:.0f} s"))

    def _is_drained(self) -> bool:
        stats = self.tally.stats
        ended = stats is not None and stats.ended
        return ended or self.reader is None or self.reader.exit is not None

    def _last_words(self) -> str | None:
        """Return what the source said last: a TRACE of an error, else the last line of its stderr."""
        tail = self._source.stderr_tail().splitlines() if self._source is not None else []
        last = self.tally.last_error or (
            tail[-1].decode("utf-8", "backslashreplace") if tail else None
        )
        return show.foreign(last, max_chars=MAX_VALUE_CHARS) if last else None

    def source_failed(self, ended: Exit) -> DativoError:
        """Return the error of a source that did not exit with 0."""
        return self.crashed(None, "the source", ended, PluginFailed, grants="source.grants")

    def crashed(
        self,
        confined: Confined | None,
        program: str,
        ended: Exit,
        kind: type[DativoError],
        *,
        grants: str | None = None,
    ) -> DativoError:
        """Return the error of a process that ended badly: a limit that it hit, else one of ``kind``.

        ``grants``: where a job says what it may use; None for a process of dativo's own.
        """
        tail = show.foreign(confined.stderr_tail()[-400:]) or None if confined is not None else None
        where = Where(plugin=program if confined is not None else self._source_name)
        if ended.hit_limit:
            hint = f"The limit is {grants}.{_SETTING[ended.cause]}" if grants else None
            return LimitExceeded(
                f"{program} hit its limit: {ended.detail}", where, value=tail, hint=hint
            )
        how = f"exit status {ended.code}" if ended.code is not None else f"signal {ended.signal}"
        verb = "failed" if confined is None else "ended"
        return kind(f"{program} {verb} with {how}", where, value=tail)

    def take_failure(self, peer: Peer, said: events.Failure) -> None:
        """Deal with the last words of a peer that gives up."""
        self.fail(self.blamed(peer, said))

    def blamed(self, peer: Peer, said: events.Failure) -> DativoError:
        """Return the error that a peer gave as its last words; what the reader of the source says is about the source."""
        kind = error_for_code(said.code)
        message = f"{said.code}: {show.foreign(said.message)}"
        if said.field is not None:
            message += f" in field {show.foreign(said.field)}"
        return kind(
            message,
            Where(
                plugin=self._source_name if peer is self.reader else peer.program,
                stream=show.foreign(str(said.stream)) if said.stream else None,
                line=said.line,
                byte=said.byte,
            ),
            value=show.foreign(said.value) if said.value is not None else None,
            hint=show.foreign(said.hint) if said.hint else None,
            blame=said.blame,
        )

    # --- the end -------------------------------------------------------------------------------------------------------

    def _abandon(self) -> None:
        """End source and reader after a failure. A run that was interrupted still commits up to its last state."""
        interrupted = isinstance(self.failure, Interrupted)
        if self._source is not None and self._source_exit is None:
            self._end_source(self._source, gently=interrupted)
        reader = self.reader
        if reader is None or reader.has_ended():
            return
        self.settle(interrupted=interrupted)
        if reader.has_ended():
            return
        reader.said_goodbye = True
        reader.send({"type": "abort"})
        self.until(
            lambda: reader.has_ended() or (bool(self._signals) and not interrupted),
            ABORT_TIMEOUT_S if interrupted else self.patience_s,
        )
        if not reader.has_ended():
            reader.confined.kill()

    def _end_source(self, source: Confined, *, gently: bool) -> None:
        """End it: gently, it has STOP_GRACE_S to write what it still has, and that is read as ever."""

        def is_over() -> bool:
            self._source_exit = source.poll_exit()
            return self._source_exit is not None or self.impatient

        if gently:
            source.signal(signal.SIGTERM)
            self.until(is_over, STOP_GRACE_S)
        if self._source_exit is None:
            source.terminate(grace_s=0.0)
            self._source_exit = source.poll_exit()

    @property
    def finishing(self) -> bool:
        """Whether the reader was told that the input is done."""
        return self._finish_sent_at is not None

    @property
    def has_no_source(self) -> bool:
        """Whether the input is our own stdin."""
        return self._source is None

    @property
    def impatient(self) -> bool:
        """Whether a second signal asked to end at once."""
        return len(self._signals) > 1


@contextlib.contextmanager
def signals(conversation: Conversation) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the run at its last state."""
    before = {
        number: signal.signal(number, conversation.interrupt)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
