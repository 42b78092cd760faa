"""What an epoch does to each table: pure bookkeeping over files, the same for every target."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from dativo.plugins.commit.target import Intent, PlacedFile
from dativo.protocol.state import Stream

Files = tuple[PlacedFile, ...]


@dataclass(frozen=True, slots=True)
class TableChange:
    """One stream's part of an epoch.

    ``arrived``: the files that the epoch placed. Each is one of ``added`` (readers see it from now on), ``hidden`` (it waits in
    the pending generation) or ``discarded`` (nobody will ever see it). So are the hidden files of earlier epochs that the
    epoch speaks of. ``kept``: the live files that stay; None for all of them.
    """

    stream: Stream
    arrived: Files = ()
    added: Files = ()
    hidden: Files = ()
    discarded: Files = ()
    kept: Files | None = None

    @property
    def is_visible(self) -> bool:
        """Whether readers are to see a difference."""
        return bool(self.added) or self.kept is not None


class Holdings:
    """The files that a later epoch may speak of: all that are hidden, and the live ones as far as the target tells."""

    def __init__(self, hidden: Iterable[PlacedFile], live: Iterable[PlacedFile]) -> None:
        self._hidden = _by_stream(hidden)
        self._live = _by_stream(live)

    def changes(self, intent: Intent) -> list[TableChange]:
        """Return what ``intent`` does, stream by stream."""
        arrived = intent.by_stream()
        streams = dict.fromkeys((*arrived, *sorted(intent.dropped | intent.swaps)))
        streams |= dict.fromkeys(sorted(intent.activations))
        return [self._change(stream, arrived.get(stream, ()), intent) for stream in streams]

    def live(self, stream: Stream) -> Files:
        """Return the live files of ``stream``."""
        return self._live.get(stream, ())

    def apply(self, changes: Iterable[TableChange]) -> None:
        """Take over what a committed epoch did."""
        for change in changes:
            stream = change.stream
            gone = {file.path for file in (*change.added, *change.discarded)}
            hidden = [file for file in self._hidden.get(stream, ()) if file.path not in gone]
            self._hidden[stream] = (*hidden, *change.hidden)
            kept = self.live(stream) if change.kept is None else change.kept
            # Readers have been told what they hold; nobody asks again.
            self._live[stream] = (*kept, *(replace(file, metrics=()) for file in change.added))

    def _change(self, stream: Stream, arrived: Files, intent: Intent) -> TableChange:
        hidden: Files = self._hidden.get(stream, ())
        discarded: Files = ()
        if stream in intent.dropped:
            hidden, discarded = (), hidden
        kept: Files | None = None
        if stream in intent.swaps:
            added = tuple(replace(file, generation=None) for file in (*hidden, *arrived))
            kept = ()
        elif arrived and arrived[0].generation is not None:
            return TableChange(stream, arrived, hidden=arrived, discarded=discarded)
        else:
            added = arrived
        version = intent.activations.get(stream)
        if version is not None:
            if kept is None:
                kept = tuple(file for file in self.live(stream) if file.version == version)
            discarded += tuple(file for file in added if file.version != version)
            added = tuple(file for file in added if file.version == version)
        return TableChange(stream, arrived, added=added, discarded=discarded, kept=kept)


def _by_stream(files: Iterable[PlacedFile]) -> dict[Stream, Files]:
    grouped: dict[Stream, list[PlacedFile]] = {}
    for file in files:
        grouped.setdefault(file.stream, []).append(file)
    return {stream: tuple(files) for stream, files in grouped.items()}
