"""A run, top to bottom: plan → lock → target → source → settle → report.

    stdout of the source ──pipe──▶ writer ──▶ staging ──▶ committer ──▶ warehouse

The pipe's ends are handed over and closed here, so that end of file and SIGPIPE arrive. Everything that is started is reaped, on
every path out. The failure of a run is raised after its report is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets as random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dativo.kernel import registry, report, verbs, walls, warehouse
from dativo.kernel.conversation import Conversation
from dativo.kernel.job import Job
from dativo.kernel.limits import (
    COMMITTER_MEMORY_BYTES,
    FILE_BYTES,
    MAX_EPOCHS_WAITING,
    OPEN_FILES,
    PARQUET_FILE_BYTES,
    ROW_GROUP_ROWS,
    STDERR_TAIL_BYTES,
    TOOL_PIDS,
    WRITER_CGROUP_BYTES,
    WRITER_MEMORY_BYTES,
    ZSTD_LEVEL,
    EpochLimits,
)
from dativo.kernel.plan import Plan, Site, own_identity
from dativo.kernel.tally import Tally
from dativo.protocol import state
from dativo.protocol.catalog import configured_airbyte, configured_singer
from dativo.protocol.errors import (
    Conflict,
    DativoError,
    InternalError,
    PluginFailed,
    TargetFailed,
    Where,
)
from dativo.protocol.events import Opened, SourceMessage
from dativo.sandbox import (
    Confined,
    Exit,
    Grants,
    Identity,
    Limits,
    Program,
    SandboxError,
    launch,
)


@dataclass(frozen=True, slots=True)
class Observer:
    """Who is told while a run goes on; both may be called many times a second."""

    on_progress: Callable[[Tally], None] = lambda _: None
    on_message: Callable[[SourceMessage], None] = lambda _: None


def new_run_id() -> str:
    """Return an id that sorts by time: 20261123T173000Z-4f2a9c."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()).lower() + "-" + random.token_hex(3)


def run(plan: Plan, site: Site, run_id: str, observer: Observer) -> report.Report:
    """Carry out ``plan``. Returns the report of a run that is done; raises RunFailed, which holds the report of any other."""
    started = time.monotonic()
    site.ledger.begin(run_id, plan.job.workspace, plan.job.pipeline)
    site.audit.write("run_started", run=run_id, plan=plan.document())
    going = _Going(plan, site, run_id, observer)
    error: DativoError | None = None
    try:
        with plan.source.redactor.errors():
            going.carry_out()
    except DativoError as failure:
        error = failure
    except SandboxError as failure:
        error = walls.missing(failure, site.paths.policy)
    finally:
        if error is None and not going.settled:
            error = InternalError("the run was left by an unexpected exception")
        told = going.report(error, time.monotonic() - started)
        site.ledger.end(run_id, told.status, _summary(told), told.to_json())
        site.audit.write(
            "run_ended", run=run_id, status=told.status, epoch=told.epoch, error=told.error
        )
    if error is not None:
        raise RunFailed(error, told) from error
    return told


class RunFailed(Exception):
    """A run that failed: why, and the report of what it did before."""

    def __init__(self, error: DativoError, told: report.Report) -> None:
        super().__init__(str(error))
        self.error = error
        self.report = told


class _Going:
    """One run under way: its processes, and what is known of it so far."""

    def __init__(self, plan: Plan, site: Site, run_id: str, observer: Observer) -> None:
        self.plan, self.site, self.run_id, self.observer = plan, site, run_id, observer
        self.tally = Tally()
        self.processes: list[Confined] = []
        self.notices: list[str] = []
        self.settled = False

    def carry_out(self) -> None:
        """Do the run. Raises its failure after everything it started is gone."""
        plan, job = self.plan, self.plan.job
        with contextlib.ExitStack() as stack:
            conversation = stack.enter_context(
                Conversation(
                    idle_time_s=plan.source.grants.idle_time_s,
                    on_progress=self.observer.on_progress,
                    on_message=self.observer.on_message,
                )
            )
            self.tally = conversation.tally
            stack.enter_context(_signals(conversation))
            stack.enter_context(_pipeline_lock(self.site, plan))
            owner, created = warehouse.prepare(job.target.warehouse)
            if created:
                stack.callback(warehouse.remove_unused, job.target.warehouse)
            writer_identity = stack.enter_context(own_identity())
            staging = warehouse.make_staging(
                job.target.warehouse, self.run_id, writer=writer_identity, committer=owner
            )
            stack.callback(staging.remove)
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 1 << 20)
            with _closing(read_end):
                with walls.starting(plan.target.reference, TargetFailed):
                    lander = self._start_tool(stack, *committer(plan.target, job), owner)
                with walls.starting("writer", InternalError):
                    writer = self._start_tool(
                        stack,
                        self._writer(staging.path),
                        self._writer_grants(),
                        writer_identity,
                        stdin=read_end,
                    )
            with _closing(write_end):
                opened = conversation.open_target(
                    writer,
                    lander,
                    program=f"dativo-{plan.target.reference}",
                    to_writer=self._open_writer(),
                    to_committer=open_committer(job, self.run_id, staging.path),
                )
                self._notice_lost_state(opened)
                with walls.starting(plan.source.plugin.reference, PluginFailed):
                    source = self._start(
                        stack,
                        self._source(opened),
                        plan.source.walled(),
                        stack.enter_context(own_identity()),
                        stdout=write_end,
                    )
            conversation.carry(source)
        self.settled = True

    # --- the three programs ------------------------------------------------------------------------------------------

    def _start_tool(
        self,
        stack: contextlib.ExitStack,
        program: Program,
        grants: Grants,
        identity: Identity | None,
        *,
        stdin: int | None = None,
    ) -> tuple[Confined, socket.socket]:
        """Start writer or committer with our end of its control socket."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            control = theirs.fileno()
            return self._start(stack, program, grants, identity, stdin=stdin, control=control), ours

    def _start(
        self,
        stack: contextlib.ExitStack,
        program: Program,
        grants: Grants,
        identity: Identity | None,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        control: int | None = None,
    ) -> Confined:
        """Start one confined process that is gone when the run is over."""
        confined = launch(
            program,
            grants,
            identity=identity,
            walls=self.plan.walls,
            stdin=stdin,
            stdout=stdout,
            control=control,
            run=self.run_id,
        )
        stack.enter_context(confined)
        self.processes.append(confined)
        return confined

    def _source(self, opened: Opened) -> Program:
        plan = self.plan
        states = opened.states
        if plan.source.plugin.dialect == "airbyte":
            catalog = configured_airbyte(plan.selected)
            state_file = state.airbyte_state_file(states) if states else None
        else:
            catalog = configured_singer(plan.discovered, plan.selected)
            state_file = state.singer_state_file(states) if states else None
        documents = verbs.Documents(plan.source.documents.config, catalog, state_file)
        return verbs.program(plan.source.plugin, "read", documents, name="source")

    def _writer(self, staging: Path) -> Program:
        binary = registry.executable("dativo-writer", self.site.env)
        return Program(
            name="writer",
            argv=(str(binary),),
            runtime=(binary,),
            binds=((staging, "/staging", True),),
        )

    def _writer_grants(self) -> Grants:
        return Grants(limits=_tool_limits(WRITER_CGROUP_BYTES))

    # --- what they are told ------------------------------------------------------------------------------------------

    def _open_writer(self) -> dict[str, object]:
        plan, job = self.plan, self.plan.job
        airbyte = plan.source.plugin.dialect == "airbyte"
        limits = job.limits
        return {
            "type": "open",
            "input": "0",
            "dialect": plan.source.plugin.dialect,
            "staging": "/staging",
            "streams": [
                {
                    "stream": entry.stream.to_event(),
                    "key": list(entry.key),
                    **({"json_schema": entry.selected_schema()} if airbyte else {}),
                }
                for entry in plan.selected.streams
            ],
            "undeclared": "refuse",
            "limits": {
                "max_line_bytes": limits.max_line_bytes,
                "max_depth": limits.max_depth,
                "max_columns": limits.max_columns,
                "max_streams": limits.max_streams,
                "max_state_bytes": limits.max_state_bytes,
                "max_text_lines": limits.max_text_lines,
                "max_staged_bytes": limits.max_staged_bytes,
                "memory_bytes": int(WRITER_MEMORY_BYTES),
            },
            "epoch": _epoch(job.target.epoch),
            "max_epochs_waiting": int(MAX_EPOCHS_WAITING),
            "parquet": {
                "row_group_rows": int(ROW_GROUP_ROWS),
                "file_bytes": int(PARQUET_FILE_BYTES),
                "zstd_level": int(ZSTD_LEVEL),
            },
        }

    # --- settling ----------------------------------------------------------------------------------------------------

    def _notice_lost_state(self, opened: Opened) -> None:
        job = self.plan.job
        known = self.site.ledger.remembered_epoch(job.workspace, job.pipeline, job.target.warehouse)
        if known is not None and opened.epoch < known:
            self.notices.append(
                f"the warehouse holds epoch {opened.epoch} of pipeline {job.pipeline}, an earlier run committed {known}: "
                + ("starting anew" if opened.epoch == 0 else "going on from there")
            )
        for left in opened.recovered:
            self.notices.append(
                f"epoch {left.epoch} of a run that died was {left.action} ({left.files} files)"
            )

    def report(self, error: DativoError | None, seconds: float) -> report.Report:
        """Return the report; remembers the last committed epoch."""
        plan, tally, job = self.plan, self.tally, self.plan.job
        if tally.opened is not None:
            self.site.ledger.remember(
                job.workspace,
                job.pipeline,
                job.target.warehouse,
                tally.epoch,
                state.digest(tally.states),
            )
        exits: list[Exit | None] = [confined.poll_exit() for confined in self.processes]
        return report.Report(
            run=self.run_id,
            pipeline=job.pipeline,
            status=int(error.status) if error is not None else 0,
            error=report.error_facts(error) if error is not None else None,
            seconds=round(seconds, 3),
            source=f"{plan.source.plugin.reference}=={plan.source.plugin.version}",
            target=plan.target.reference,
            warehouse=str(job.target.warehouse),
            epoch=tally.epoch,
            commits=tally.commits,
            source_bytes=tally.stats.bytes if tally.stats else 0,
            text_lines=tally.stats.text_lines if tally.stats else 0,
            blocked_s=tally.stats.blocked_s if tally.stats else 0.0,
            streams=report.stream_reports(tally),
            processes=tuple(
                report.process_report(confined, ended)
                for confined, ended in zip(self.processes, exits, strict=True)
            ),
            kernel_cpu_s=round(time.process_time(), 3),
            kernel_cpu_to_first_byte_s=tally.first_byte_cpu_s,
            degraded=("cgroup: limits are kept by rlimits and a watchdog",)
            if any(p.attestation.cgroup == "degraded" for p in self.processes)
            else (),
            notices=tuple(self.notices),
            states=len(tally.states),
        )


def committer(target: registry.Installed, job: Job) -> tuple[Program, Grants]:
    """Return the committer of a job's target: it may write the warehouse, which it sees at its real path, and nothing else."""
    program = Program(name="committer", argv=target.argv, runtime=target.runtime)
    return program, Grants(
        write=(job.target.warehouse,), limits=_tool_limits(COMMITTER_MEMORY_BYTES)
    )


def open_committer(
    job: Job, run_id: str, staging: Path, *, read_only: bool = False
) -> dict[str, object]:
    """Return the committer's ``open`` message (docs/spec/events.md)."""
    return {
        "type": "open",
        "input": "0",
        "run": run_id,
        "pipeline": job.pipeline,
        "partition": "",
        "owner": f"default/{job.pipeline}",
        "warehouse": str(job.target.warehouse),
        "namespace": job.target.namespace,
        "staging": str(staging),
        "mode": "read" if read_only else job.target.mode,
    }


def _epoch(limits: EpochLimits) -> dict[str, int]:
    return {
        "max_bytes": limits.max_bytes,
        "max_rows": limits.max_rows,
        "max_seconds": limits.max_seconds,
    }


def _tool_limits(memory_bytes: int) -> Limits:
    return Limits(
        memory_bytes=memory_bytes,
        cpus=2.0,
        pids=TOOL_PIDS,
        open_files=OPEN_FILES,
        file_bytes=FILE_BYTES,
        wall_time_s=None,
        stderr_bytes=STDERR_TAIL_BYTES,
    )


@contextlib.contextmanager
def _closing(fd: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _pipeline_lock(site: Site, plan: Plan) -> Iterator[None]:
    """Hold the lock of this pipeline and warehouse on this machine. Raises Conflict when another run has it."""
    job = plan.job
    name = hashlib.sha256(f"{job.target.warehouse}\0{job.pipeline}".encode()).hexdigest()[:32]
    folder = site.paths.state / "locks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with _closing(fd):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"another run of pipeline {job.pipeline} into this warehouse is under way",
                Where(file=str(job.path)),
                hint="Wait for it; see: dativo runs list",
            ) from None
        yield


@contextlib.contextmanager
def _signals(conversation: Conversation) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the run at its last state."""

    def interrupt(signum: int, _: object) -> None:
        conversation.signum = signum

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _summary(told: report.Report) -> str:
    rows = sum(stream.written for stream in told.streams)
    return f"{rows:,} rows, {told.commits} commits, epoch {told.epoch}"
