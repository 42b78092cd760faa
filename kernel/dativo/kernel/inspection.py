"""The inspector: it reads each staged file before the committer is told of it, and what the writer said of it has to be so.

writer ──sealed──▶ kernel ──inspect──▶ inspector ──inspected, one for each file──▶ kernel ──inspected…, sealed──▶ committer
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dativo.kernel import registry, show
from dativo.kernel.limits import INSPECTOR_CGROUP_BYTES
from dativo.kernel.processes import tool_limits
from dativo.protocol import control, events
from dativo.protocol.errors import ProtocolViolation
from dativo.sandbox import Grants, Program

PROGRAM: Final = "dativo-inspector"
STAGING: Final = "/staging"


def inspector(staging: Path, env: Mapping[str, str]) -> tuple[Program, Grants]:
    """Return the inspector of a run: it sees the staged files, read-only, and nothing else. Raises ConfigError."""
    binary = registry.executable(PROGRAM, env)
    program = Program(
        name="inspector",
        argv=(str(binary),),
        runtime=(binary,),
        binds=((staging, STAGING, False),),
        bare=True,
    )
    return program, Grants(limits=tool_limits(INSPECTOR_CGROUP_BYTES))


def open_inspector() -> dict[str, object]:
    """Return the inspector's ``open`` message (docs/spec/events.md)."""
    return {"type": "open", "input": "0", "staging": STAGING}


@dataclass(slots=True)
class _Epoch:
    event: control.Event
    sealed: events.Sealed
    inspected: int = 0

    @property
    def is_done(self) -> bool:
        return self.inspected == len(self.sealed.files)


class Inspection:
    """The epochs that the writer has sealed and the committer has not been told of, in their order."""

    def __init__(self) -> None:
        self._epochs: deque[_Epoch] = deque()

    def add(self, event: control.Event, sealed: events.Sealed) -> dict[str, object]:
        """Hold an epoch back; return the order to inspect its files. Raises ProtocolViolation where it cannot be passed on."""
        control.encode(event)
        self._epochs.append(_Epoch(event, sealed))
        return {
            "type": "inspect",
            "input": sealed.input,
            "sequence": sealed.sequence,
            "files": event["files"],
        }

    def take(self, found: events.Inspected) -> None:
        """Hold what the inspector found against what the writer said. Raises ProtocolViolation."""
        epoch = next((epoch for epoch in self._epochs if not epoch.is_done), None)
        if epoch is None:
            raise ProtocolViolation(
                "a file was inspected that nobody named", value=show.foreign(found.path)
            )
        file = epoch.sealed.files[epoch.inspected]
        said = (epoch.sealed.sequence, file.path, file.rows, file.bytes, file.sha256)
        if said != (found.sequence, found.path, found.rows, found.bytes, found.sha256):
            raise ProtocolViolation(
                f"a file was inspected that is not {file.path} as it was sealed",
                value=show.foreign(found.path),
            )
        epoch.inspected += 1

    def passed(self) -> Iterator[control.Event]:
        """Yield the ``sealed`` of the epochs that may go on, each once."""
        while self._epochs and self._epochs[0].is_done:
            yield self._epochs.popleft().event

    @property
    def at_hand(self) -> str | None:
        """The file that is waited for, None when all is told."""
        for epoch in self._epochs:
            if not epoch.is_done:
                return epoch.sealed.files[epoch.inspected].path
        return None
