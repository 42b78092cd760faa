"""Airbyte's ``check`` of a standalone target: the confined committer makes, locks and opens the warehouse, and lets it go."""

from __future__ import annotations

import contextlib

from dativo.kernel import registry, standalone_run, warehouse
from dativo.kernel.committer import try_out
from dativo.kernel.plan import Site
from dativo.kernel.processes import Processes
from dativo.kernel.run import new_run_id
from dativo.kernel.target_config import TargetConfig


def check(config: TargetConfig, site: Site) -> None:
    """Try the target; an empty warehouse is left behind where there was none. Blocks for a second or so.

    Raises what a run would fail with: ConfigError, NotPermitted, Conflict, TargetFailed, or the sandbox's errors.
    """
    plugin = standalone_run.permit(site, config)
    target = standalone_run.target(plugin, config)
    for program in ("dativo-writer", "dativo-inspector"):
        registry.executable(program, site.env)
    run_id = new_run_id()
    with contextlib.ExitStack() as stack:
        stack.enter_context(standalone_run.lock(site, config))
        owner, created = warehouse.prepare(config.warehouse)
        if created:
            stack.callback(warehouse.remove_unused, config.warehouse)
        staging = warehouse.make_staging(config.warehouse, run_id, writer=owner, committer=owner)
        stack.callback(staging.remove)
        processes = Processes(stack, site.walls, run_id, site.env)
        try_out(processes, target, owner, staging.path)
