"""The command line. Data on stdout, everything else on stderr; ``--output json`` for machines.

Every command imports what it needs when it runs; what it does is in ``dativo.kernel.api``, so that Python can do the same. Exit
statuses: docs/spec/exit-codes.md.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from dativo.kernel import cli_jail, cli_operator, cli_verbs, cli_write, failures, show
from dativo.kernel._version import VERSION
from dativo.protocol.errors import DativoError, ExitStatus

if TYPE_CHECKING:
    from dativo.kernel.plan import Site

Output = Literal["table", "json"]
PREFIX: Final = "dativo: "


@dataclass(slots=True)
class _Asked:
    """What of a command line must still be known when its command has failed."""

    output: Output = "table"


def _remember_output(context: click.Context, _: click.Parameter, output: Output) -> Output:
    context.ensure_object(_Asked).output = output
    return output


_output = click.option(
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    callback=_remember_output,
    help="A table for people, or one JSON object.",
)
_cgroup = click.option(
    "--cgroup",
    type=click.Choice(["required", "degraded"]),
    default=None,
    help="Accept rlimits and a watchdog where no cgroup can be written: degraded.",
)
_job = click.argument("job", type=click.Path(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION, "-V", "--version", message="dativo %(version)s")
def main() -> None:
    """Run data connectors that nobody has to trust."""


def run_command_line() -> int:
    """Run the command of ``sys.argv`` and return its exit status."""
    asked = _Asked()
    return failures.run(
        lambda: _run(asked), lambda error: _answer(error, asked.output), prefix=PREFIX
    )


def _run(asked: _Asked) -> int:
    try:
        return int(main.main(standalone_mode=False, obj=asked) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        show.note(error.format_message())
        return ExitStatus.USAGE
    except click.ClickException as error:
        error.show()
        return ExitStatus.USAGE
    except click.Abort:
        return ExitStatus.INTERRUPTED


def _answer(error: DativoError, output: Output) -> None:
    """Tell of a command that failed; with ``--output json`` stdout gets the same two keys as a run's report has."""
    if output == "json":
        from dativo.kernel.report import error_facts

        show.data(json.dumps({"status": int(error.status), "error": error_facts(error)}))
        show.flush()


@contextmanager
def _site(cgroup: Literal["required", "degraded"] | None = None) -> Iterator[Site]:
    from dativo.kernel.plan import Site

    site = Site.open(os.environ, cgroup=cgroup)
    with site.ledger:
        yield site


# --- runs ------------------------------------------------------------------------------------------------------------------


@main.command()
@_job
@_output
@_cgroup
@click.option(
    "--refresh-catalog", is_flag=True, help="Discover again instead of using the known catalogue."
)
@click.option("--quiet", is_flag=True, help="No progress and no log lines of source and target.")
@click.option(
    "--observe",
    is_flag=True,
    help="Report the network grants that refused connections would have needed; none is applied.",
)
def run(
    job: Path,
    output: Output,
    cgroup: Literal["required", "degraded"] | None,
    refresh_catalog: bool,
    quiet: bool,
    observe: bool,
) -> int:
    """Run JOB: source, confined, into its target; data and state in one commit."""
    from dativo.kernel import api, environment, reader, report
    from dativo.kernel.screen import Screen

    with _site(cgroup) as site:
        plan = api.plan_job(site, job, refresh_catalog=refresh_catalog, observe=observe)
        terminal = sys.stderr.isatty() and site.env.get(environment.TERM.name) != "dumb"
        screen = Screen(plan.redactor.redact, terminal=terminal, quiet=quiet)
        error: DativoError | None = None
        try:
            observer = api.Observer(screen.progress, screen.message, on_said=screen.said)
            told = api.run_plan(site, plan, observer)
        except api.RunFailed as failed:
            error, told = failed.error, failed.report
        screen.clear()
    if output == "json":
        show.data(told.to_json())
    else:
        show.data(report.render(told, reader=reader.duckdb_line(told, job)))
    if error is not None:
        show.flush()
        failures.complain(error, prefix=PREFIX)
    return told.status


@main.command()
@_job
@_cgroup
def plan(job: Path, cgroup: Literal["required", "degraded"] | None) -> None:
    """Print what JOB would do and may do, before anything starts."""
    from dativo.kernel import api
    from dativo.kernel.plan import render

    with _site(cgroup) as site:
        show.data(render(api.plan_job(site, job)))


@main.group()
def runs() -> None:
    """What ran, and how it ended."""


@runs.command("list")
@_output
@click.option("--limit", type=click.IntRange(1, 10_000), default=20)
def runs_list(output: Output, limit: int) -> None:
    """List the newest runs first."""
    import time

    from dativo.kernel import api

    with _site() as site:
        rows = api.runs(site, limit=limit)
    if output == "json":
        names = ("run", "pipeline", "workspace", "status", "started_at", "ended_at", "summary")
        found = [{name: getattr(row, name) for name in names} for row in rows]
        show.data(json.dumps({"runs": found}))
        return
    for row in rows:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.started_at))
        ended = "-" if row.status is None else "done" if row.status == 0 else f"exit {row.status}"
        show.data(f"{row.run}  {when}  {row.pipeline:20} {ended:9} {row.summary}")


@runs.command("show")
@click.argument("run")
def runs_show(run: str) -> None:
    """Print the report of RUN (its id or the beginning of it) as JSON."""
    from dativo.kernel import api

    with _site() as site:
        show.data(api.run_report(site, run))


@main.command()
@_job
@click.option("--stream", default=None, help="Only this stream.")
@click.option("--view", is_flag=True, help="DuckDB statements that make a view of each table.")
@_cgroup
def files(
    job: Path, stream: str | None, view: bool, cgroup: Literal["required", "degraded"] | None
) -> None:
    """Print the committed data files of JOB's tables, one path a line."""
    from dataclasses import replace

    from dativo.kernel import api, reader
    from dativo.protocol.errors import ConfigError, Where

    with _site(cgroup) as site:
        found = api.committed(site, job)
    if found.epoch is None:
        raise ConfigError("what a foreign target has written is its own", Where(file=str(job)))
    if stream is not None:
        names = sorted({str(table.stream) for table in found.tables})
        if stream not in names:
            raise ConfigError(
                f"nothing of a stream {stream!r} is committed",
                hint="There is: " + (", ".join(names) or "nothing"),
            )
        found = replace(found, tables=tuple(t for t in found.tables if str(t.stream) == stream))
    if view:
        for line in reader.views(found.tables):
            show.data(line)
        return
    for table in found.tables:
        if table.metadata_location is not None:
            show.data(table.metadata_location)
        for file in table.files:
            show.data(file.path)


# --- verbs, pipes, the operator's levers -----------------------------------------------------------------------------------

for _command in (
    cli_verbs.spec,
    cli_verbs.check,
    cli_verbs.discover,
    cli_verbs.read,
    cli_write.write,
    cli_jail.jail,
    cli_operator.grants,
    cli_operator.stop,
):
    main.add_command(_command)


# --- plugins ---------------------------------------------------------------------------------------------------------------


@main.group()
def plugin() -> None:
    """Install and look at connectors."""


@plugin.command("add")
@click.argument("reference")
@click.option(
    "--locked",
    is_flag=True,
    help="Install what dativo.lock says; do nothing where that is installed.",
)
@click.option(
    "--python", default=None, help="Interpreter or version for the connector's environment."
)
@click.option("--name", default=None, help="What jobs call an image: image:NAME.")
@_cgroup
def plugin_add(
    reference: str,
    locked: bool,
    python: str | None,
    name: str | None,
    cgroup: Literal["required", "degraded"] | None,
) -> None:
    """Install REFERENCE and write it to dativo.lock: airbyte:source-faker==7.2.1, singer:tap-jsonl==0.3.1, image:./source.tar."""
    from dativo.kernel import api

    with _site(cgroup) as site:
        added = api.add(site, reference, Path.cwd(), locked=locked, python=python, name=name)
    show.note(f"{added.reference} {added.version}  digest {added.digest[:12]}")


@plugin.command("list")
@_output
def plugin_list(output: Output) -> None:
    """List the connectors of this workspace's dativo.lock."""
    from dativo.kernel import api

    with _site() as site:
        found = api.plugins(site, Path.cwd())
    if output == "json":
        show.data(json.dumps({"plugins": found}))
        return
    for entry in found:
        show.data(f"{entry['reference']:40} {entry['version']:12} {entry['state']}")


@plugin.command("verify")
@click.argument("reference")
def plugin_verify(reference: str) -> None:
    """Hash every file of the connector's environment again."""
    from dativo.kernel import api

    with _site() as site:
        found = api.verify(site, reference, Path.cwd())
    show.note(f"{found.reference} {found.version}: every file is as it was installed")


# --- state, machine --------------------------------------------------------------------------------------------------------


@main.group()
def state() -> None:
    """The state of a pipeline, as the target holds it."""


@state.command("show")
@_job
@_cgroup
def state_show(job: Path, cgroup: Literal["required", "degraded"] | None) -> None:
    """Print the committed epoch and states of JOB's pipeline as JSON."""
    from dativo.kernel import api

    with _site(cgroup) as site:
        show.data(json.dumps(api.committed(site, job).document(), ensure_ascii=True))


@main.command()
@_output
def doctor(output: Output) -> int:
    """Build each wall on this machine, try to climb it, and say what is missing and what to type."""
    from dativo.kernel import api

    walls = api.doctor()
    if output == "json":
        show.data(json.dumps({"walls": walls}))
    for wall in walls if output == "table" else ():
        show.data(f"{wall['state']:9} {wall['name']:20} {show.foreign(wall['meaning'])}")
        for number, line in enumerate(wall["remedy"].splitlines()):
            show.data(f"{'':9} {'':20} {' ' if number else '→'} {show.foreign(line)}")
    return (
        ExitStatus.WALL_MISSING
        if any(wall["state"] == "missing" for wall in walls)
        else ExitStatus.DONE
    )


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
@click.option(
    "--source", "reference", default="airbyte:source-faker", help="The connector of the new job."
)
def init(folder: Path, reference: str) -> None:
    """Write a first job.yaml into FOLDER."""
    from dativo.kernel import api

    show.data(str(api.init(folder, reference)))
