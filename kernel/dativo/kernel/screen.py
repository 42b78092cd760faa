"""What people see on stderr while a run goes on."""

from __future__ import annotations

from collections.abc import Callable

from dativo.kernel import show
from dativo.kernel.tally import Tally
from dativo.protocol.events import SourceMessage


class Screen:
    """Progress on a terminal, log lines of the source anywhere; both on stderr."""

    def __init__(self, redact: Callable[[str], str], *, terminal: bool, quiet: bool) -> None:
        self._redact = redact
        self._quiet = quiet
        self._terminal = terminal and not quiet
        self._shown = False

    def progress(self, tally: Tally) -> None:
        """Show how far the run is, on one line of a terminal."""
        if not self._terminal or tally.stats is None:
            return
        read = sum(count.read for count in tally.stats.counts)
        done = (
            f"{tally.acknowledged:,} states acknowledged"
            if tally.opened is None
            else f"{tally.written():,} committed, epoch {tally.epoch}"
        )
        show.progress(f"{read:,} rows read, {done}")
        self._shown = True

    def message(self, message: SourceMessage) -> None:
        """Show what a source says: warnings, errors and text."""
        self._show("source", message)

    def said(self, message: SourceMessage) -> None:
        """Show what a foreign target says."""
        self._show("target", message)

    def _show(self, who: str, message: SourceMessage) -> None:
        loud = message.kind == "log" and message.level in ("WARN", "WARNING", "ERROR", "FATAL")
        if self._quiet or not (loud or message.kind in ("trace_error", "text", "unknown")):
            return
        self.clear()
        what = message.level if message.kind == "log" else message.kind.replace("_", " ")
        show.note(f"{who} {what}: {show.foreign(self._redact(message.text))}")

    def clear(self) -> None:
        """Take the line of progress away."""
        if self._shown:
            show.progress("")
            self._shown = False
