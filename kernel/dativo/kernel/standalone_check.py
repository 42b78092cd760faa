"""Airbyte's ``check`` of a standalone target: the confined committer makes, locks and opens the warehouse, and lets it go."""

from __future__ import annotations

import contextlib

from dativo.kernel import registry, standalone_run, walls, warehouse
from dativo.kernel.landing import committer, open_committer
from dativo.kernel.limits import HELLO_TIMEOUT_S
from dativo.kernel.plan import Site
from dativo.kernel.processes import Processes
from dativo.kernel.run import new_run_id
from dativo.kernel.target_config import TargetConfig
from dativo.protocol import control, events, handshake
from dativo.protocol.errors import (
    ProtocolViolation,
    TargetFailed,
    Where,
    error_for_code,
)


def check(config: TargetConfig, site: Site) -> None:
    """Try the target; an empty warehouse is left behind where there was none. Blocks for a second or so.

    Raises what a run would fail with: ConfigError, NotPermitted, Conflict, TargetFailed, or the sandbox's errors.
    """
    plugin = standalone_run.permit(site, config)
    target = standalone_run.target(plugin, config)
    registry.executable("dativo-writer", site.env)
    run_id = new_run_id()
    with contextlib.ExitStack() as stack:
        stack.enter_context(standalone_run.lock(site, config))
        owner, created = warehouse.prepare(config.warehouse)
        if created:
            stack.callback(warehouse.remove_unused, config.warehouse)
        staging = warehouse.make_staging(config.warehouse, run_id, writer=owner, committer=owner)
        stack.callback(staging.remove)
        processes = Processes(stack, site.walls, run_id, site.env)
        with walls.starting(plugin.reference, TargetFailed):
            _, ours = processes.start_tool(*committer(target), owner)
        ours.settimeout(HELLO_TIMEOUT_S)
        channel = control.Channel(ours)
        stack.callback(channel.close)
        _open_and_close(channel, open_committer(target, run_id, staging.path), plugin.reference)


def _open_and_close(channel: control.Channel, opening: dict[str, object], target: str) -> None:
    program = f"dativo-{target}"
    where = Where(plugin=program)
    try:
        while (event := channel.receive()) is not None:
            message = events.parse(event)
            match message:
                case events.Hello():
                    handshake.agree(message, program=program)
                    channel.send(opening)
                case events.Opened():
                    channel.send({"type": "close"})
                case events.Closed():
                    return
                case events.Failure():
                    raise error_for_code(message.code)(
                        f"{message.code}: {message.message}", where, hint=message.hint
                    )
                case _:
                    raise ProtocolViolation(f"{program} may not send {event['type']}", where)
    except TimeoutError as error:
        raise TargetFailed(
            f"{program} did not answer within {HELLO_TIMEOUT_S:.0f} s", where
        ) from error
    raise TargetFailed(f"{program} ended without an answer", where)
