"""A run through a relay: to a reader of our stdout, or into a foreign target.

    source ──stdout──▶ relay ──▶ stdout
    source ──stdout──▶ relay ──▶ target ──stdout──▶ relay (acknowledgements)

A target's input stays open until the source is known to have succeeded: the kernel holds an end of that pipe too, so that
not even a relay that died looks like the end. After a failure the target is asked to end (SIGTERM, then SIGKILL), so that it may
still store and acknowledge what it was sent. An interrupted run ends the target's input in good order, without calling a stream
complete.
"""

from __future__ import annotations

import fcntl
import os
import signal
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dativo.kernel import registry, show, walls
from dativo.kernel.acknowledgements import Acknowledgements
from dativo.kernel.claims import check_balance
from dativo.kernel.conversation import Conversation, Ending, Observer
from dativo.kernel.exchange import ExchangeFolder
from dativo.kernel.limits import (
    ABORT_TIMEOUT_S,
    READER_GONE_TIMEOUT_S,
    RELAY_CGROUP_BYTES,
    STOP_GRACE_S,
)
from dativo.kernel.passage import Passage, open_acknowledgements, open_relay
from dativo.kernel.peer import Peer
from dativo.kernel.processes import Processes, own_identity, pipe, tool_limits
from dativo.protocol import control, events
from dativo.protocol.catalog import Dialect
from dativo.protocol.errors import (
    Blame,
    DativoError,
    InternalError,
    LimitExceeded,
    ProtocolViolation,
    TargetFailed,
    Where,
)
from dativo.protocol.state import StateEntry, merge
from dativo.sandbox import Confined, Exit, Grants, Identity, Program

SETTLED_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class ForeignTarget:
    """A target to be started behind the relay. ``name`` is for errors; ``identity`` is who it becomes as root."""

    name: str
    program: Program
    grants: Grants
    dialect: Dialect
    identity: Identity | None


def _relay(processes: Processes, name: str) -> Program:
    binary = registry.executable("dativo-relay", processes.env)
    return Program(name=name, argv=(str(binary),), runtime=(binary,), bare=True)


class Passing(Conversation):
    """Carry one run through a relay.

    ``on_acknowledged`` is called with the states that a target has newly made durable, oldest first (``tally.states`` holds them
    merged). ``ending``: what the end of our own stdin means.
    """

    def __init__(
        self,
        *,
        idle_time_s: float | None,
        observer: Observer,
        source_name: str = "source",
        ending: Callable[[], Ending] = Ending,
        on_acknowledged: Callable[[Sequence[StateEntry]], None] = lambda _: None,
    ) -> None:
        super().__init__(idle_time_s=idle_time_s, observer=observer, source_name=source_name)
        self.exchange: ExchangeFolder | None = None
        self.limited = False
        self.target_exit: Exit | None = None
        self._ending = ending
        self._on_acknowledged = on_acknowledged
        self._relay: Peer | None = None
        self._acks: Peer | None = None
        self._target: Confined | None = None
        self._target_name = "target"
        self._acknowledgements: Acknowledgements | None = None
        self._held_input: int | None = None
        self._passed = False
        self._target_lied = False
        self._reader_gone_at: float | None = None
        self._empty_since: float | None = None

    def __exit__(self, *error: object) -> None:
        self._let_input_end()
        super().__exit__(*error)

    # --- what is started -----------------------------------------------------------------------------------------------

    def start(self, processes: Processes, passage: Passage, *, stdin: int, stdout: int) -> None:
        """Start the relay between two pipes. Raises the first failure."""
        self._start_relay(processes, passage, stdin=stdin, stdout=stdout, report_states=False)

    def start_target(
        self,
        processes: Processes,
        passage: Passage,
        target: ForeignTarget,
        *,
        stdin: int,
        states: tuple[StateEntry, ...] = (),
    ) -> None:
        """Start the relay, the target behind it and the reader of its acknowledgements; ``states`` were saved before."""
        self.tally.states = states
        self._acknowledgements = Acknowledgements(target.dialect)
        self._target_name = target.name
        with pipe() as (said, say), pipe() as (input_end, output_end):
            with walls.starting("relay", InternalError):
                acks = self.new_peer(
                    "dativo-relay",
                    processes.start_tool(
                        _relay(processes, "acks"),
                        Grants(limits=tool_limits(RELAY_CGROUP_BYTES)),
                        processes.stack.enter_context(own_identity()),
                        stdin=said,
                    ),
                )
            self._acks = acks
            self.open(
                {
                    acks: open_acknowledgements(
                        target.dialect, passage.limits, target.grants.limits.output_bytes
                    )
                },
                until=lambda: True,
            )
            self._held_input = os.dup(output_end)
            self._start_relay(
                processes, passage, stdin=stdin, stdout=output_end, report_states=True
            )
            with walls.starting(target.name, TargetFailed):
                self._target = processes.start(
                    target.program,
                    target.grants,
                    target.identity,
                    stdin=input_end,
                    stdout=say,
                )
        self.watch(self._target)

    def _start_relay(
        self,
        processes: Processes,
        passage: Passage,
        *,
        stdin: int,
        stdout: int,
        report_states: bool,
    ) -> None:
        identity: Identity | None = processes.stack.enter_context(own_identity())
        with walls.starting("relay", InternalError):
            started = processes.start_tool(
                _relay(processes, "relay"),
                Grants(limits=tool_limits(RELAY_CGROUP_BYTES)),
                identity,
                stdin=stdin,
                stdout=stdout,
            )
        self._relay = self.new_peer("dativo-relay", started)
        opening = open_relay(passage, report_states=report_states)
        self.open({self._relay: opening}, until=lambda: True)

    # --- the conversation ----------------------------------------------------------------------------------------------

    @property
    def reader(self) -> Peer | None:
        """The relay behind the source."""
        return self._relay

    @property
    def is_done(self) -> bool:
        """Whether everything is handed on, and the target has stored it."""
        if not self._passed:
            return False
        return self._target is None or (self.target_exit is not None and self._all_said())

    @property
    def has_deadline(self) -> bool:
        """A reader of our stdout may take its time; a target has its own limit of wall time."""
        return False

    def _all_said(self) -> bool:
        return self._acks is None or self._acks.has_ended()

    def _has_read_all(self) -> bool:
        """Whether the target has read everything that it was sent so far; so is one whose input has ended."""
        # ioctl_tty(2), pipe(7): bytes that nobody has read yet.
        return self._held_input is None or not any(
            fcntl.ioctl(self._held_input, termios.FIONREAD, b"\0" * 4)
        )

    def _reads_no_more(self) -> bool:
        """Whether its input has stayed empty for SETTLED_S: the relay writes what it has taken a moment later."""
        now = time.monotonic()
        self._empty_since = (self._empty_since or now) if self._has_read_all() else None
        return self._empty_since is not None and now - self._empty_since >= SETTLED_S

    def _let_input_end(self) -> None:
        """Let go of the target's input."""
        if self._held_input is not None:
            os.close(self._held_input)
            self._held_input = None

    def take_end(self) -> Ending:
        """Return what the end of the input means; behind the last record that was wanted nothing is read."""
        return Ending(complete=False, at_once=True) if self.limited else self._ending()

    def ended_on_purpose(self) -> bool:
        """A source that has given as many records as were asked for is ended by us; one whose target is gone is not to blame."""
        return self.limited or self._reader_gone_at is not None

    def dispatch(self, peer: Peer, event: control.Event, message: events.ControlMessage) -> None:
        """Deal with one checked message of a relay."""
        match message:
            case events.StatePassed() if peer is self._relay and self._acknowledgements:
                self._sent(self._acknowledgements, message)
            case events.Limited() if peer is self._relay:
                self.limited = True
            case events.Passed() if peer is self._relay:
                if not self.finishing:
                    raise ProtocolViolation(
                        "everything was called passed on before the input was done"
                    )
                for count in message.counts:
                    check_balance(count)
                self._passed = peer.said_goodbye = True
                self.tally.passed = message.counts
            case events.Passed() if peer is self._acks:
                peer.said_goodbye = True
            case events.Acknowledged() if peer is self._acks and self._acknowledgements:
                self._hear_relay()
                if not self._target_lied:
                    self._acknowledged(self._acknowledgements, message)
            case events.SourceMessage() if peer is self._acks:
                self.observer.on_said(message)
            case events.Stats() | events.StateSeen() if peer is self._acks:
                pass  # how fast a target speaks says nothing
            case _:
                raise ProtocolViolation(f"{peer.program} may not send {event['type']}")

    def _hear_relay(self) -> None:
        """Take what the relay has told: it tells of a state before the target can know it."""
        if self._relay is not None:
            self._take(self._relay, self._relay.drain())

    def _sent(self, waiting: Acknowledgements, message: events.StatePassed) -> None:
        try:
            waiting.sent(message)
        except ProtocolViolation as error:
            error.where = Where(plugin=self._source_name)
            self.fail(error)
        except LimitExceeded as error:
            error.where = Where(plugin=self._target_name)
            self.fail(error)

    def _acknowledged(self, waiting: Acknowledgements, message: events.Acknowledged) -> None:
        try:
            durable = waiting.acknowledge(message.text)
        except ProtocolViolation as error:
            error.where = Where(plugin=self._target_name, line=message.line)
            self._distrust(error)
            return
        if durable:
            self.tally.states = merge(self.tally.states, durable)
            self.tally.acknowledged += len(durable)
            self._on_acknowledged(durable)

    def _distrust(self, error: DativoError) -> None:
        """End the run for what the target said. Nothing that it says from now on is believed."""
        self._target_lied = True
        self.fail(error)
        if self._target is not None:
            self._target.kill()

    def take_failure(self, peer: Peer, said: events.Failure) -> None:
        """A reader that is gone is told of by its own end, where it is a target of ours."""
        if peer is self._relay and said.code == "target.closed" and self._target is not None:
            self._reader_gone_at = time.monotonic()
        elif peer is self._acks:
            error = self.blamed(peer, said)
            error.where = Where(plugin=self._target_name, line=said.line, byte=said.byte)
            self._distrust(error)
        else:
            super().take_failure(peer, said)

    def source_failed(self, ended: Exit) -> DativoError:
        """Return the error of a source that did not exit with 0: the target's, if the source only lost its reader."""
        self._hear_relay()
        if self._reader_gone_at is not None:
            return self._ended_early()
        return super().source_failed(ended)

    def look_after(self) -> None:
        """Watch the target and what is exchanged; end a source of which no more is wanted."""
        if self.exchange is not None and self.failure is None:
            try:
                self.exchange.watch()
            except DativoError as error:
                self.fail(error)
        if self.ended_on_purpose() and self._source is not None and self._source_exit is None:
            self._source.kill()
        target = self._target
        if target is None or self.target_exit is not None:
            return
        if self._passed and self._has_read_all():
            self._let_input_end()  # not before, so that one that leaves early is known by what it left
        self.target_exit = target.poll_exit()
        gone_at = self._reader_gone_at
        if self.target_exit is not None:
            self._judge_target(target, self.target_exit)
        elif gone_at is not None and time.monotonic() - gone_at > READER_GONE_TIMEOUT_S:
            self.fail(self._ended_early())

    def _judge_target(self, target: Confined, ended: Exit) -> None:
        target.read_stderr()
        self._hear_relay()
        if ended.cause != "exited" or ended.code != 0:
            failed = self.crashed(
                target, self._target_name, ended, TargetFailed, grants="target.grants"
            )
            self.fail(failed)
        elif self._held_input is not None:
            self.fail(self._ended_early())

    def _ended_early(self) -> DativoError:
        said = show.foreign(self._target.stderr_tail()[-400:]) if self._target is not None else ""
        return TargetFailed(
            f"{self._target_name} stopped reading before its input ended",
            Where(plugin=self._target_name),
            value=said or None,
            blame=Blame.PLUGIN,
        )

    def may_end(self, peer: Peer) -> bool:
        """A relay ends with a goodbye only."""
        return False

    def failed_with(self, peer: Peer) -> type[DativoError]:
        """Relays are ours."""
        return InternalError

    # --- the end -------------------------------------------------------------------------------------------------------

    def settle(self, *, interrupted: bool) -> None:
        """Let a target store and acknowledge what it was sent, within STOP_GRACE_S."""
        target = self._target
        if target is None or self.target_exit is not None:
            return
        if interrupted:
            # What it was sent so far is all that it gets, and no stream of it is called complete.
            if not self.finishing:
                self.finish(Ending("checkpoint", complete=False, at_once=self.has_no_source))
            self.until(lambda: self._target_is_over() or self._relay_failed(), STOP_GRACE_S / 2)
        else:
            # One that has only just started would die of the signal, with all that it was sent.
            self.until(lambda: self._target_is_over() or self._reads_no_more(), STOP_GRACE_S)
        if not self._target_is_over():
            target.signal(signal.SIGTERM)
            self.until(self._target_is_over, STOP_GRACE_S / 2)
        self._end_target()

    def _target_is_over(self) -> bool:
        return self.target_exit is not None or self.impatient

    def _relay_failed(self) -> bool:
        return self._relay is None or (self._relay.has_ended() and not self._passed)

    def close(self) -> None:
        """Wait for what the target still says; after success hold it to account for every state."""
        if self.failure is not None:
            self.settle(interrupted=False)  # a reader that gave up was not asked for it
        self._end_target()
        self._let_input_end()
        if self._relay is not None:
            self.until(self._relay.has_ended, ABORT_TIMEOUT_S)
        waiting = self._acknowledgements
        if (
            self.failure is None
            and waiting is not None
            and waiting.must_be_empty
            and waiting.waiting
        ):
            self.fail(
                ProtocolViolation(
                    f"{self._target_name} did not acknowledge {waiting.waiting} of the states it was sent",
                    Where(plugin=self._target_name),
                    hint="What it stored since the last acknowledged state is sent again by the next run",
                )
            )

    def _end_target(self) -> None:
        """Kill a target that still runs, and take its last words."""
        target = self._target
        if target is not None and self.target_exit is None:
            target.kill()
            self.until(lambda: self.target_exit is not None, ABORT_TIMEOUT_S)
        self.until(self._all_said, ABORT_TIMEOUT_S)

    @property
    def unacknowledged(self) -> int:
        """How many states the target was sent and has not acknowledged."""
        return self._acknowledgements.waiting if self._acknowledgements is not None else 0

    @property
    def made_up(self) -> int:
        """How many states the target has put together out of those it was sent."""
        return self._acknowledgements.made_up if self._acknowledgements is not None else 0
