"""A run whose source is our own stdin: stdin → writer → committer, states on stdout once they are durable.

Nobody here knows how the other end of the pipe ended, so the end of file alone proves nothing (docs/guide/targets.md). The run is
written into ledger and audit like any other.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from dativo.kernel import grants, registry, report, walls
from dativo.kernel import stdin as standard_input
from dativo.kernel.conversation import Ending, Observer, signals
from dativo.kernel.landing import Input, Landing, Target
from dativo.kernel.plan import Site
from dativo.kernel.processes import Processes, pipeline_lock
from dativo.kernel.run import RunFailed, new_run_id
from dativo.kernel.screen import Screen
from dativo.kernel.stdout import Lines
from dativo.kernel.tally import Tally
from dativo.kernel.target_config import TargetConfig
from dativo.protocol import events, state
from dativo.protocol.errors import DativoError, InternalError, Where
from dativo.protocol.state import Stream
from dativo.sandbox import Confined, SandboxError

STDOUT = 1


@dataclass(frozen=True, slots=True)
class Task:
    """One run before it starts. ``overwrites``: streams that replace their table, with the generation that the caller gave.

    ``states`` are the lines of stdout that a committed epoch adds; ``complete`` is asked when the input has ended.
    """

    config: TargetConfig
    input: Input
    overwrites: tuple[tuple[Stream, int | None], ...]
    states: Callable[[events.Sealed], Iterable[str]]
    complete: Callable[[], bool]
    on_message: Callable[[events.SourceMessage], None]
    file: Path | None = None

    def document(self) -> dict[str, object]:
        """Return what the audit keeps."""
        config = self.config
        return {
            "pipeline": config.pipeline,
            "config": str(config.file),
            "source": {
                "stdin": "-" if self.file is None else str(self.file),
                "dialect": self.input.dialect,
            },
            "target": {
                "connector": config.target,
                "mode": config.mode,
                "warehouse": str(config.warehouse),
                "namespace": config.namespace,
                "eof": config.eof,
            },
        }


def permit(site: Site, config: TargetConfig) -> registry.Installed:
    """Hold the configuration against the operator's policy and return the target. Raises NotPermitted.

    The command line is the operator's own, so nothing needs an approval; ceilings and blocks hold.
    """
    where = Where(file=str(config.file))
    grants.permit(
        grants.Grants.default(),
        site.policy,
        config.limits,
        (config.warehouse,),
        where=where,
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
    started = time.monotonic()
    run_id = new_run_id()
    site.ledger.begin(run_id, Path.cwd(), task.config.pipeline)
    site.audit.write("run_started", run=run_id, plan=task.document())
    going = _Going(task, site, run_id, screen)
    error: DativoError | None = None
    try:
        going.carry_out()
    except DativoError as failure:
        error = failure
    except SandboxError as failure:
        error = walls.missing(failure, site.paths.policy)
    finally:
        if error is None and not going.settled:
            error = InternalError("the run was left by an unexpected exception")
        told = going.report(error, time.monotonic() - started)
        site.ledger.end(run_id, told.status, summary(told), told.to_json())
        site.audit.write(
            "run_ended", run=run_id, status=told.status, epoch=told.epoch, error=told.error
        )
    if error is not None:
        raise RunFailed(error, told) from error
    return told


def summary(told: report.Report) -> str:
    """Return a finished run in a few words."""
    rows = sum(stream.written for stream in told.streams)
    return f"{rows:,} rows, {told.commits} commits, epoch {told.epoch}"


class _StdinLanding(Landing):
    """A landing whose input may come by a pump."""

    @property
    def interrupted(self) -> bool:
        """Whether a signal has asked to end."""
        return bool(self._signals)


class _Going:
    """One run under way."""

    def __init__(self, task: Task, site: Site, run_id: str, screen: Screen) -> None:
        self.task, self.site, self.run_id, self.screen = task, site, run_id, screen
        self.tally = Tally()
        self.processes: list[Confined] = []
        self.notices = list(task.config.notices)
        self.settled = False

    def carry_out(self) -> None:
        """Do the run. Raises its failure after everything that it started is gone and its states are written."""
        task = self.task
        plugin = permit(self.site, task.config)
        with contextlib.ExitStack() as stack:
            landing = stack.enter_context(
                _StdinLanding(
                    idle_time_s=None,
                    observer=Observer(self._progress, self._message, self._durable),
                    source_name="stdin",
                    ending=self._ending,
                )
            )
            self.tally = landing.tally
            self.lines = Lines(STDOUT, lambda: landing.interrupted)
            stack.enter_context(signals(landing))
            stack.enter_context(lock(self.site, task.config))
            processes = Processes(
                stack, self.site.walls, self.run_id, self.site.env, self.processes
            )
            with standard_input.taken() as stdin:
                landing.start(
                    processes,
                    target(plugin, task.config, task.overwrites),
                    task.input,
                    stdin=stdin,
                )
            try:
                landing.carry(None)
            finally:
                self.lines.flush()
        if self.lines.failure is not None:
            raise self.lines.failure
        self.settled = True

    def _ending(self) -> Ending:
        """Return what the end of the input means: complete is what was proved or promised."""
        eof = self.task.config.eof
        return Ending(
            "checkpoint" if eof == "checkpoint" else "commit",
            complete=eof == "commit" or self.task.complete(),
        )

    def _progress(self, tally: Tally) -> None:
        self.lines.push()
        self.screen.progress(tally)

    def _message(self, message: events.SourceMessage) -> None:
        self.task.on_message(message)
        self.screen.message(message)

    def _durable(self, sealed: events.Sealed) -> None:
        self.lines.write(self.task.states(sealed))

    def report(self, error: DativoError | None, seconds: float) -> report.Report:
        """Return the report; remembers the last committed epoch."""
        config, tally = self.task.config, self.tally
        if tally.opened is not None:
            self.site.ledger.remember(
                Path.cwd(),
                config.pipeline,
                config.warehouse,
                tally.epoch,
                state.digest(tally.states),
            )
        return report.Report(
            run=self.run_id,
            pipeline=config.pipeline,
            status=int(error.status) if error is not None else 0,
            error=report.error_facts(error) if error is not None else None,
            seconds=round(seconds, 3),
            source="stdin" if self.task.file is None else str(self.task.file),
            target=config.target,
            warehouse=str(config.warehouse),
            epoch=tally.epoch,
            commits=tally.commits,
            source_bytes=tally.stats.bytes if tally.stats else 0,
            text_lines=tally.stats.text_lines if tally.stats else 0,
            blocked_s=tally.stats.blocked_s if tally.stats else 0.0,
            streams=report.stream_reports(tally),
            processes=tuple(
                report.process_report(confined, confined.poll_exit()) for confined in self.processes
            ),
            kernel_cpu_s=round(time.process_time(), 3),
            kernel_cpu_to_first_byte_s=tally.first_byte_cpu_s,
            degraded=("cgroup: limits are kept by rlimits and a watchdog",)
            if any(p.attestation.cgroup == "degraded" for p in self.processes)
            else (),
            notices=tuple(self.notices),
            states=len(tally.states),
        )
