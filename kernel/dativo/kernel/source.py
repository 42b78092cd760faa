"""A source as it is started to read: its documents, from the states that it goes on from, and its process."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from dativo.kernel import verbs, walls
from dativo.kernel.exchange import INSIDE, ExchangeFolder, variables
from dativo.kernel.plan import Source
from dativo.kernel.processes import Processes, own_identity
from dativo.protocol import state
from dativo.protocol.catalog import Catalog, configured_airbyte, configured_singer
from dativo.protocol.errors import PluginFailed
from dativo.protocol.state import StateEntry
from dativo.sandbox import Confined, Identity

BATCHES: Final = ("DATIVO_BATCHES", "arrow-ipc")
"""Tells a source that its reader takes batches (docs/spec/batch.md)."""


def read_documents(
    source: Source,
    discovered: Catalog,
    selected: Catalog,
    states: tuple[StateEntry, ...],
    *,
    full_refresh: bool = False,
    files: bool = False,
) -> verbs.Documents:
    """Return what a source is handed to read ``selected`` from ``states``, in its own dialect; ``files``: and their files."""
    if source.plugin.dialect == "airbyte":
        catalog = configured_airbyte(selected, full_refresh=full_refresh, files=files)
        state_file = state.airbyte_state_file(states) if states else None
    else:
        catalog = configured_singer(discovered, selected, full_refresh=full_refresh)
        state_file = state.singer_state_file(states) if states else None
    return verbs.Documents(source.documents.config, catalog, state_file)


def start_source(
    source: Source,
    documents: verbs.Documents,
    processes: Processes,
    *,
    stdout: int,
    identity: Identity | None = None,
    exchange: ExchangeFolder | None = None,
    batches: bool = False,
) -> Confined:
    """Start a source that writes into ``stdout``, and files into ``exchange``. Raises PluginFailed, and the sandbox's errors.

    ``identity`` is who it becomes as root; by default somebody of its own. ``batches``: its reader takes them.
    """
    grants = source.walled()
    if batches and source.plugin.batches:
        grants = replace(grants, environment=(*grants.environment, BATCHES))
    if exchange is not None:
        grants = replace(
            grants,
            exchange=((exchange.path, INSIDE),),
            environment=(
                *grants.environment,
                *variables(source.plugin.dialect, exchange.max_bytes),
            ),
        )
    with walls.starting(source.plugin.reference, PluginFailed):
        return processes.start(
            verbs.program(source.plugin, "read", documents, name="source"),
            grants,
            identity or processes.stack.enter_context(own_identity()),
            stdout=stdout,
        )
