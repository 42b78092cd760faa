"""The source of a run, as it is started: from the states that are durable."""

from __future__ import annotations

from dativo.kernel import verbs, walls
from dativo.kernel.plan import Plan
from dativo.kernel.processes import Processes, own_identity
from dativo.protocol import state
from dativo.protocol.catalog import configured_airbyte, configured_singer
from dativo.protocol.errors import PluginFailed
from dativo.protocol.state import StateEntry
from dativo.sandbox import Confined


def start_source(
    plan: Plan, processes: Processes, states: tuple[StateEntry, ...], *, stdout: int
) -> Confined:
    """Start the plan's source, which goes on from ``states``. Raises PluginFailed, and the sandbox's errors."""
    source = plan.source
    if source.plugin.dialect == "airbyte":
        catalog = configured_airbyte(plan.selected)
        state_file = state.airbyte_state_file(states) if states else None
    else:
        catalog = configured_singer(plan.discovered, plan.selected)
        state_file = state.singer_state_file(states) if states else None
    documents = verbs.Documents(source.documents.config, catalog, state_file)
    with walls.starting(source.plugin.reference, PluginFailed):
        return processes.start(
            verbs.program(source.plugin, "read", documents, name="source"),
            source.walled(),
            processes.stack.enter_context(own_identity()),
            stdout=stdout,
        )
