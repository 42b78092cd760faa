"""Overwriting: which streams of a run fill a hidden generation, and which states wait with it.

A generation survives runs. It goes on as long as the same number is asked for and a pending state says how far it is; a newer
number, or rows that no state speaks for, begin it anew. A state of an overwritten stream, or of the whole source when any
stream overwrites, is pending until the swap (docs/spec/commit.md, Overwrite).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dativo.plugins.commit.faults import conflict_fault
from dativo.plugins.commit.identifiers import REJECTS
from dativo.plugins.commit.messages import Open
from dativo.plugins.commit.target import Generation, Head
from dativo.protocol.state import StateEntry, Stream, merge


class Overwrites:
    """What one run overwrites. Raises ``conflict.generation`` for a number that was overtaken."""

    def __init__(self, request: Open, head: Head) -> None:
        self._everything = request.mode == "overwrite"
        self._kept = {generation.stream: generation for generation in head.generations}
        self._requested = request.overwrites
        self._next = self._next_number()
        for stream, number in self._requested.items():
            if number is not None:
                self._check(stream, number)
        pending = [kept.stream for kept in self._kept.values() if kept.pending is not None]
        states = {state.stream for state in head.pending}
        newer = {stream for stream in pending if self._is_newer(stream)}
        uncovered = {stream for stream in pending if not {stream, None} & states}
        self._ended = frozenset(newer | {stream for stream in uncovered if self.includes(stream)})
        self._pending = tuple(
            state
            for state in head.pending
            if (not newer if state.stream is None else state.stream not in self._ended)
        )

    @property
    def any(self) -> bool:
        """Whether the run overwrites at all."""
        return self._everything or bool(self._requested)

    @property
    def ended(self) -> frozenset[Stream]:
        """The streams whose pending generation of earlier runs is given up."""
        return self._ended

    @property
    def pending(self) -> tuple[StateEntry, ...]:
        """The pending states of earlier runs that still count."""
        return self._pending

    def includes(self, stream: Stream | None) -> bool:
        """Tell whether ``stream`` overwrites; None stands for the whole source. Rejects always append."""
        if stream == REJECTS:
            return False
        return self.any if stream is None else self._everything or stream in self._requested

    def number(self, stream: Stream) -> int | None:
        """Return the generation that the stream's rows belong to, None for a stream that appends."""
        if stream == REJECTS:
            return None
        if self._everything:
            return self._next
        asked = self._requested.get(stream)
        if asked is not None or stream not in self._requested:
            return asked
        kept = self._kept.get(stream)
        pending = kept.pending if kept else None
        return self._published(stream) + 1 if pending is None else pending

    def add(
        self, head: Head, newer: Iterable[StateEntry]
    ) -> tuple[tuple[StateEntry, ...], tuple[StateEntry, ...]]:
        """Return published and pending states after ``newer`` came."""
        states, pending = head.states, head.pending
        for state in newer:
            if self.includes(state.stream):
                pending = merge(pending, [state])
            else:
                states = merge(states, [state])
        return states, pending

    def swapped(
        self, states: Sequence[StateEntry], pending: Sequence[StateEntry]
    ) -> tuple[tuple[StateEntry, ...], tuple[StateEntry, ...]]:
        """Return published and pending states after a swap. The first is also what a source goes on from before it."""
        if not self.any:
            return tuple(states), tuple(pending)
        appended = [state for state in states if not self.includes(state.stream)]
        published = [state for state in pending if self.includes(state.stream)]
        rest = [state for state in pending if not self.includes(state.stream)]
        return merge(appended, published), tuple(rest)

    def filled(self, stream: Stream) -> Generation:
        """Return the stream's generation while it is being filled."""
        return Generation(stream, self._published(stream), self.number(stream))

    def published(self, stream: Stream) -> Generation:
        """Return the stream's generation once it is swapped in."""
        return Generation(stream, self.number(stream) or 0, None)

    def given_up(self, stream: Stream) -> Generation:
        """Return the stream's generation once the pending one is dropped."""
        return Generation(stream, self._published(stream), None)

    def streams(self, planned: Iterable[Stream]) -> frozenset[Stream]:
        """Return the streams that a swap replaces: in mode overwrite those that the source declared in this run."""
        return frozenset(planned) - {REJECTS} if self._everything else frozenset(self._requested)

    def left_over(self, swapped: frozenset[Stream]) -> frozenset[Stream]:
        """Return the streams whose pending generation ends with a swap that it is not part of."""
        if not self._everything:
            return frozenset()
        pending = (kept.stream for kept in self._kept.values() if kept.pending is not None)
        return frozenset(pending) - swapped

    def _published(self, stream: Stream) -> int:
        kept = self._kept.get(stream)
        return kept.published if kept else 0

    def _next_number(self) -> int:
        # One number for the whole pipeline: its streams are filled and swapped together.
        published = max((kept.published for kept in self._kept.values()), default=0)
        pending = max((kept.pending or 0 for kept in self._kept.values()), default=0)
        return pending if pending > published else published + 1

    def _is_newer(self, stream: Stream) -> bool:
        number, pending = self.number(stream), self._kept[stream].pending
        return number is not None and pending is not None and number > pending

    def _check(self, stream: Stream, number: int) -> None:
        kept = self._kept.get(stream)
        newest = max(kept.published, kept.pending or 0) if kept else 0
        if number < newest:
            raise conflict_fault(
                "generation",
                f"stream {stream} is at generation {newest} already",
                value=f"generation {number} was asked for",
                hint="Generations only grow: a newer refresh of the stream has begun or is done.",
            )
