"""Foreign targets: Singer targets and Airbyte destinations, confined, behind a relay.

    source ──▶ relay ──▶ target ──acknowledged states──▶ relay ──▶ kernel ──▶ ledger

A target is at-least-once: what it stored behind the last state that it acknowledged is sent again by the next run. Only states
that the source really sent, and that the target acknowledged in their order, are saved and given to the source again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from dativo.kernel import exchange, verbs, warehouse
from dativo.kernel.conversation import Observer
from dativo.kernel.job import Job
from dativo.kernel.ledger import Ledger
from dativo.kernel.passage import Passage, passed_streams
from dativo.kernel.passing import ForeignTarget, Passing
from dativo.kernel.plan import Plan, Site, Source
from dativo.kernel.processes import Processes, own_identity, pipe, pipeline_lock
from dativo.kernel.report import Course
from dativo.kernel.running import under_orders
from dativo.kernel.source import read_documents, start_source
from dativo.kernel.tally import Tally
from dativo.protocol import jsontext, translate
from dativo.protocol.catalog import Catalog, configured_airbyte, from_airbyte
from dativo.protocol.errors import ConfigError, Conflict, Where
from dativo.protocol.state import StateEntry
from dativo.sandbox import Identity

SAVE_EVERY_S: Final = 1.0
GENERATION: Final = 1
"""What every stream is of: rows are appended, so no generation follows another and none is ever dropped."""


def run(plan: Plan, site: Site, course: Course, observer: Observer) -> None:
    """Do the run of a plan with a foreign target. Raises its failure after everything it started is gone."""
    job, target = plan.job, plan.foreign
    if target is None:
        raise ValueError("the plan's target is dativo's own")
    name = target.plugin.reference
    saving = Saving(site.ledger, job, name, course.run)
    with contextlib.ExitStack() as stack:
        processes = Processes(stack, plan.walls, course.run, site.env, course.processes)
        stack.enter_context(
            pipeline_lock(
                site.paths.state / "locks",
                f"{job.workspace}\0{name}",
                job.pipeline,
                Where(file=str(job.path)),
            )
        )
        states = site.ledger.saved_states(job.workspace, job.pipeline, name)
        _check_kind(states, plan)
        passing = stack.enter_context(
            Passing(
                idle_time_s=plan.source.grants.idle_time_s,
                observer=replace(observer, on_progress=saving.beside(observer)),
                on_acknowledged=lambda _: saving.take(passing.tally),
            )
        )
        course.tally = passing.tally
        networks = plan.networks(site, course.run)
        course.network = networks.record
        stack.callback(saving.flush)
        plugins = (plan.source.plugin, target.plugin)
        stack.enter_context(
            under_orders(site, passing, course.run, "run", job.pipeline, job.workspace, plugins)
        )
        identity = stack.enter_context(writing_identity(target.grants.write))
        writer = stack.enter_context(own_identity())
        folder = _exchange(plan, site, course.run, stack, (writer, identity))
        passing.exchange = folder
        passing.serve(processes, networks, "{client}.grants.network of the job")
        with pipe() as (read_end, write_end):
            passing.start_target(
                processes,
                passage(plan, states, folder),
                foreign_target(target, plan.selected, identity, folder),
                stdin=read_end,
                states=states,
            )
            documents = read_documents(
                plan.source, plan.discovered, plan.selected, states, files=folder is not None
            )
            source = start_source(
                plan.source,
                documents,
                processes,
                stdout=write_end,
                identity=writer,
                exchange=folder,
            )
        passing.carry(source)
        if folder is not None:
            course.notices.append(
                f"rows and files in the exchange folder are counted by nobody; it held up to {folder.most} bytes"
            )
        course.notices += unacknowledged(name, passing)


def _exchange(
    plan: Plan,
    site: Site,
    run: str,
    stack: contextlib.ExitStack,
    identities: tuple[Identity | None, Identity | None],
) -> exchange.ExchangeFolder | None:
    """Make the run's exchange folder, if source and target were granted one."""
    if plan.exchange_bytes == 0:
        return None
    source, target = identities
    return stack.enter_context(
        exchange.exchange_folder(
            site.paths.state, run, plan.exchange_bytes, source=source, target=target
        )
    )


def _check_kind(states: Sequence[StateEntry], plan: Plan) -> None:
    singer = plan.source.plugin.dialect == "singer"
    if any((entry.kind == "singer") != singer for entry in states):
        raise Conflict(
            f"the saved state of pipeline {plan.job.pipeline} is that of a source of the other dialect",
            Where(file=str(plan.job.path), plugin=plan.source.plugin.reference),
            hint="Give the pipeline another name to start anew",
        )


def unacknowledged(name: str, passing: Passing) -> Iterator[str]:
    """Yield what is to be told of states that a target took and did not acknowledge, or made up."""
    if passing.made_up:
        yield (
            f"{name} acknowledged {passing.made_up} states of its own making, put together out of those it was sent: "
            "none of them is kept"
        )
    if not passing.unacknowledged:
        return
    if passing.tally.acknowledged:
        yield (
            f"{name} did not acknowledge the last {passing.unacknowledged} of its states: "
            "what came behind the last acknowledged one is sent again by the next run"
        )
    else:
        yield (
            f"{name} acknowledged none of {passing.unacknowledged} states: "
            "the next run starts where this one did, and sends everything again"
        )


@dataclass(slots=True)
class Saving:
    """Puts acknowledged states into the ledger: at most once in SAVE_EVERY_S, and at the end."""

    ledger: Ledger
    job: Job
    target: str
    run: str
    _newest: tuple[StateEntry, ...] | None = None
    _saved_at: float = field(default_factory=time.monotonic)

    def take(self, tally: Tally) -> None:
        """Note the states of ``tally``; save them if the time has come."""
        self._newest = tally.states
        if time.monotonic() - self._saved_at >= SAVE_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Save what is not saved yet. On the disk when this returns."""
        if self._newest is not None:
            job = self.job
            self.ledger.save_states(
                job.workspace, job.pipeline, self.target, self._newest, run=self.run
            )
            self._newest, self._saved_at = None, time.monotonic()

    def beside(self, observer: Observer) -> Callable[[Tally], None]:
        """Return what is called with every progress: it saves what has waited long enough, then tells ``observer``."""

        def progress(tally: Tally) -> None:
            if self._newest is not None:
                self.take(tally)
            observer.on_progress(tally)

        return progress


# --- what relay and target are told ----------------------------------------------------------------------------------------


def passage(
    plan: Plan, states: tuple[StateEntry, ...], folder: exchange.ExchangeFolder | None = None
) -> Passage:
    """Return what the relay of a run is to do."""
    to = plan.target.dialect
    return Passage(
        dialect=plan.source.plugin.dialect,
        to=to,
        streams=tuple(passed_streams(plan.discovered, plan.selected, to)),
        limits=plan.job.limits,
        strict=plan.job.source.strict,
        statuses=to == "airbyte",
        initial=states,
        max_output_bytes=plan.source.grants.output_bytes,
        exchange=exchange.INSIDE if folder is not None else None,
    )


def foreign_target(
    target: Source,
    selected: Catalog | None,
    identity: Identity | None,
    folder: exchange.ExchangeFolder | None = None,
) -> ForeignTarget:
    """Return the target as it is started. ``selected`` is needed for an Airbyte destination: what it is going to be sent."""
    plugin = target.plugin
    catalog = None
    if plugin.dialect == "airbyte":
        if selected is None:
            raise ConfigError(
                "an Airbyte destination needs to know its streams",
                Where(plugin=plugin.reference),
                hint="--catalog FILE",
            )
        catalog = destination_catalog(
            selected, sync_id=time.time_ns() // 1_000_000, files=folder is not None
        )
    documents = verbs.Documents(target.documents.config, catalog)
    program = verbs.program(plugin, "write", documents, name="target")
    grants = target.walled()
    if folder is not None:
        given = exchange.variables(plugin.dialect, folder.max_bytes)
        program = replace(program, binds=((folder.path, exchange.INSIDE, False),))
        grants = replace(grants, environment=(*grants.environment, *given))
    return ForeignTarget(
        name=plugin.reference,
        program=program,
        grants=grants,
        dialect=plugin.dialect,
        identity=identity,
    )


def destination_catalog(selected: Catalog, *, sync_id: int, files: bool = False) -> str:
    """Return the ConfiguredAirbyteCatalog of a destination: every stream appended, none truncated; ``files``: with its files.

    Java destinations fail without generation_id, minimum_generation_id and sync_id (airbyte-protocol 0.18).
    """
    if selected.dialect == "singer":
        selected = from_airbyte(translate.catalog_file(selected, "airbyte"))
    more = {
        "generation_id": str(GENERATION),
        "minimum_generation_id": "0",
        "sync_id": str(sync_id),
    }
    parts = jsontext.elements(
        jsontext.members(configured_airbyte(selected, files=files), "catalogue")["streams"],
        "streams",
    )
    streams = [jsontext.assemble({**jsontext.members(part, "stream"), **more}) for part in parts]
    return '{"streams":[' + ",".join(streams) + "]}"


# --- who it becomes --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def writing_identity(paths: Sequence[Path]) -> Iterator[Identity | None]:
    """Make the folders of ``paths`` that are missing; yield who a process becomes that may write all of ``paths``.

    As root that is their owner, as with a warehouse: the next run has to be able to change what this one wrote. Nothing to write:
    an identity of its own. As a plain user None, that user. Folders that were made and that nothing was written to are removed.
    Raises ConfigError for paths of root or of several owners.
    """
    with contextlib.ExitStack() as stack:
        owners: dict[Identity, Path] = {}
        for path in paths:
            owner = _owner(path, stack)
            if owner is not None:
                owners[owner] = path
        if len(owners) > 1:
            raise ConfigError(
                "what a target may write has several owners, and it can be only one of them",
                value=", ".join(f"{path} of uid {owner.uid}" for owner, path in owners.items()),
                hint="Give them one owner (chown)",
            )
        yield next(iter(owners)) if owners else stack.enter_context(own_identity())


def _owner(path: Path, stack: contextlib.ExitStack) -> Identity | None:
    if path.is_file():
        status = path.stat()
        if os.geteuid() != 0:
            return None
        if status.st_uid == 0 or status.st_gid == 0:
            raise ConfigError(
                "a file to write belongs to root, and no confined process runs as root",
                Where(file=str(path)),
                hint="Give it an owner (chown)",
            )
        return Identity(status.st_uid, status.st_gid)
    owner, created = warehouse.prepare(path, "folder to write")
    if created:
        stack.callback(_remove_empty, path)
    return owner


def _remove_empty(folder: Path) -> None:
    # Only an empty folder goes; what cannot be removed stays, and fails no run.
    with contextlib.suppress(OSError):
        folder.rmdir()
