"""``dativo read``: a source, confined, onto our stdout, in either dialect.

    source ──stdout──▶ relay ──▶ stdout

What is read is the operator's word: plugin, configuration, catalogue, state, rules and grants come from the command line. Every
byte on stdout comes from the relay. A read that fails ends it inside a line, so that no reader takes what it got for the whole.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from dativo.kernel import configuration, named, refusals, registry, show, verbs
from dativo.kernel.broker import Networks
from dativo.kernel.conversation import Observer
from dativo.kernel.grants import Grants
from dativo.kernel.limits import ABORT_TIMEOUT_S, ReadLimits
from dativo.kernel.passage import Passage, passed_streams
from dativo.kernel.passing import Passing
from dativo.kernel.peer import Peer
from dativo.kernel.plan import Site, Source
from dativo.kernel.processes import Processes, own_identity, pipe
from dativo.kernel.pump import Pair, Pump, start_pump
from dativo.kernel.record import attempt
from dativo.kernel.running import under_orders
from dativo.kernel.source import read_documents, start_source
from dativo.kernel.standing import standing
from dativo.protocol import catalogfile, events, statefile
from dativo.protocol.catalog import (
    Catalog,
    Dialect,
    select,
)
from dativo.protocol.catalogfile import Chosen
from dativo.protocol.errors import (
    Blame,
    ConfigError,
    DativoError,
    InternalError,
    TargetFailed,
    Where,
)
from dativo.protocol.state import StateEntry
from dativo.sandbox import Confined

STDOUT: Final = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command line asks for. ``to`` None is the plugin's own dialect; ``max_records`` is per stream."""

    to: Dialect | None = None
    catalog: Path | None = None
    state: Path | None = None
    rules: tuple[str, ...] = ()
    max_records: int | None = None
    full_refresh: bool = False
    refresh_catalog: bool = False
    strict: bool = False
    limits: ReadLimits = field(default_factory=ReadLimits)


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """One read before it starts. ``documents`` hold secrets."""

    source: Source
    documents: verbs.Documents = field(repr=False)
    passage: Passage

    def document(self) -> dict[str, object]:
        """Return the plan as plain JSON values for the audit; no secret is part of it."""
        plugin = self.source.plugin
        return {
            "connector": plugin.reference,
            "version": plugin.version,
            "digest": plugin.digest,
            "dialect": plugin.dialect,
            "as": self.passage.to,
            "grants": self.source.grants.document(),
            "streams": [
                {"stream": str(entry.stream), "left_out": list(entry.drop)}
                for entry in self.passage.streams
            ],
        }


def make_plan(
    site: Site,
    reference: str,
    config: configuration.Configuration,
    granted: Grants,
    wanted: Wanted,
    *,
    workspace: Path,
    run_id: str,
) -> ReadPlan:
    """Return the plan of a read. Starts the connector only for a SPEC or CATALOG that is not known yet. Raises ConfigError."""
    plugin = registry.find_source(reference, workspace, site.paths)
    with own_identity() as identity:
        source = named.prepare(site, plugin, config, granted, identity=identity, run=run_id)

        def discover() -> Catalog:
            return named.discover(
                site, source, identity=identity, run=run_id, fresh=wanted.refresh_catalog
            )

        with source.redactor.errors():
            chosen = _chosen(plugin.dialect, wanted, discover)
            states = _states(plugin.dialect, wanted)
            to = wanted.to or plugin.dialect
            with named.plugins_word(source):
                streams = tuple(passed_streams(chosen.discovered, chosen.selected, to))
            passage = Passage(
                dialect=plugin.dialect,
                to=to,
                streams=streams,
                limits=wanted.limits,
                strict=wanted.strict,
                statuses=to == "airbyte",
                max_records=wanted.max_records,
                initial=states,
                max_output_bytes=granted.output_bytes,
            )
            documents = read_documents(
                source,
                chosen.discovered,
                chosen.selected,
                states,
                full_refresh=wanted.full_refresh,
            )
    return ReadPlan(source, documents, passage)


def _chosen(dialect: Dialect, wanted: Wanted, discover: Callable[[], Catalog]) -> Chosen:
    if wanted.catalog is None:
        discovered = discover()
        chosen = Chosen(discovered, discovered)
    else:
        with named.users_file(wanted.catalog):
            text = configuration.document_of_user(wanted.catalog, "catalogue")
            chosen = catalogfile.choose(text, dialect, discover)
    return replace(chosen, selected=select(chosen.selected, wanted.rules))


def _states(dialect: Dialect, wanted: Wanted) -> tuple[StateEntry, ...]:
    if wanted.state is None:
        return ()
    if wanted.full_refresh:
        raise ConfigError("a full refresh starts from no state", Where(file=str(wanted.state)))
    with named.users_file(wanted.state):
        return statefile.load(configuration.document_of_user(wanted.state, "state"), dialect)


def read(plan: ReadPlan, site: Site, run_id: str, observer: Observer) -> None:
    """Carry out ``plan``: records on our stdout. Blocks until the source has ended and its reader has taken all.

    Raises the read's failure after everything that it started is gone; TargetFailed when the reader of stdout has gone away.
    """
    networks = site.networks({"source": plan.source.grants.network}, run_id)
    started: list[Confined] = []
    site.audit.write("read_started", run=run_id, plan=plan.document())
    error: DativoError | None = InternalError("the read was left by an unexpected exception")
    try:
        error = attempt(
            site,
            lambda: _carry(plan, site, run_id, observer, networks, started),
            plan.source.redactor,
        )
    finally:
        site.audit.write(
            "read_ended",
            run=run_id,
            status=int(error.status) if error is not None else 0,
            error=error.message if error is not None else None,
            processes=standing(started, networks.record),
        )
    if error is not None:
        raise error


def _carry(
    plan: ReadPlan,
    site: Site,
    run_id: str,
    observer: Observer,
    networks: Networks,
    started: list[Confined],
) -> None:
    """``started`` is filled with each process."""
    source = plan.source
    with contextlib.ExitStack() as stack:
        processes = Processes(stack, site.walls, run_id, site.env, started)
        reading = stack.enter_context(
            _Reading(idle_time_s=source.grants.idle_time_s, observer=observer)
        )
        stack.enter_context(
            under_orders(site, reading, run_id, "read", "read", Path.cwd(), (source.plugin,))
        )
        reading.serve(processes, networks, "--net")
        with pipe() as (read_end, write_end):
            with reading.stdout(processes) as stdout:
                reading.start(processes, plan.passage, stdin=read_end, stdout=stdout)
            under_way = start_source(source, plan.documents, processes, stdout=write_end)
        reading.carry(under_way)
    # One that failed has it in its hint.
    refusals.tell("dativo read", networks.record, source.redactor.redact)


class _Reading(Passing):
    """A relay onto our stdout: a pipe is handed to it, anything else is kept behind a pump."""

    _pump: Pump | None = None
    _pumped = False

    @contextlib.contextmanager
    def stdout(self, processes: Processes) -> Iterator[int]:
        """Give what the relay may write to; held here until it has been handed over."""
        if stat.S_ISFIFO(os.fstat(STDOUT).st_mode):
            yield STDOUT
            return
        with pipe() as (read_end, write_end):
            pump = start_pump(processes, self._selector)
            self._pump = pump
            self.add_pump(pump, self._take_pumped)
            pump.open([Pair("stdout", read_end, STDOUT, escape=os.isatty(STDOUT))])
            yield write_end

    @property
    def is_done(self) -> bool:
        """Whether our stdout has taken everything."""
        return super().is_done and (self._pump is None or self._pumped)

    @property
    def patience_s(self) -> float:
        """A reader that took whole lines alone must see half a one, however slow it is: see ``Left`` of the relay."""
        return math.inf

    def _take_pumped(self, message: events.Pumped) -> None:
        self._pumped = True
        if message.end == "error":
            reason = show.foreign(message.message or "")
            self.fail(TargetFailed(f"cannot write to stdout: {reason}", blame=Blame.MACHINE))

    def take_failure(self, peer: Peer, said: events.Failure) -> None:
        """A relay whose reader is gone does not know why; the pump has told before it left."""
        if self._pump is not None and said.code == "target.closed":
            self._take(self._pump, self._pump.drain())
        super().take_failure(peer, said)

    def close(self) -> None:
        """Let the pump hand on what is under way."""
        super().close()
        if self._pump is not None:
            self.until(self._pump.has_ended, ABORT_TIMEOUT_S)
