"""What operators say: ``dativo grants …`` and ``dativo stop``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dativo.kernel import show
from dativo.kernel.flags import TIME
from dativo.protocol.errors import ExitStatus

if TYPE_CHECKING:
    from dativo.kernel.plan import Site


@contextmanager
def _site() -> Iterator[Site]:
    from dativo.kernel.plan import Site

    site = Site.open(os.environ)
    with site.ledger:
        yield site


# --- grants ----------------------------------------------------------------------------------------------------------------


@click.group()
def grants() -> None:
    """What jobs ask for, and what the operator allows."""


@grants.command("show")
@click.argument("job", type=click.Path(path_type=Path), required=False)
def grants_show(job: Path | None) -> None:
    """Show what JOB asks for beyond the default; without JOB, every approval and every blocked plugin."""
    from dativo.kernel import api

    with _site() as site:
        for line in api.approvals(site) if job is None else api.requested(site, job):
            show.data(show.foreign(line))


@grants.command("approve")
@click.argument("job", type=click.Path(path_type=Path))
def grants_approve(job: Path) -> None:
    """Allow what JOB asks for, for this connector, this job file and these grants."""
    from dativo.kernel import api

    with _site() as site:
        asks, key = api.approve(site, job)
    for ask in asks:
        show.note(f"  {show.foreign(ask)}")
    show.data(f"approved {key}" if asks else "nothing to approve: the job stays within the default")


@grants.command("block")
@click.argument("plugin")
@click.option("--reason", help="Shown to whoever tries to run it.")
def grants_block(plugin: str, reason: str | None) -> None:
    """Let PLUGIN (NAME, NAME==VERSION or its digest) run no more; runs of it that are under way end within a second or two."""
    from dativo.kernel import api

    show.data(f"blocked {api.block(plugin, reason, os.environ)}")


@grants.command("unblock")
@click.argument("plugin")
def grants_unblock(plugin: str) -> None:
    """Take back what `grants block PLUGIN` said."""
    from dativo.kernel import api

    show.data(f"no longer blocked: {api.unblock(plugin, os.environ)}")


# --- stop ------------------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("run", required=False)
@click.option("--plugin", help="Every run of this plugin: NAME, NAME==VERSION or its digest.")
@click.option("--all", "everything", is_flag=True, help="Every run of this user.")
@click.option("--now", is_flag=True, help="Kill at once, without waiting for the last state.")
@click.option("--grace", type=TIME, help="How long it may take to end at its last state.")
def stop(
    run: str | None, plugin: str | None, everything: bool, now: bool, grace: float | None
) -> int:
    """End RUN (its id or the beginning of it), or the runs that are meant: at the last state, by force after a minute.

    What was committed stays; the next run goes on from there. Jails and reads are runs too.
    """
    from dativo.kernel import api
    from dativo.kernel.limits import STOP_TIMEOUT_S

    if sum((run is not None, plugin is not None, everything)) != 1:
        raise click.UsageError("one of RUN, --plugin NAME and --all")
    grace_s = 0.0 if now else float(STOP_TIMEOUT_S) if grace is None else float(grace)
    for running, killed in api.stop(run, plugin, os.environ, grace_s=grace_s):
        how = "killed" if killed else "ended"
        show.data(f"{running.run}  {running.kind:5} {show.foreign(running.pipeline):20} {how}")
    return ExitStatus.DONE
