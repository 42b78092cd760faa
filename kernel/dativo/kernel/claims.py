"""What a writer may claim of what it reads.

The writer alone sees the records, so most of what it says has to be taken: rows and states may be its own inventions. What is
held against it here is what the kernel knows by itself: the streams of the run, the dialect, how the run stands. The committer
proves the files (docs/spec/commit.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from dativo.kernel import show
from dativo.kernel.contracts import REJECTS, Contracts
from dativo.protocol import events
from dativo.protocol.catalog import Dialect
from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.state import StateEntry, Stream

INPUT: Final = "0"


class Claims:
    """The claims of one writer, in their order. Raises ProtocolViolation on the first that cannot be so.

    ``declare``: streams may declare themselves, at most ``max_streams``. ``contracts`` say what may be rejected.
    """

    def __init__(
        self,
        dialect: Dialect,
        streams: Iterable[Stream],
        *,
        declare: bool,
        max_streams: int,
        max_state_bytes: int,
        contracts: Contracts | None = None,
    ) -> None:
        self._dialect = dialect
        self._streams = set(streams)
        self._declare = declare
        self._max_streams = max_streams
        self._max_state_bytes = max_state_bytes
        self._contracts = contracts if contracts is not None else Contracts()
        # Of all sealed epochs: records read, and rows of the table of rejects, by the stream that they are of.
        self._read: Counter[Stream] = Counter()
        self._rejects: Counter[Stream] = Counter()
        self._sequence = 0
        self._ended = False

    def take_schema(self, message: events.StreamSchema) -> None:
        """Check that a table is asked for where there may be one."""
        self._check_input(message.input)
        if message.stream == REJECTS:
            if not any(self._contracts.of(stream).may_reject for stream in self._streams):
                raise ProtocolViolation("it has rejects, and no contract lets it reject anything")
            return
        if self._declare and len(self._streams) < self._max_streams:
            self._streams.add(message.stream)
        self._check_stream(message.stream)

    def take_sealed(
        self, message: events.Sealed, *, finishing: bool, stats: events.Stats | None = None
    ) -> None:
        """Check an epoch. ``finishing``: the writer was told that its input is done; ``stats``: its last running totals."""
        self._check_input(message.input)
        if self._ended:
            raise ProtocolViolation("an epoch was sealed after its last one")
        if message.final and not finishing:
            raise ProtocolViolation("an epoch was called the last one before the input was done")
        if message.sequence != self._sequence + 1:
            raise ProtocolViolation(f"sealed {message.sequence} follows sealed {self._sequence}")
        self._sequence, self._ended = message.sequence, message.final
        for stream in _streams(message):
            self._check_stream(stream)
        if len({file.path for file in message.files}) != len(message.files):
            raise ProtocolViolation("an epoch names a file twice")
        self._check_rows(message)
        if message.complete and stats is not None:
            self._check_end(stats)
        for state in message.states:
            self._check_state(state)
        for echo in message.echo:
            if "\n" in echo.text:
                raise ProtocolViolation("a state is not one line", value=show.foreign(echo.text))

    def _check_input(self, name: str) -> None:
        if name != INPUT:
            raise ProtocolViolation("it speaks of another input", value=show.foreign(name))

    def _check_stream(self, stream: Stream) -> None:
        if stream not in self._streams:
            raise ProtocolViolation(
                f"it speaks of {show.foreign(str(stream), max_chars=100)}, which was not declared"
            )

    def _check_rows(self, message: events.Sealed) -> None:
        files: Counter[Stream] = Counter()
        for file in message.files:
            files[file.stream] += file.rows
        kept = files.pop(REJECTS, 0)
        rejects = sum(self._take_rejects(count) for count in message.counts)
        if kept != rejects:
            raise ProtocolViolation(f"{rejects} rejects, and {kept} in files")
        for count in message.counts:
            rows = files.pop(count.stream, 0)
            if count.written != rows:
                raise ProtocolViolation(
                    f"{count.written} rows written, or counted twice, and {rows} in files",
                    value=show.foreign(str(count.stream)),
                )
            check_balance(count)
            self._read[count.stream] += count.read
        for stream, rows in files.items():
            if rows:
                raise ProtocolViolation(
                    f"0 rows written and {rows} in files", value=show.foreign(str(stream))
                )

    def _take_rejects(self, count: events.Counts) -> int:
        """Return the rows that the table of rejects has of a stream's epoch, which its contract must allow."""
        contract = self._contracts.of(count.stream)
        rows = count.rejected + count.discarded
        self._rejects[count.stream] += rows
        allowed = contract.max_rejects if contract.may_reject else 0
        if self._rejects[count.stream] > allowed:
            raise ProtocolViolation(
                f"{self._rejects[count.stream]} rejects, and {allowed} may be",
                value=show.foreign(str(count.stream)),
            )
        if count.discarded and contract.values != "discard_value":
            raise ProtocolViolation(
                "values were discarded without their rows", value=show.foreign(str(count.stream))
            )
        return rows

    def _check_end(self, stats: events.Stats) -> None:
        """Check that everything that was read is accounted for."""
        for count in stats.counts:
            if count.read != self._read[count.stream]:
                raise ProtocolViolation(
                    f"{count.read} records read, and {self._read[count.stream]} in all epochs",
                    value=show.foreign(str(count.stream)),
                )

    def _check_state(self, state: StateEntry) -> None:
        if (state.kind == "singer") != (self._dialect == "singer"):
            raise ProtocolViolation(f"a state of kind {state.kind} of a source of {self._dialect}")
        size = len(state.text.encode())
        if size > self._max_state_bytes:
            raise ProtocolViolation(
                f"a state of {size} bytes, the limit is {self._max_state_bytes}"
            )


def check_balance(count: events.Counts) -> None:
    """Raise ProtocolViolation unless every row that was read has gone somewhere."""
    if count.read != count.written + count.rejected + count.filtered:
        raise ProtocolViolation(
            f"{count.read} rows read, {count.written} written, {count.rejected} rejected and {count.filtered} filtered",
            value=show.foreign(str(count.stream)),
        )


def _streams(message: events.Sealed) -> Iterator[Stream]:
    """Yield every stream that an epoch speaks of; only files may be of rejects."""
    yield from (file.stream for file in message.files if file.stream != REJECTS)
    for part in (message.counts, message.activations):
        for each in part:
            yield each.stream
    for state in message.states:
        if state.stream is not None:
            yield state.stream
