"""What a run has done so far, in bounded memory however long it runs; becomes the report."""

from __future__ import annotations

from dataclasses import dataclass, field

from dativo.kernel.contracts import REJECTS
from dativo.kernel.limits import MAX_EPOCHS_WAITING
from dativo.protocol import events
from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.state import StateEntry, Stream, merge


@dataclass(slots=True)
class StreamTotals:
    """One stream over all committed epochs of a run: read = written + rejected + filtered; ``discarded`` values became null, and
    ``changed`` ones had been changed by the source."""

    table: str | None = None
    read: int = 0
    written: int = 0
    rejected: int = 0
    filtered: int = 0
    discarded: int = 0
    changed: int = 0
    bytes: int = 0
    files: int = 0
    metadata_location: str | None = None


@dataclass(slots=True)
class Tally:
    """Facts of one run. ``states`` and ``epoch`` are what is committed."""

    opened: events.Opened | None = None
    epoch: int = 0
    states: tuple[StateEntry, ...] = ()
    commits: int = 0
    # States that a foreign target has acknowledged, and what a relay has handed on in all.
    acknowledged: int = 0
    passed: tuple[events.Counts, ...] = ()
    streams: dict[Stream, StreamTotals] = field(default_factory=dict)
    # The table of rejects, once there was one.
    rejects: StreamTotals | None = None
    stats: events.Stats | None = None
    # The connector's own words on why it failed; hostile text.
    last_error: str | None = None
    # CPU of this process when the source's first byte was known to be read.
    first_byte_cpu_s: float | None = None
    # What the reader was told of the end of the input; only then may an epoch say that it is complete.
    complete: bool = False
    _waiting: dict[int, events.Sealed] = field(default_factory=dict)
    final_sealed: bool = False

    def take_opened(self, message: events.Opened) -> None:
        """Start from what the target holds."""
        self.opened = message
        self.epoch = message.epoch
        self.states = message.states

    def take_plan(self, message: events.StreamPlan) -> None:
        """Note the table of a stream."""
        self._totals(message.stream).table = message.table

    def take_sealed(self, message: events.Sealed) -> None:
        """Keep an epoch until it is committed. Raises ProtocolViolation when more wait than may."""
        if len(self._waiting) > MAX_EPOCHS_WAITING or message.sequence in self._waiting:
            raise ProtocolViolation(
                "an epoch was sealed that nobody may send yet", value=str(message.sequence)
            )
        if message.complete and not (self.complete and message.final):
            raise ProtocolViolation("an epoch was called complete that is not")
        self._waiting[message.sequence] = message
        self.final_sealed = self.final_sealed or message.final

    def take_committed(self, message: events.Committed) -> events.Sealed:
        """Add a committed epoch and return it as it was sealed. Raises ProtocolViolation for one that was not sealed."""
        sealed = self._waiting.pop(message.sequence, None)
        if sealed is None:
            raise ProtocolViolation(
                "an epoch was committed that was not sealed", value=str(message.sequence)
            )
        self.epoch = message.epoch
        self.states = merge(self.states, sealed.states)
        self.commits += bool(message.tables)
        for count in sealed.counts:
            totals = self.streams.setdefault(count.stream, StreamTotals())
            totals.read += count.read
            totals.written += count.written
            totals.rejected += count.rejected
            totals.filtered += count.filtered
            totals.discarded += count.discarded
            totals.changed += count.changed
        for table in message.tables:
            totals = self._totals(table.stream)
            totals.written += table.rows if totals is self.rejects else 0
            totals.bytes += table.bytes
            totals.files += table.files
            totals.metadata_location = table.metadata_location or totals.metadata_location
        return sealed

    def _totals(self, stream: Stream) -> StreamTotals:
        if stream != REJECTS:
            return self.streams.setdefault(stream, StreamTotals())
        if self.rejects is None:
            self.rejects = StreamTotals()
        return self.rejects

    def written(self) -> int:
        """Return the rows committed so far."""
        return sum(totals.written for totals in self.streams.values())
