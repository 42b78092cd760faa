"""Errors of the committers: each carries the code of its ``error`` event (docs/spec/events.md, Errors)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dativo.protocol.errors import Blame, DativoError, error_for_code
from dativo.protocol.state import Stream

# Another run has the pipeline. Raised only while nothing of our epoch is committed, so that it may be cleared away.
TAKEN_OVER = "conflict.epoch"


@dataclass(eq=False, slots=True)
class CommitFault(DativoError):
    """A located failure of a committer. ``code`` decides the exit status; ``field`` is a column's property."""

    code: str = "internal.committer"
    stream: Stream | None = None
    field: str | None = None

    @property
    def exit_status(self) -> int:
        """The exit status that ``code`` stands for."""
        return int(error_for_code(self.code).status)

    def to_event(self, input_id: str) -> dict[str, object]:
        """Return the ``error`` event, absent parts left out."""
        blame = self.blame or error_for_code(self.code).default_blame
        event: dict[str, object] = {
            "type": "error",
            "input": input_id,
            "code": self.code,
            "blame": str(blame),
            "message": self.message,
        }
        if self.stream is not None:
            event["stream"] = self.stream.to_event()
        for key, value in (("field", self.field), ("value", self.value), ("hint", self.hint)):
            if value is not None:
                event[key] = value
        return event


def config_fault(
    code: str, message: str, *, hint: str, value: str | None = None, stream: Stream | None = None
) -> CommitFault:
    """Return an error that the operator mends in the job or the warehouse."""
    return CommitFault(
        message, code=f"config.{code}", hint=hint, value=value, stream=stream, blame=Blame.USER
    )


def protocol_fault(message: str, *, code: str = "control", value: str | None = None) -> CommitFault:
    """Return an error for a control message that our own writer or kernel must not send."""
    return CommitFault(message, code=f"protocol.{code}", value=value, blame=Blame.DATIVO)


def conflict_fault(code: str, message: str, *, hint: str, value: str | None = None) -> CommitFault:
    """Return an error for another process that was faster or holds the target."""
    return CommitFault(message, code=f"conflict.{code}", hint=hint, value=value, blame=Blame.USER)


_IO_HINTS = {
    errno.ENOSPC: "The disk is full: free space and run again; the epoch was not committed.",
    errno.EDQUOT: "The disk quota is used up: raise it and run again; the epoch was not committed.",
    errno.EACCES: "The committer runs as the owner of the warehouse: let that user write there.",
    errno.EPERM: "The committer runs as the owner of the warehouse: let that user write there.",
    errno.EROFS: "The file system is read-only: remount it or name another warehouse.",
    errno.EXDEV: "The warehouse spans several file systems: a table must be on the warehouse's own.",
    errno.EIO: "The disk reports an error: see the system's log.",
}


def io_fault(error: OSError, action: str, path: str | os.PathLike[str] | None) -> CommitFault:
    """Return ``target.io`` for ``error``, naming what was tried and where."""
    seen = path if path is not None else error.filename
    return CommitFault(
        f"cannot {action}: {error.strerror or error}",
        code="target.io",
        value=None if seen is None else os.fsdecode(seen),
        hint=_IO_HINTS.get(
            error.errno or 0, "See that the path exists and that the warehouse is whole."
        ),
        blame=Blame.MACHINE,
    )


@contextmanager
def locating(action: str, path: Path) -> Iterator[None]:
    """Turn every OSError of the block into ``target.io`` with ``path``."""
    try:
        yield
    except OSError as error:
        raise io_fault(error, action, path) from error
