"""Audit events: one JSON object per line in a file that is only ever appended to.

An audit that cannot be written stops the run: `AuditFailed`. Events name secrets by reference, never by value.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dativo.protocol.errors import Blame, DativoError, Where


class AuditFailed(DativoError):
    """The audit file cannot be written, so nothing may happen that it should tell of."""

    default_blame = Blame.MACHINE


@dataclass(frozen=True, slots=True)
class Audit:
    """Append-only audit of one state folder."""

    path: Path

    @classmethod
    def below(cls, folder: Path) -> Audit:
        """Return the audit of a state folder."""
        return cls(folder / "audit.jsonl")

    def write(self, event: str, **facts: object) -> None:
        """Append one event with its time and make it durable. Raises AuditFailed."""
        self.write_all([{"event": event, **facts}])

    def write_all(self, events: Sequence[Mapping[str, object]]) -> None:
        """Append events, each with the time of now, and make them durable together. Raises AuditFailed."""
        if not events:
            return
        now = time.time()
        lines = "".join(
            json.dumps({"at": now, **event}, default=str, separators=(",", ":")) + "\n"
            for event in events
        )
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(
                self.path,
                os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o600,
            )
            try:
                _write_whole(fd, lines.encode())
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise AuditFailed(
                f"cannot write the audit: {error.strerror}", Where(file=str(self.path))
            ) from error


def _write_whole(fd: int, text: bytes) -> None:
    """A disk that is nearly full takes a part, and only the next write is told so."""
    left = memoryview(text)
    while left:
        left = left[os.write(fd, left) :]
