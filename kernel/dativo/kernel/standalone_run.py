"""A run whose source is our own stdin: stdin → writer → committer, states on stdout once they are durable.

Nobody here knows how the other end of the pipe ended, so the end of file alone proves nothing (docs/guide/targets.md). The run is
written into ledger and audit like any other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dativo.kernel import grants, registry, report
from dativo.kernel.committer import Target
from dativo.kernel.conversation import Ending, Observer
from dativo.kernel.landing import Input
from dativo.kernel.limits import MAX_SHOWN_TEXT_LINES
from dativo.kernel.plan import Site
from dativo.kernel.processes import Processes, pipeline_lock
from dativo.kernel.record import on_record
from dativo.kernel.run import new_run_id
from dativo.kernel.running import under_orders
from dativo.kernel.screen import Screen
from dativo.kernel.stdin import StdinLanding
from dativo.kernel.stdout import Lines
from dativo.kernel.tally import Tally
from dativo.kernel.target_config import TargetConfig
from dativo.protocol import events, state
from dativo.protocol.errors import LimitExceeded, Where
from dativo.protocol.state import Stream

STDOUT: Final = 1
# Of the ceilings only those of the input matter: no plugin is started.
_NO_PLUGIN: Final = grants.Grants(
    memory_bytes=0,
    cpus=0.0,
    pids=0,
    open_files=0,
    file_bytes=0,
    tmp_bytes=0,
    wall_time_s=0,
    idle_time_s=0,
)


@dataclass(frozen=True, slots=True)
class Task:
    """One run before it starts. ``overwrites``: streams that replace their table, with the generation that the caller gave.

    ``states`` are the lines of stdout that a committed epoch adds; ``complete`` and ``failed``, what the input itself has proved,
    are asked when it has ended.
    """

    config: TargetConfig
    input: Input
    overwrites: tuple[tuple[Stream, int | None], ...]
    states: Callable[[events.Sealed], Iterable[str]]
    complete: Callable[[], bool]
    failed: Callable[[], bool]
    on_message: Callable[[events.SourceMessage], None]
    file: Path | None = None

    @property
    def source(self) -> str:
        """What is read."""
        return "stdin" if self.file is None else str(self.file)

    def document(self) -> dict[str, object]:
        """Return what the audit keeps."""
        config = self.config
        return {
            "pipeline": config.pipeline,
            "config": str(config.file),
            "source": {"input": self.source, "dialect": self.input.dialect},
            "target": {
                "connector": config.target,
                "warehouse": str(config.warehouse),
                "namespace": config.namespace,
                "mode": config.mode,
                "eof": config.eof,
            },
        }


def permit(site: Site, config: TargetConfig) -> registry.Installed:
    """Hold the configuration against the operator's policy and return the target. Raises NotPermitted.

    The command line is the operator's own, so nothing needs an approval; ceilings and blocks hold.
    """
    grants.permit(
        _NO_PLUGIN,
        site.policy,
        config.limits,
        (config.warehouse,),
        where=Where(file=str(config.file)),
        asked_in=str(config.file),
    )
    plugin = registry.find_target(config.target)
    site.policy.check_blocked(plugin.reference, plugin.version, plugin.digest)
    return plugin


def target(
    plugin: registry.Installed,
    config: TargetConfig,
    overwrites: tuple[tuple[Stream, int | None], ...] = (),
) -> Target:
    """Return the target as writer and committer are told of it."""
    return Target(
        plugin,
        config.pipeline,
        config.warehouse,
        config.namespace,
        mode=config.mode,
        epoch=config.epoch,
        overwrites=overwrites,
        metadata=config.metadata,
    )


def lock(site: Site, config: TargetConfig) -> contextlib.AbstractContextManager[None]:
    """Hold the pipeline on this machine. Raises Conflict when another run has it."""
    return pipeline_lock(
        site.paths.state / "locks",
        str(config.warehouse),
        config.pipeline,
        Where(file=str(config.file)),
        hint='Wait for it, or give this one a name of its own: "pipeline" in the config',
    )


def run(task: Task, site: Site, screen: Screen) -> report.Report:
    """Carry out ``task``. Returns the report of a run that is done; raises RunFailed, which holds the report of any other."""
    config = task.config
    course = report.Course(
        run=new_run_id(),
        pipeline=config.pipeline,
        source=task.source,
        target=config.target,
        warehouse=str(config.warehouse),
        notices=list(config.notices),
    )
    return on_record(
        site,
        course,
        task.document(),
        lambda: _land(task, site, course, screen),
        workspace=Path.cwd(),
    )


def _land(task: Task, site: Site, course: report.Course, screen: Screen) -> None:
    """Do the run. Raises its failure after everything that it started is gone and its states are written."""
    config = task.config
    plugin = permit(site, config)
    try:
        with contextlib.ExitStack() as stack:
            processes = Processes(stack, site.walls, course.run, site.env, course.processes)
            lines = Lines(STDOUT, lambda: landing.interrupted, lambda: landing.given_up)

            def on_durable(sealed: events.Sealed) -> None:
                try:
                    lines.write(task.states(sealed))
                except LimitExceeded as error:
                    landing.fail(error)

            landing = stack.enter_context(
                StdinLanding(
                    idle_time_s=None,
                    observer=_observer(task, lines, screen, on_durable),
                    source_name=task.source,
                    ending=lambda: _ending(task),
                )
            )
            course.tally = landing.tally
            stack.enter_context(
                under_orders(
                    site, landing, course.run, "run", config.pipeline, Path.cwd(), (plugin,)
                )
            )
            stack.enter_context(lock(site, config))
            with landing.taken(processes, task.file) as stdin:
                landing.start(
                    processes, target(plugin, config, task.overwrites), task.input, stdin=stdin
                )
            try:
                landing.carry(None)
            finally:
                lines.flush()
        if lines.failure is not None:
            raise lines.failure
    finally:
        course.notices += _hidden(task, course)
        tally = course.tally
        if tally.opened is not None:
            states = state.digest(tally.states)
            site.ledger.remember(Path.cwd(), config.pipeline, config.warehouse, tally.epoch, states)


def _observer(
    task: Task, lines: Lines, screen: Screen, on_durable: Callable[[events.Sealed], None]
) -> Observer:
    def on_progress(tally: Tally) -> None:
        lines.push()
        screen.progress(tally)

    shown = 0

    def on_message(message: events.SourceMessage) -> None:
        nonlocal shown
        task.on_message(message)
        shown += message.kind in ("text", "unknown")
        if shown <= MAX_SHOWN_TEXT_LINES or message.kind not in ("text", "unknown"):
            screen.message(message)

    return Observer(on_progress, on_message, on_durable)


def _ending(task: Task) -> Ending:
    """Return what the end of the input means: complete is what was proved, or promised and not disproved."""
    eof = task.config.eof
    return Ending(
        "checkpoint" if eof == "checkpoint" else "commit",
        complete=task.complete() or (eof == "commit" and not task.failed()),
    )


def _hidden(task: Task, course: report.Course) -> Iterator[str]:
    """Yield what is to be told of rows that wait for a complete input."""
    overwrites = task.config.mode == "overwrite" or task.overwrites
    if overwrites and course.tally.commits and not course.tally.complete:
        proof = (
            '`"eof": "commit"`'
            if task.input.dialect == "singer"
            else 'COMPLETE for every stream, or `"eof": "commit"`'
        )
        yield f"nothing was replaced: the new rows are kept hidden until an input is known to be complete ({proof})"
