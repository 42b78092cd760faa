"""The protocol's verbs on the command line: ``spec``, ``check``, ``discover`` and ``read`` of a plugin, in either dialect.

An argument that names an existing file, or a YAML one, is a job; any other is a plugin: ``airbyte:NAME``, ``singer:NAME``,
``./folder``, a bare name of the workspace, or dativo's own ``iceberg`` and ``parquet``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dativo.kernel import show
from dativo.kernel.flags import GrantFlags, grant_flags
from dativo.protocol.errors import ConfigError, ExitStatus, TargetFailed, Where

if TYPE_CHECKING:
    from dativo.kernel.plan import Site
    from dativo.kernel.target_config import Target
    from dativo.protocol.airbyte import ConnectionStatus
    from dativo.protocol.catalog import Dialect

_path = click.Path(path_type=Path)
_dialect = click.Choice(["singer", "airbyte"])
_config = click.option(
    "--config", type=_path, metavar="FILE", help="The plugin's configuration: one JSON object."
)

_OWN: Final[dict[str, Target]] = {"iceberg": "iceberg", "parquet": "parquet"}


@contextmanager
def _site(granted: GrantFlags) -> Iterator[Site]:
    from dativo.kernel.plan import Site

    site = Site.open(os.environ, cgroup=granted.cgroup)
    with site.ledger:
        yield site


def _is_job(argument: str, config: Path | None) -> bool:
    """Tell whether ``argument`` is a job file, which brings its configuration with it."""
    if not (Path(argument).is_file() or argument.endswith((".yaml", ".yml"))):
        return False
    if config is not None:
        raise ConfigError(
            "a job holds its own configuration", Where(file=argument), hint="Leave --config out"
        )
    return True


@click.command()
@click.argument("plugin")
@click.option(
    "--as",
    "to",
    type=_dialect,
    help="Dativo's own targets: Airbyte's SPEC (default) or Singer's --about.",
)
@grant_flags
def spec(plugin: str, to: Dialect | None, granted: GrantFlags) -> None:
    """Print what PLUGIN says of itself: Airbyte's SPEC, or the --about of a tap or target."""
    from dativo.kernel import api, registry

    if (own := _OWN.get(plugin)) is not None:
        show.data(_own_spec(own, to or "airbyte"))
        return
    with _site(granted) as site:
        found = registry.find_plugin(plugin, Path.cwd(), site.paths)
        if to not in (None, found.dialect):
            raise ConfigError(
                f"{plugin} speaks {found.dialect.capitalize()}; its settings are not translated"
            )
        text = api.spec(site, plugin, Path.cwd(), granted)
    show.data(show.document(text))


def _own_spec(target: Target, to: Dialect) -> str:
    from dativo.kernel import standalone_airbyte, standalone_singer
    from dativo.protocol import jsontext

    if to == "singer":
        return standalone_singer.about(target, "json")
    return jsontext.members(standalone_airbyte.spec(target), "SPEC")["spec"]


@click.command()
@click.argument("plugin", metavar="PLUGIN|JOB")
@_config
@grant_flags
def check(plugin: str, config: Path | None, granted: GrantFlags) -> int:
    """Ask whether a configuration works: that of PLUGIN in --config, or that of JOB's source."""
    with _site(granted) as site:
        status = _check(site, plugin, config, granted)
    answer = "SUCCEEDED" if status.succeeded else "FAILED"
    show.data(json.dumps({"status": answer, "message": status.message}))
    return ExitStatus.DONE if status.succeeded else ExitStatus.CONFIGURATION


def _check(site: Site, plugin: str, config: Path | None, granted: GrantFlags) -> ConnectionStatus:
    from dataclasses import replace

    from dativo.kernel import api

    if _is_job(plugin, config):
        status, redact = api.check(site, Path(plugin))
        return replace(status, message=redact(status.message))
    if (own := _OWN.get(plugin)) is not None:
        return _own_check(site, own, config)
    return api.check_plugin(site, plugin, config, Path.cwd(), granted)


def _own_check(site: Site, target: Target, config: Path | None) -> ConnectionStatus:
    """Try one of dativo's own targets. A configuration that cannot be read is an error, one that does not work an answer."""
    from dativo.kernel import standalone_check, target_config
    from dativo.protocol.airbyte import ConnectionStatus
    from dativo.protocol.errors import Conflict, NotPermitted

    if config is None:
        raise ConfigError(f"the target {target} needs a configuration", hint="--config FILE")
    said = target_config.load(str(config), target, Path.cwd())
    try:
        standalone_check.check(said, site)
    except (ConfigError, NotPermitted, TargetFailed, Conflict) as error:
        return ConnectionStatus(False, str(error))
    return ConnectionStatus(True, "")


@click.command()
@click.argument("plugin", metavar="PLUGIN|JOB")
@_config
@click.option("--as", "to", type=_dialect, help="The catalogue file's dialect; the plugin's own.")
@grant_flags
def discover(plugin: str, config: Path | None, to: Dialect | None, granted: GrantFlags) -> None:
    """Print the catalogue of PLUGIN, or of JOB's source, asked anew."""
    from dativo.kernel import api
    from dativo.protocol.translate import catalog_file

    with _site(granted) as site:
        if _is_job(plugin, config):
            catalog = api.discover(site, Path(plugin))
        else:
            catalog = api.discover_plugin(site, plugin, config, Path.cwd(), granted)
    show.data(show.document(catalog_file(catalog, to or catalog.dialect)))


@click.command()
@click.argument("plugin")
@_config
@click.option("--as", "to", type=_dialect, help="The dialect of stdout; the plugin's own.")
@click.option(
    "--catalog", type=_path, metavar="FILE", help="What to read: a catalogue of either dialect."
)
@click.option(
    "--state", type=_path, metavar="FILE", help="Where to go on: a state of either dialect."
)
@click.option(
    "--select",
    "rules",
    multiple=True,
    metavar="RULE",
    help="stream, stream.field, !stream.field. Repeatable.",
)
@click.option(
    "--limit", type=click.IntRange(1, 2**53), metavar="N", help="At most N records of each stream."
)
@click.option("--full-refresh", is_flag=True, help="Read everything, from no state.")
@click.option(
    "--refresh-catalog", is_flag=True, help="Discover again instead of using the known catalogue."
)
@click.option(
    "--strict", is_flag=True, help="Refuse what is tolerated otherwise: blank lines, text, NaN."
)
@click.option("--quiet", is_flag=True, help="No log lines of the source.")
@grant_flags
def read(
    plugin: str,
    config: Path | None,
    to: Dialect | None,
    catalog: Path | None,
    state: Path | None,
    rules: tuple[str, ...],
    limit: int | None,
    full_refresh: bool,
    refresh_catalog: bool,
    strict: bool,
    quiet: bool,
    granted: GrantFlags,
) -> int:
    """Read PLUGIN, confined, onto stdout: as a Singer tap or an Airbyte source writes it.

    A read that fails ends inside a line.
    """
    from dativo.kernel import api
    from dativo.kernel.read import Wanted
    from dativo.kernel.screen import Screen

    if full_refresh and state is not None:
        raise click.UsageError("--full-refresh starts from no state: leave --state out")
    with _site(granted) as site:
        wanted = Wanted(
            to=to,
            catalog=catalog,
            state=state,
            rules=rules,
            max_records=limit,
            full_refresh=full_refresh,
            refresh_catalog=refresh_catalog,
            strict=strict,
        )
        plan = api.plan_read(site, plugin, config, wanted, Path.cwd(), granted)
        screen = Screen(plan.source.redactor.redact, terminal=False, quiet=quiet)
        try:
            api.read(site, plan, api.Observer(on_message=screen.message))
        except TargetFailed as error:
            if error.message.startswith("target.closed"):
                show.note(f"dativo: {show.foreign(error.message)}")
                return error.status
            raise
    return ExitStatus.DONE
