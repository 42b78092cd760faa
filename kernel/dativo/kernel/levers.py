"""The operator's levers: end runs, block plugins. Each is in the audit; none needs a policy or a ledger that can be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from dativo.kernel import blocks, running
from dativo.kernel.audit import Audit
from dativo.kernel.blocks import Block
from dativo.kernel.paths import Paths
from dativo.kernel.running import Running
from dativo.protocol.errors import ConfigError

_AT_ONCE = 32


def block(plugin: str, reason: str | None, env: Mapping[str, str]) -> Block:
    """Let ``plugin`` (name, name==version, digest) run no more; returns the entry. Runs under way see it by themselves."""
    paths = Paths.from_environment(env)
    entry = blocks.parse(plugin, reason)
    blocks.keep(entry, paths)
    Audit.below(paths.state).write("plugin_blocked", plugin=str(entry), reason=reason)
    return entry


def unblock(plugin: str, env: Mapping[str, str]) -> Block:
    """Take back what ``block`` said. Raises ConfigError when it was not said."""
    paths = Paths.from_environment(env)
    entry = blocks.parse(plugin, None)
    blocks.lift(entry, paths)
    Audit.below(paths.state).write("plugin_unblocked", plugin=str(entry))
    return entry


def stop(
    run: str | None, plugin: str | None, env: Mapping[str, str], *, grace_s: float
) -> Iterator[tuple[Running, bool]]:
    """End the runs that are meant (all, where neither is given) at once; yields each and whether it had to be killed.

    Blocks up to ``grace_s`` and some seconds. Raises ConfigError when none or several are meant by ``run``, and at the end when
    some could not be ended.
    """
    paths = Paths.from_environment(env)
    audit = Audit.below(paths.state)
    meant = [
        each
        for each in running.listing(paths)
        if (run is None or each.run.startswith(run)) and (plugin is None or each.has(plugin))
    ]
    if run is not None and len(meant) != 1:
        raise ConfigError(
            f"{len(meant) or 'no'} running runs begin with {run!r}", hint="See: dativo runs list"
        )
    if not meant:
        return
    failed: list[ConfigError] = []
    with ThreadPoolExecutor(min(_AT_ONCE, len(meant))) as pool:
        ends = [(each, pool.submit(running.stop, paths, each, grace_s=grace_s)) for each in meant]
        for each, end in ends:
            try:
                killed = end.result()
            except ConfigError as error:
                failed.append(error)
                continue
            audit.write("run_stopped", run=each.run, kind=each.kind, killed=killed)
            yield each, killed
    if failed:
        raise failed[0]
