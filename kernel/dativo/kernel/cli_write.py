"""The command ``dativo write``: our stdin into a target, foreign or dativo's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from dativo.kernel import show
from dativo.kernel.flags import GrantFlags, grant_flags
from dativo.protocol.errors import ConfigError, DativoError, ExitStatus

if TYPE_CHECKING:
    from dativo.kernel.target_config import Target
    from dativo.protocol.catalog import Dialect

_path = click.Path(path_type=Path)
_OWN: Final[dict[str, Target]] = {"iceberg": "iceberg", "parquet": "parquet"}


@click.command()
@click.argument("plugin")
@click.option(
    "--config", type=_path, metavar="FILE", help="The target's configuration: one JSON object."
)
@click.option(
    "--as",
    "dialect",
    type=click.Choice(["singer", "airbyte"]),
    help="The dialect of stdin; the plugin's own, for iceberg and parquet Singer.",
)
@click.option(
    "--catalog",
    type=_path,
    metavar="FILE",
    help="What stdin sends: a catalogue of either dialect. Needed where Airbyte is involved.",
)
@click.option(
    "--eof",
    type=click.Choice(["commit", "checkpoint"]),
    help="What the end of stdin means to a destination. commit: every stream is complete; checkpoint: none is; "
    "absent: those that stdin itself has called complete, if that is every one.",
)
@click.option(
    "--strict", is_flag=True, help="Refuse what is tolerated otherwise: blank lines, text, NaN."
)
@click.option("--quiet", is_flag=True, help="No log lines of either side, and no report.")
@grant_flags
def write(
    plugin: str,
    config: Path | None,
    dialect: Dialect | None,
    catalog: Path | None,
    eof: Literal["commit", "checkpoint"] | None,
    strict: bool,
    quiet: bool,
    granted: GrantFlags,
) -> int:
    """Write stdin into the target PLUGIN, confined; print each state once the target has acknowledged it."""
    if (own := _OWN.get(plugin)) is not None:
        if eof is not None or strict or granted != GrantFlags(cgroup=granted.cgroup):
            raise ConfigError(
                f"the target {plugin} takes eof, strict and limits from its configuration",
                hint="It may write its warehouse and nothing else: leave the flags out",
            )
        return _write_own(own, config, dialect or "singer", catalog, granted.cgroup)
    return _write(plugin, config, dialect, catalog, eof, strict, quiet, granted)


def _write(
    plugin: str,
    config: Path | None,
    dialect: Dialect | None,
    catalog: Path | None,
    eof: Literal["commit", "checkpoint"] | None,
    strict: bool,
    quiet: bool,
    granted: GrantFlags,
) -> int:
    from dativo.kernel import api, report
    from dativo.kernel.screen import Screen
    from dativo.kernel.write import Wanted

    if sys.stdin.isatty():
        show.note("Records come from this terminal; from a source: dativo read … | dativo write …")
    error: DativoError | None = None
    site = api.Site.open(os.environ, cgroup=granted.cgroup)
    with site.ledger:
        wanted = Wanted(dialect, catalog, eof, strict)
        with api.planned_write(site, plugin, config, wanted, Path.cwd(), granted) as plan:
            screen = Screen(plan.target.redactor.redact, terminal=False, quiet=quiet)
            observer = api.Observer(screen.progress, screen.message, on_said=screen.said)
            try:
                told = api.write(site, plan, observer)
            except api.RunFailed as failed:
                error, told = failed.error, failed.report
    if not quiet:
        show.note(report.render(told, reader=None))
    if error is not None:
        raise error
    return ExitStatus.DONE


def _write_own(
    target: Target,
    config: Path | None,
    dialect: Dialect,
    catalog: Path | None,
    cgroup: Literal["required", "degraded"] | None,
) -> int:
    """Do what the standalone target does: dativo-target-iceberg, dativo-target-parquet."""
    from dativo.kernel import standalone

    if config is None:
        raise ConfigError(f"the target {target} needs a configuration", hint="--config FILE")
    arguments = ["--config", str(config)]
    if dialect == "airbyte":
        if catalog is None:
            raise ConfigError(
                "an Airbyte input needs a configured catalogue", hint="--catalog FILE"
            )
        arguments = ["write", *arguments, "--catalog", str(catalog)]
    elif catalog is not None:
        raise ConfigError("a Singer input brings its own schemas", hint="Leave --catalog out")
    return standalone.main(target, [*arguments, *(["--cgroup", cgroup] if cgroup else [])])
