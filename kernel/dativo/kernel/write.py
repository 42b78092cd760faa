"""``dativo write``: our stdin into a target, confined, in either dialect; what it acknowledges goes to our stdout.

    stdin ──▶ relay ──▶ target ──acknowledged states──▶ relay ──▶ stdout

Nobody here knows how the other end of the pipe ended. A whole last line ends the target's input in good order, and a destination
is told that its streams are complete only if the input said so of every one, or the command line did. An input that ends inside a
line never ends in good order for the target.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

from dativo.kernel import configuration, foreign, named, registry, report
from dativo.kernel.conversation import Ending, Observer
from dativo.kernel.grants import Grants
from dativo.kernel.limits import ReadLimits
from dativo.kernel.passage import Passage, passed_streams
from dativo.kernel.passing import ForeignTarget
from dativo.kernel.plan import Site, Source
from dativo.kernel.processes import Processes
from dativo.kernel.record import on_record
from dativo.kernel.running import under_orders
from dativo.kernel.standalone_airbyte import Statuses
from dativo.kernel.stdin import StdinPassing
from dativo.kernel.stdout import Lines
from dativo.kernel.tally import Tally
from dativo.protocol import catalogfile, events
from dativo.protocol.catalog import Catalog, Dialect, from_airbyte, from_singer
from dativo.protocol.errors import ConfigError, Where
from dativo.protocol.state import StateEntry
from dativo.protocol.translate import catalog_file

Eof: TypeAlias = Literal["commit", "checkpoint"]
STDOUT: Final = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command line asks for. ``dialect`` is stdin's, None the plugin's own; ``eof`` None: complete only as stdin says."""

    dialect: Dialect | None = None
    catalog: Path | None = None
    eof: Eof | None = None
    strict: bool = False
    limits: ReadLimits = field(default_factory=ReadLimits)


@dataclass(frozen=True, slots=True)
class WritePlan:
    """One write before it starts."""

    target: Source
    started: ForeignTarget
    passage: Passage
    eof: Eof | None

    def document(self) -> dict[str, object]:
        """Return the plan as plain JSON values for the audit; no secret is part of it."""
        return {
            "source": {"stdin": "-", "dialect": self.passage.dialect},
            "target": self.target.document(),
            "streams": [str(entry.stream) for entry in self.passage.streams],
            "eof": self.eof,
        }


@contextlib.contextmanager
def planned(
    site: Site,
    reference: str,
    config: configuration.Configuration,
    granted: Grants,
    wanted: Wanted,
    *,
    workspace: Path,
    run_id: str,
) -> Iterator[WritePlan]:
    """Give the plan of a write; while it lasts, who the target becomes is nobody else's. Raises ConfigError.

    Folders that may be written are made where they are missing. Starts an Airbyte destination for a SPEC that is not known yet.
    """
    plugin = registry.find_target(reference, workspace, site.paths)
    dialect = wanted.dialect or plugin.dialect
    selected = _catalog(wanted.catalog, dialect)
    if selected is None and "airbyte" in (dialect, plugin.dialect):
        raise ConfigError(
            "what is sent has to be known beforehand, where Airbyte is involved",
            Where(plugin=plugin.reference),
            hint="--catalog FILE: a catalogue of either dialect, such as dativo discover prints",
        )
    with foreign.writing_identity(granted.write) as identity:
        target = named.prepare(site, plugin, config, granted, identity=identity, run=run_id)
        streams = () if selected is None else passed_streams(selected, selected, plugin.dialect)
        yield WritePlan(
            target=target,
            started=foreign.foreign_target(target, selected, identity),
            passage=Passage(
                dialect=dialect,
                to=plugin.dialect,
                streams=tuple(streams),
                limits=wanted.limits,
                declare=selected is None,
                strict=wanted.strict,
                statuses=plugin.dialect == "airbyte",
            ),
            eof=wanted.eof,
        )


def _catalog(file: Path | None, dialect: Dialect) -> Catalog | None:
    """Return the streams of stdin, in its dialect, from a catalogue of either one."""
    if file is None:
        return None
    with named.users_file(file):
        found = catalogfile.load(configuration.document_of_user(file, "catalogue")).selected
        if found.dialect == dialect:
            return found
        read = from_airbyte if dialect == "airbyte" else from_singer
        return read(catalog_file(found, dialect))


def write(plan: WritePlan, site: Site, run_id: str, observer: Observer) -> report.Report:
    """Carry out ``plan``: stdin into the target, acknowledged states to stdout. Returns the report of a write that is done.

    Raises RunFailed, which holds the report of any other, after everything that it started is gone.
    """
    plugin = plan.target.plugin
    course = report.Course(
        run=run_id, pipeline="write", source="stdin", target=f"{plugin.reference}=={plugin.version}"
    )
    return on_record(
        site,
        course,
        plan.document(),
        lambda: _carry(plan, site, course, observer),
        redactor=plan.target.redactor,
        kind="write",
    )


def _carry(plan: WritePlan, site: Site, course: report.Course, observer: Observer) -> None:
    statuses = Statuses(tuple(entry.stream for entry in plan.passage.streams))
    dialect = plan.passage.dialect

    def ending() -> Ending:
        if plan.eof == "checkpoint":
            return Ending("checkpoint", complete=False)
        proved = dialect == "airbyte" and statuses.complete
        promised = plan.eof == "commit" and not statuses.failed
        return Ending(complete=proved or promised)

    def message(said: events.SourceMessage) -> None:
        statuses.take(said)
        observer.on_message(said)

    def progress(tally: Tally) -> None:
        lines.push()
        observer.on_progress(tally)

    with contextlib.ExitStack() as stack:
        processes = Processes(stack, site.walls, course.run, site.env, course.processes)
        writing = stack.enter_context(
            StdinPassing(
                idle_time_s=None,
                observer=replace(observer, on_message=message, on_progress=progress),
                source_name="stdin",
                ending=ending,
                on_acknowledged=lambda states: lines.write(_line(each) for each in states),
            )
        )
        lines = Lines(STDOUT, lambda: writing.interrupted, lambda: writing.given_up)
        course.tally = writing.tally
        plugins = (plan.target.plugin,)
        stack.enter_context(
            under_orders(site, writing, course.run, "write", "write", Path.cwd(), plugins)
        )
        networks = site.networks({"target": plan.target.grants.network}, course.run)
        course.network = networks.record
        writing.serve(processes, networks, "--net")
        with writing.taken(processes, None) as read_end:
            writing.start_target(processes, plan.passage, plan.started, stdin=read_end)
        try:
            writing.carry(None)
        finally:
            lines.flush()
        course.notices += foreign.unacknowledged(plan.started.name, writing)
    if lines.failure is not None:
        raise lines.failure


def _line(entry: StateEntry) -> str:
    """Return an acknowledged state as a line of its own dialect; its text is the input's own."""
    return entry.text if entry.kind == "singer" else f'{{"type":"STATE","state":{entry.text}}}'
