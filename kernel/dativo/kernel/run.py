"""A run, top to bottom: plan → lock → target → source → settle → report.

    stdout of the source ──pipe──▶ writer ──▶ staging ──▶ committer ──▶ warehouse
    stdout of the source ──pipe──▶ relay ──pipe──▶ foreign target                       (foreign.py)

The pipe's ends are handed over and closed here, so that end of file and SIGPIPE arrive. Everything that is started is reaped, on
every path out. The failure of a run is raised after its report is written.
"""

from __future__ import annotations

import contextlib
import secrets as random
import time
from collections.abc import Iterator

from dativo.kernel import foreign, report
from dativo.kernel.committer import Target
from dativo.kernel.conversation import Observer
from dativo.kernel.exchange import ExchangeFolder, exchange_folder
from dativo.kernel.job import Job
from dativo.kernel.landing import Exchanging, Input, Landing, Table
from dativo.kernel.plan import Plan, Site
from dativo.kernel.processes import Processes, own_identity, pipe, pipeline_lock
from dativo.kernel.record import on_record
from dativo.kernel.registry import Installed
from dativo.kernel.running import under_orders
from dativo.kernel.source import read_documents, start_source
from dativo.protocol import state
from dativo.protocol.errors import Where
from dativo.protocol.events import Opened
from dativo.sandbox import Identity


def new_run_id() -> str:
    """Return an id that sorts by time: 20261123T173000Z-4f2a9c."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()).lower() + "-" + random.token_hex(3)


def run(plan: Plan, site: Site, run_id: str, observer: Observer) -> report.Report:
    """Carry out ``plan``. Returns the report of a run that is done; raises RunFailed, which holds the report of any other."""
    job, plugin = plan.job, plan.source.plugin
    course = report.Course(
        run=run_id,
        pipeline=job.pipeline,
        source=f"{plugin.reference}=={plugin.version}",
        target=plan.target.reference
        if plan.foreign is None
        else f"{plan.target.reference}=={plan.target.version}",
        warehouse=str(job.own_target.warehouse) if plan.foreign is None else "",
    )
    course.notices += plan.waivers
    carry_out = _land if plan.foreign is None else foreign.run
    return on_record(
        site,
        course,
        plan.document(),
        lambda: carry_out(plan, site, course, observer),
        redactor=plan.redactor,
        workspace=job.workspace,
    )


# --- into one of dativo's own targets --------------------------------------------------------------------------------------


def _land(plan: Plan, site: Site, course: report.Course, observer: Observer) -> None:
    """Do the run. Raises its failure after everything it started is gone."""
    job = plan.job
    target = own_target(plan.target, job)
    try:
        with contextlib.ExitStack() as stack:
            processes = Processes(stack, plan.walls, course.run, site.env, course.processes)
            landing = stack.enter_context(
                Landing(idle_time_s=plan.source.grants.idle_time_s, observer=observer)
            )
            course.tally = landing.tally
            networks = plan.networks(site, course.run)
            course.network = networks.record
            plugins = (plan.source.plugin, plan.target)
            stack.enter_context(
                under_orders(site, landing, course.run, "run", job.pipeline, job.workspace, plugins)
            )
            stack.enter_context(
                pipeline_lock(
                    site.paths.state / "locks",
                    str(target.warehouse),
                    job.pipeline,
                    Where(file=str(job.path)),
                )
            )
            landing.serve(processes, networks, "{client}.grants.network of the job")
            identity, exchanging = _exchange(plan, site, course.run, stack)
            with pipe() as (read_end, write_end):
                opened = landing.start(
                    processes, target, _input(plan), stdin=read_end, exchanging=exchanging
                )
                course.notices += _lost_state(plan, site, target, opened)
                source = start_source(
                    plan.source,
                    read_documents(plan.source, plan.discovered, plan.selected, opened.states),
                    processes,
                    stdout=write_end,
                    identity=identity,
                    exchange=landing.exchange,
                    batches=landing.takes_batches,
                )
            landing.carry(source)
    finally:
        tally = course.tally
        if tally.opened is not None:
            states = state.digest(tally.states)
            site.ledger.remember(job.workspace, job.pipeline, target.warehouse, tally.epoch, states)


def _exchange(
    plan: Plan, site: Site, run_id: str, stack: contextlib.ExitStack
) -> tuple[Identity | None, Exchanging | None]:
    """Return who the source is, and what makes its exchange folder, if it was granted one."""
    if plan.exchange_bytes == 0:
        return None, None
    identity = stack.enter_context(own_identity())

    def make(writer: Identity | None) -> ExchangeFolder:
        return stack.enter_context(
            exchange_folder(
                site.paths.state, run_id, plan.exchange_bytes, source=identity, target=writer
            )
        )

    return identity, make


def _input(plan: Plan) -> Input:
    dialect = plan.source.plugin.dialect
    tables = tuple(
        Table(
            entry.stream,
            entry.key,
            entry.selected_schema() if dialect == "airbyte" else None,
            tuple(sorted(entry.deselected - set(entry.key))),
        )
        for entry in plan.selected.streams
    )
    said = plan.job
    return Input(
        dialect,
        tables,
        said.limits,
        strict=said.source.strict,
        numbers=said.source.numbers,
        max_output_bytes=plan.source.grants.output_bytes,
        batches=plan.source.plugin.batches,
        contracts=said.contracts,
        layouts=said.layouts,
    )


def _lost_state(plan: Plan, site: Site, target: Target, opened: Opened) -> Iterator[str]:
    """Yield what is to be told of the state that the target holds."""
    job = plan.job
    known = site.ledger.remembered_epoch(job.workspace, job.pipeline, target.warehouse)
    if known is not None and opened.epoch < known:
        yield (
            f"the warehouse holds epoch {opened.epoch} of pipeline {job.pipeline}, an earlier run committed {known}: "
            + ("starting anew" if opened.epoch == 0 else "going on from there")
        )
    for left in opened.recovered:
        yield f"epoch {left.epoch} of a run that died was {left.action} ({left.files} files)"


def own_target(plugin: Installed, job: Job) -> Target:
    """Return the target of a job as writer and committer are told of it."""
    said = job.own_target
    return Target(
        plugin,
        job.pipeline,
        said.warehouse,
        said.namespace,
        mode=said.mode,
        epoch=said.epoch,
        metadata=said.metadata,
    )
