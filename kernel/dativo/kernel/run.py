"""A run, top to bottom: plan → lock → target → source → settle → report.

    stdout of the source ──pipe──▶ writer ──▶ staging ──▶ committer ──▶ warehouse

The pipe's ends are handed over and closed here, so that end of file and SIGPIPE arrive. Everything that is started is reaped, on
every path out. The failure of a run is raised after its report is written.
"""

from __future__ import annotations

import contextlib
import secrets as random
import time

from dativo.kernel import report, verbs, walls
from dativo.kernel.conversation import Observer, signals
from dativo.kernel.job import Job
from dativo.kernel.landing import Input, Landing, Table, Target
from dativo.kernel.plan import Plan, Site
from dativo.kernel.processes import Processes, own_identity, pipe, pipeline_lock
from dativo.kernel.registry import Installed
from dativo.kernel.tally import Tally
from dativo.protocol import state
from dativo.protocol.catalog import configured_airbyte, configured_singer
from dativo.protocol.errors import DativoError, InternalError, PluginFailed, Where
from dativo.protocol.events import Opened
from dativo.sandbox import Confined, Exit, Program, SandboxError


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
            processes = Processes(stack, plan.walls, self.run_id, self.site.env, self.processes)
            landing = stack.enter_context(
                Landing(idle_time_s=plan.source.grants.idle_time_s, observer=self.observer)
            )
            self.tally = landing.tally
            stack.enter_context(signals(landing))
            stack.enter_context(_lock(self.site, plan))
            with pipe() as (read_end, write_end):
                opened = landing.start(
                    processes, own_target(plan.target, job), self._input(), stdin=read_end
                )
                self._notice_lost_state(opened)
                with walls.starting(plan.source.plugin.reference, PluginFailed):
                    source = processes.start(
                        self._source(opened),
                        plan.source.walled(),
                        stack.enter_context(own_identity()),
                        stdout=write_end,
                    )
            landing.carry(source)
        self.settled = True

    # --- what is started ---------------------------------------------------------------------------------------------

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

    def _input(self) -> Input:
        dialect = self.plan.source.plugin.dialect
        tables = tuple(
            Table(
                entry.stream,
                entry.key,
                entry.selected_schema() if dialect == "airbyte" else None,
            )
            for entry in self.plan.selected.streams
        )
        return Input(dialect, tables, self.plan.job.limits)

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


def own_target(plugin: Installed, job: Job) -> Target:
    """Return the target of a job as writer and committer are told of it."""
    said = job.target
    return Target(
        plugin, job.pipeline, said.warehouse, said.namespace, mode=said.mode, epoch=said.epoch
    )


def _lock(site: Site, plan: Plan) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of this pipeline and warehouse on this machine. Raises Conflict when another run has it."""
    job = plan.job
    return pipeline_lock(
        site.paths.state / "locks",
        str(job.target.warehouse),
        job.pipeline,
        Where(file=str(job.path)),
        hint="Wait for it; see: dativo runs list",
    )


def _summary(told: report.Report) -> str:
    rows = sum(stream.written for stream in told.streams)
    return f"{rows:,} rows, {told.commits} commits, epoch {told.epoch}"
