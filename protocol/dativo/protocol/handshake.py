"""The native handshake (docs/spec/handshake.md): hello, version rule, features.

Two numbers are kept apart: the version of a program and the version of the protocol it speaks. Peers talk when the major of the
protocol is the same; a feature is in force when both name it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dativo.protocol.control import PROTOCOL_VERSION, compatible
from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.events import Hello

FEATURES: Final = frozenset({"batches"})
"""What this kernel can deal with. ``batches``: the process takes rows as Arrow IPC (docs/spec/batch.md)."""


@dataclass(frozen=True, slots=True)
class Session:
    """What was agreed with one process."""

    program: str
    version: str
    protocol: str
    features: frozenset[str]


def hello(program: str, version: str, features: tuple[str, ...] = ()) -> dict[str, object]:
    """Return the first message of a process."""
    return {
        "type": "hello",
        "protocol": PROTOCOL_VERSION,
        "program": program,
        "version": version,
        "features": list(features),
    }


def agree(theirs: Hello, *, program: str, features: frozenset[str] = FEATURES) -> Session:
    """Return the session with a peer that said ``theirs`` and was started as ``program``. Raises ProtocolViolation."""
    if theirs.program != program:
        raise ProtocolViolation(
            f"started {program}, but {theirs.program} answered", value=theirs.version
        )
    if not compatible(theirs.protocol):
        raise ProtocolViolation(
            f"{program} {theirs.version} speaks protocol {theirs.protocol}, this kernel {PROTOCOL_VERSION}",
            hint="The executable belongs to another version of dativo: build or install both from the same source",
        )
    return Session(program, theirs.version, theirs.protocol, features & frozenset(theirs.features))
