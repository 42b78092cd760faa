"""What a command line does with a plugin that it names and with its own streams: verbs, ``read``, ``write``, ``jail``.

Configurations come from files. What a plugin may do is said by GrantFlags: the caller's own word, so that nothing is asked for;
ceilings and blocks of the policy hold all the same. Part of ``dativo.kernel.api``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dativo.kernel import configuration, named, registry
from dativo.kernel.conversation import Observer
from dativo.kernel.flags import GrantFlags, read_limits
from dativo.kernel.plan import Site, Source
from dativo.kernel.processes import own_identity
from dativo.kernel.run import new_run_id
from dativo.protocol.airbyte import ConnectionStatus
from dativo.protocol.catalog import Catalog
from dativo.sandbox import Identity, SandboxError

if TYPE_CHECKING:
    from dativo.kernel.grants import Grants
    from dativo.kernel.jail import Jail
    from dativo.kernel.read import ReadPlan
    from dativo.kernel.read import Wanted as Reading
    from dativo.kernel.report import Report
    from dativo.kernel.write import Wanted as Writing
    from dativo.kernel.write import WritePlan

# --- verbs -----------------------------------------------------------------------------------------------------------------


def spec(site: Site, reference: str, workspace: Path, granted: GrantFlags | None = None) -> str:
    """Return what an installed plugin says of itself: an Airbyte SPEC, or what a tap or target says with ``--about``."""
    plugin = registry.find_plugin(reference, workspace, site.paths)
    given = (granted or GrantFlags()).grants(site.policy)
    with own_identity() as identity:
        return named.spec(site, plugin, given, identity=identity, run=new_run_id())


@contextmanager
def _prepared(
    site: Site, reference: str, config: Path | None, workspace: Path, granted: GrantFlags | None
) -> Iterator[tuple[Source, Identity | None, str]]:
    """Give the plugin as it may be started, who it becomes, and the id of what happens."""
    run_id = new_run_id()
    plugin = registry.find_plugin(reference, workspace, site.paths)
    written, given = _said(site, config, granted)
    with own_identity() as identity:
        source = named.prepare(site, plugin, written, given, identity=identity, run=run_id)
        yield source, identity, run_id


def _said(
    site: Site, config: Path | None, granted: GrantFlags | None
) -> tuple[configuration.Configuration, Grants]:
    written = configuration.load(config)
    secrets = tuple(map(str, written.references))
    return written, (granted or GrantFlags()).grants(site.policy, secrets)


def check_plugin(
    site: Site,
    reference: str,
    config: Path | None,
    workspace: Path,
    granted: GrantFlags | None = None,
) -> ConnectionStatus:
    """Ask a plugin whether the configuration in a file works; the message is redacted."""
    with _prepared(site, reference, config, workspace, granted) as (source, identity, run_id):
        return named.check(site, source, identity=identity, run=run_id)


def discover_plugin(
    site: Site,
    reference: str,
    config: Path | None,
    workspace: Path,
    granted: GrantFlags | None = None,
) -> Catalog:
    """Return the catalogue of a source with the configuration in a file, asked anew."""
    with _prepared(site, reference, config, workspace, granted) as (source, identity, run_id):
        return named.discover(site, source, identity=identity, run=run_id, fresh=True)


# --- pipes -----------------------------------------------------------------------------------------------------------------


def plan_read(
    site: Site,
    reference: str,
    config: Path | None,
    wanted: Reading,
    workspace: Path,
    granted: GrantFlags | None = None,
) -> ReadPlan:
    """Return the plan of a read of a source. Starts it only for a SPEC or CATALOG that is not known yet. Raises ConfigError."""
    from dativo.kernel.read import make_plan as make_read_plan

    written, given = _said(site, config, granted)
    wanted = replace(wanted, limits=read_limits(site.policy))
    return make_read_plan(
        site, reference, written, given, wanted, workspace=workspace, run_id=new_run_id()
    )


def read(site: Site, plan: ReadPlan, observer: Observer | None = None) -> None:
    """Read onto stdout, as a tap or an Airbyte source writes it; blocks until the source has ended.

    Raises the read's failure; stdout then ends inside a line.
    """
    from dativo.kernel.read import read as carry_out

    carry_out(plan, site, new_run_id(), observer or Observer())


@contextmanager
def planned_write(
    site: Site,
    reference: str,
    config: Path | None,
    wanted: Writing,
    workspace: Path,
    granted: GrantFlags | None = None,
) -> Iterator[WritePlan]:
    """Give the plan of a write into a foreign target; while it lasts, who the target becomes is nobody else's."""
    from dativo.kernel.write import planned

    written, given = _said(site, config, granted)
    wanted = replace(wanted, limits=read_limits(site.policy))
    with planned(
        site, reference, written, given, wanted, workspace=workspace, run_id=new_run_id()
    ) as plan:
        yield plan


def write(site: Site, plan: WritePlan, observer: Observer | None = None) -> Report:
    """Write stdin into the target and the states that it acknowledges to stdout; blocks until it ends. Raises RunFailed."""
    from dativo.kernel.write import write as carry_out

    return carry_out(plan, site, new_run_id(), observer or Observer())


def jail(asked: Jail, env: Mapping[str, str]) -> int:
    """Run a command behind walls and return the status to exit with; takes over stdin, stdout, stderr and the signals.

    Needs no site. Raises JailFailed for a failure of the jail's own, WallMissing where a wall cannot be built.
    """
    from dativo.kernel import jail as jails
    from dativo.kernel import walls
    from dativo.kernel.paths import Paths

    try:
        return jails.run(asked, env)
    except SandboxError as error:
        raise walls.missing(error, Paths.from_environment(env).policy) from error
