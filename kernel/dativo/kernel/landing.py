"""A run into dativo's own target: writer, inspector and committer.

    source ──stdout──▶ writer ──sealed──▶ kernel ──sealed──▶ committer ──committed──▶ kernel ──committed──▶ writer
                                          │    ▲
                                          ▼    │
                                         inspector

Epochs that were sealed and handed to the committer before a failure are committed; the open one is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from dativo.kernel import registry, walls, warehouse
from dativo.kernel.claims import Claims
from dativo.kernel.committer import Target, committer, open_committer
from dativo.kernel.contracts import REJECTS, Contract, Contracts
from dativo.kernel.conversation import Conversation, Ending, Observer
from dativo.kernel.exchange import INSIDE, ExchangeFolder, check_name
from dativo.kernel.inspection import PROGRAM as INSPECTOR
from dativo.kernel.inspection import Inspection, inspector, open_inspector
from dativo.kernel.layouts import Layouts
from dativo.kernel.limits import (
    ABORT_TIMEOUT_S,
    CLOSE_TIMEOUT_S,
    MAX_EPOCHS_WAITING,
    PARQUET_FILE_BYTES,
    ROW_GROUP_ROWS,
    SILENCE_S,
    STOP_GRACE_S,
    WRITER_CGROUP_BYTES,
    WRITER_MEMORY_BYTES,
    ZSTD_LEVEL,
    EpochLimits,
    ReadLimits,
)
from dativo.kernel.peer import Peer
from dativo.kernel.processes import Processes, own_identity, tool_limits
from dativo.protocol import control, events
from dativo.protocol.catalog import Dialect
from dativo.protocol.errors import (
    DativoError,
    InternalError,
    ProtocolViolation,
    TargetFailed,
    Where,
)
from dativo.protocol.state import Stream
from dativo.sandbox import Grants, Identity, Program


@dataclass(frozen=True, slots=True)
class Table:
    """One stream that is known before it is read. ``json_schema`` is None for Singer, whose SCHEMA messages bring it.

    ``deselected``: the properties that are not written, whatever the source sends.
    """

    stream: Stream
    key: tuple[str, ...]
    json_schema: str | None = None
    deselected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlatformNumbers:
    """Which sync and which generation of a stream this is to Airbyte's platform, as far as it says so."""

    stream: Stream
    sync: int | None
    generation: int | None

    def to_event(self) -> dict[str, object]:
        """Return the item of ``open.metadata.streams``."""
        return {
            "stream": self.stream.to_event(),
            "sync": self.sync,
            "generation": self.generation,
        }


@dataclass(frozen=True, slots=True)
class Input:
    """What the writer is to read.

    ``declare``: streams may declare themselves (Singer); ``numbers``: what becomes of numbers whose schema says nothing of their
    digits (docs/spec/validation.md); ``echo``: every state is told; ``first_state``: the first one is
    committed at once; ``max_output_bytes`` None is any number; ``batches``: the source can write batches.
    """

    dialect: Dialect
    tables: tuple[Table, ...]
    limits: ReadLimits
    declare: bool = False
    strict: bool = False
    numbers: str = "double"
    echo: bool = False
    first_state: bool = False
    max_output_bytes: int | None = None
    batches: bool = False
    contracts: Contracts = field(default_factory=Contracts)
    layouts: Layouts = field(default_factory=Layouts)
    platform: tuple[PlatformNumbers, ...] = ()

    @property
    def takes_batches(self) -> bool:
        """Whether batches may come. A source writes numbers as doubles in them, so only where they are to be doubles."""
        return self.batches and self.numbers == "double"


Exchanging: TypeAlias = Callable[[Identity | None], ExchangeFolder]
"""Makes the folder that the source leaves files in, for a writer that is somebody."""


def open_writer(source: Input, epoch: EpochLimits) -> dict[str, object]:
    """Return the writer's ``open`` message (docs/spec/events.md)."""
    limits = source.limits
    return {
        "type": "open",
        "input": "0",
        "dialect": source.dialect,
        "staging": "/staging",
        "streams": [
            {
                "stream": table.stream.to_event(),
                "key": list(table.key),
                **_contract(source.contracts.of(table.stream)),
                **({"json_schema": table.json_schema} if table.json_schema is not None else {}),
            }
            for table in source.tables
        ],
        "undeclared": "accept" if source.declare else "refuse",
        "strict": source.strict,
        "numbers": source.numbers,
        "deselected": [
            {"stream": table.stream.to_event(), "properties": list(table.deselected)}
            for table in source.tables
            if table.deselected
        ],
        "echo": source.echo,
        "first_state": source.first_state,
        "batches": source.takes_batches,
        "limits": {
            "max_line_bytes": limits.max_line_bytes,
            "max_depth": limits.max_depth,
            "max_columns": limits.max_columns,
            "max_streams": limits.max_streams,
            "max_state_bytes": limits.max_state_bytes,
            "max_text_lines": limits.max_text_lines,
            "max_output_bytes": source.max_output_bytes,
            "max_staged_bytes": limits.max_staged_bytes,
            "memory_bytes": int(WRITER_MEMORY_BYTES),
        },
        "epoch": {
            "max_bytes": epoch.max_bytes,
            "max_rows": epoch.max_rows,
            "max_seconds": epoch.max_seconds,
        },
        "max_epochs_waiting": int(MAX_EPOCHS_WAITING),
        "parquet": {
            "row_group_rows": int(ROW_GROUP_ROWS),
            "file_bytes": int(PARQUET_FILE_BYTES),
            "zstd_level": int(ZSTD_LEVEL),
        },
    }


def rules_of_tables(source: Input) -> dict[str, object]:
    """Return what the committer's ``open`` says of the tables of streams that are known before they are read."""
    streams = sorted(table.stream for table in source.tables)
    layouts = ((stream, source.layouts.of(stream).to_committer()) for stream in streams)
    return {
        "contracts": [
            {"stream": stream.to_event(), **source.contracts.of(stream).to_committer()}
            for stream in streams
        ],
        "layouts": [{"stream": stream.to_event(), **said} for stream, said in layouts if said],
    }


def _metadata(target: Target, source: Input) -> dict[str, object]:
    """Return what the writer is told of metadata columns."""
    if target.metadata == "none":
        return {}
    streams = [numbers.to_event() for numbers in source.platform]
    columns = {"columns": target.metadata, "pipeline": target.pipeline}
    return {"metadata": {**columns, "streams": streams}}


def _with(event: control.Event, word: dict[str, object]) -> control.Event:
    """Return ``event`` with the kernel's word on the stream's contract and layout, whatever the sender said of them."""
    own = {key: value for key, value in event.items() if key not in ("contract", "layout")}
    return {**own, **word}


def _contract(contract: Contract) -> dict[str, object]:
    return {"contract": contract.to_writer()} if contract.may_reject else {}


class Landing(Conversation):
    """Carry one run into writer, inspector and committer.

    ``ending`` says what the end of the input means, when it is reached; by default it is that of a source that exited with 0.
    """

    def __init__(
        self,
        *,
        idle_time_s: float | None,
        observer: Observer,
        source_name: str = "source",
        ending: Callable[[], Ending] = Ending,
    ) -> None:
        super().__init__(idle_time_s=idle_time_s, observer=observer, source_name=source_name)
        self._ending = ending
        self._writer: Peer | None = None
        self._inspector: Peer | None = None
        self._committer: Peer | None = None
        self._inspection = Inspection()
        self._claims: Claims | None = None
        self._takes_batches = False
        self._contracts = Contracts()
        self._layouts = Layouts()
        self._declared: frozenset[Stream] = frozenset()
        self._final_committed = False
        self.exchange: ExchangeFolder | None = None

    def start(
        self,
        processes: Processes,
        target: Target,
        source: Input,
        *,
        stdin: int,
        exchanging: Exchanging | None = None,
    ) -> events.Opened:
        """Start all three and open the target; ``stdin`` is the read end of a pipe. Returns what the target holds.

        The warehouse is made where it is missing, and removed again if nothing comes of it. Raises the first failure.
        """
        owner, created = warehouse.prepare(target.warehouse)
        if created:
            processes.stack.callback(warehouse.remove_unused, target.warehouse)
        writer_identity = processes.stack.enter_context(own_identity())
        self.exchange = exchanging(writer_identity) if exchanging is not None else None
        staging = warehouse.make_staging(
            target.warehouse, processes.run_id, writer=writer_identity, committer=owner
        )
        processes.stack.callback(staging.remove)
        with walls.starting(target.plugin.reference, TargetFailed):
            committing = processes.start_tool(*committer(target), owner)
        with walls.starting("writer", InternalError):
            binary = registry.executable("dativo-writer", processes.env)
            writing = processes.start_tool(
                Program(
                    name="writer",
                    argv=(str(binary),),
                    runtime=(binary,),
                    binds=(
                        (staging.path, "/staging", True),
                        *(((self.exchange.path, INSIDE, False),) if self.exchange else ()),
                    ),
                    bare=True,
                ),
                Grants(limits=tool_limits(WRITER_CGROUP_BYTES)),
                writer_identity,
                stdin=stdin,
            )
        with walls.starting("inspector", InternalError):
            identity = processes.stack.enter_context(own_identity())
            if identity is not None and owner is not None:
                # The writer's files are of the committer's group.
                identity = replace(identity, groups=(owner.gid,))
            inspecting = processes.start_tool(*inspector(staging.path, processes.env), identity)
        self._writer = self.new_peer("dativo-writer", writing)
        self._takes_batches = source.takes_batches
        self._inspector = self.new_peer(INSPECTOR, inspecting)
        self._contracts = source.contracts
        self._layouts = source.layouts
        self._declared = frozenset(table.stream for table in source.tables)
        self._claims = Claims(
            source.dialect,
            self._declared,
            contracts=source.contracts,
            declare=source.declare,
            max_streams=source.limits.max_streams,
            max_state_bytes=source.limits.max_state_bytes,
        )
        self._committer = self.new_peer(f"dativo-{target.plugin.reference}", committing)
        # The writer last: what it says at once is relayed, and must not come before the others' own open.
        self.open(
            {
                self._committer: {
                    **open_committer(target, processes.run_id, staging.path),
                    **rules_of_tables(source),
                },
                self._inspector: open_inspector(),
                self._writer: {
                    **open_writer(source, target.epoch),
                    **_metadata(target, source),
                    **({"exchange": INSIDE} if self.exchange else {}),
                },
            },
            until=lambda: self.tally.opened is not None,
        )
        if self.tally.opened is None:
            raise InternalError("the target was not opened")
        return self.tally.opened

    @property
    def reader(self) -> Peer | None:
        """The writer."""
        return self._writer

    @property
    def takes_batches(self) -> bool:
        """Whether batches may come and the writer that was started takes them."""
        session = self._writer.session if self._writer is not None else None
        return self._takes_batches and session is not None and "batches" in session.features

    @property
    def is_done(self) -> bool:
        """Whether the last epoch is committed."""
        return self._final_committed

    def take_end(self) -> Ending:
        """Return what the end of the input means."""
        return self._ending()

    def dispatch(self, peer: Peer, event: control.Event, message: events.ControlMessage) -> None:
        """Deal with one checked message; relay those that belong to the other side."""
        match message:
            case events.StreamSchema() if peer is self._writer and self._claims:
                self._claims.take_schema(message)
                self.relay(self._committer, _with(event, self._word_to_committer(message.stream)))
            case events.Sealed() if peer is self._writer and self._claims:
                self._claims.take_sealed(message, finishing=self.finishing, stats=self.tally.stats)
                self._check_consumed(message)
                self.tally.take_sealed(message)
                self.relay(self._inspector, self._inspection.add(event, message))
                self._pass_on()
            case events.Inspected() if peer is self._inspector:
                self._inspection.take(message)
                self.relay(self._committer, event)
                self._pass_on()
            case events.Opened() if peer is self._committer:
                self.tally.take_opened(message)
            case events.StreamPlan() if peer is self._committer:
                self.tally.take_plan(message)
                self.relay(self._inspector, event)
                self.relay(self._writer, _with(event, self._word_to_writer(message.stream)))
            case events.Committed() if peer is self._committer:
                sealed = self.tally.take_committed(message)
                if self.exchange is not None:
                    self.exchange.remove(sealed.consumed)
                self._final_committed = sealed.final
                self.relay(self._writer, event)
                self.observer.on_durable(sealed)
                self.observer.on_progress(self.tally)
            case events.Closed() if peer is self._committer:
                peer.said_goodbye = True
            case _:
                raise ProtocolViolation(f"{peer.program} may not send {event['type']}")

    def _check_consumed(self, message: events.Sealed) -> None:
        if message.consumed and self.exchange is None:
            raise ProtocolViolation("files were read of a folder that is not there")
        for path in message.consumed:
            check_name(path)

    def _pass_on(self) -> None:
        """Tell the committer of the epochs whose files are all inspected."""
        for sealed in self._inspection.passed():
            self.relay(self._committer, sealed)

    def _word_to_committer(self, stream: Stream) -> dict[str, object]:
        """Return what the committer hears with the schema of a stream that declared itself."""
        if not self._declared_itself(stream):
            return {}
        layout = self._layouts.of(stream).to_committer()
        contract = self._contracts.of(stream).to_committer()
        return {"contract": contract, **({"layout": layout} if layout else {})}

    def _word_to_writer(self, stream: Stream) -> dict[str, object]:
        """Return what the writer hears with the plan of a stream that declared itself."""
        if not self._declared_itself(stream):
            return {}
        return {"contract": self._contracts.of(stream).to_writer()}

    def _declared_itself(self, stream: Stream) -> bool:
        return stream not in self._declared and stream != REJECTS

    def look_after(self) -> None:
        """End a run whose writer says nothing, which tells of itself every second while it reads, or whose inspector does not."""
        if self.exchange is not None and self.failure is None:
            try:
                self.exchange.watch()
            except DativoError as error:
                self.fail(error)
        writing, inspecting = self._writer, self._inspector
        if writing is not None and writing.session is not None and not self.finishing:
            self._end_if_silent(writing)
        if inspecting is not None and self._inspection.at_hand is not None:
            self._end_if_silent(inspecting)

    def _end_if_silent(self, peer: Peer) -> None:
        peer.listen()
        if peer.silent_s > SILENCE_S and not peer.has_ended():
            self.fail(
                InternalError(
                    f"{peer.program} has said nothing for {SILENCE_S:.0f} s",
                    Where(plugin=peer.program),
                    hint=self.at_hand(peer),
                )
            )
            peer.confined.kill()

    def at_hand(self, peer: Peer) -> str | None:
        """Say which file the inspector was at."""
        file = self._inspection.at_hand if peer is self._inspector else None
        return f"It was at the writer's staged file {file}" if file is not None else None

    def may_end(self, peer: Peer) -> bool:
        """The writer ends after its last epoch."""
        return peer is self._writer and self.tally.final_sealed

    def failed_with(self, peer: Peer) -> type[DativoError]:
        """The committer is the target; writer and inspector are ours."""
        return TargetFailed if peer is self._committer else InternalError

    def settle(self, *, interrupted: bool) -> None:
        """Commit up to the last state of a run that was interrupted."""
        writing = self._writer
        if (
            interrupted
            and not self.finishing
            and writing is not None
            and writing.session is not None
        ):
            self.finish(Ending("checkpoint", complete=False, at_once=self.has_no_source))
            self.until(lambda: self.is_done or writing.has_ended() or self.impatient, STOP_GRACE_S)

    def close(self) -> None:
        """Let the committer finish what it was handed, then close it."""
        committing = self._committer
        if committing is None or committing.has_ended():
            return
        self._end_inspector(committing)
        committing.send({"type": "close"})
        self.until(committing.has_ended, CLOSE_TIMEOUT_S)
        if not committing.has_ended():
            committing.confined.kill()
            self.fail(
                TargetFailed(f"{committing.program} did not close within {CLOSE_TIMEOUT_S:.0f} s")
            )
        writing = self._writer
        if writing is not None and not writing.has_ended():
            self.until(writing.has_ended, ABORT_TIMEOUT_S)

    def _end_inspector(self, committing: Peer) -> None:
        """Let it inspect what was sealed: the committer is then told of it."""
        inspecting = self._inspector
        if inspecting is None:
            return

        def is_over() -> bool:
            return (
                self._inspection.at_hand is None or inspecting.has_ended() or committing.has_ended()
            )

        self.until(is_over, CLOSE_TIMEOUT_S)
        if not inspecting.has_ended():
            inspecting.said_goodbye = True
            inspecting.send({"type": "close"})
