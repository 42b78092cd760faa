"""States of both dialects, kept as the source's own bytes.

Airbyte states are per stream (``stream``), for the whole source (``global``) or of the old kind (``legacy``); a Singer state
(``singer``) is always for the whole tap. Sources: airbyte-protocol 0.18 AirbyteStateMessage; Singer spec, STATE.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from dativo.protocol.errors import ProtocolViolation, shown

StateKind: TypeAlias = Literal["stream", "global", "legacy", "singer"]


@dataclass(frozen=True, slots=True, order=True)
class Stream:
    """A stream's identity. The empty namespace and no namespace are the same and kept as the empty string."""

    namespace: str
    name: str

    @classmethod
    def from_event(cls, value: Any) -> Stream:
        """Read ``{"namespace": …, "name": …}``. Raises ProtocolViolation."""
        if not isinstance(value, Mapping):
            raise ProtocolViolation(
                "a stream is an object with name and namespace", value=shown(value)
            )
        name, namespace = value.get("name"), value.get("namespace")
        if (
            not isinstance(name, str)
            or not name
            or not (namespace is None or isinstance(namespace, str))
        ):
            raise ProtocolViolation(
                "a stream has a name and a namespace or null", value=shown(value)
            )
        return cls(namespace or "", name)

    def to_event(self) -> dict[str, str | None]:
        """Return the stream as control messages carry it."""
        return {"namespace": self.namespace or None, "name": self.name}

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class StateEntry:
    """One state as the source wrote it.

    ``text`` is, for Airbyte, the inner ``state`` object (an item of the state file's list); for Singer the STATE's ``value``.
    """

    kind: StateKind
    stream: Stream | None
    text: str

    @classmethod
    def from_event(cls, value: Any) -> StateEntry:
        """Read an item of ``states`` of a control message. Raises ProtocolViolation."""
        if not isinstance(value, Mapping):
            raise ProtocolViolation("a state is an object", value=shown(value))
        kind: Any = value.get("kind")
        text = value.get("text")
        if kind not in get_args(StateKind) or not isinstance(text, str):
            raise ProtocolViolation("a state has a kind and a text", value=shown(value))
        if (kind == "stream") != (value.get("stream") is not None):
            raise ProtocolViolation(
                "a state of kind stream, and only it, names its stream", value=shown(value)
            )
        return cls(kind, Stream.from_event(value["stream"]) if kind == "stream" else None, text)

    def to_event(self) -> dict[str, object]:
        """Return the entry as control messages carry it."""
        return {
            "kind": self.kind,
            "stream": self.stream.to_event() if self.stream else None,
            "text": self.text,
        }


def merge(current: Sequence[StateEntry], newer: Sequence[StateEntry]) -> tuple[StateEntry, ...]:
    """Return the state after ``newer`` followed ``current``.

    A state of a stream replaces that stream's; any other kind replaces everything before it, as it speaks for the whole source.
    Streams keep the order in which they first appeared.
    """
    merged: dict[Stream | None, StateEntry] = {entry.stream: entry for entry in current}
    for entry in newer:
        if entry.stream is None or None in merged:
            merged = {}
        merged[entry.stream] = entry
    return tuple(merged.values())


def digest(states: Sequence[StateEntry]) -> str:
    """Return a SHA-256 (hex) over kinds, streams and texts, in order; lengths keep entries apart."""
    hashed = hashlib.sha256()
    for entry in states:
        stream = entry.stream or Stream("", "")
        for part in (entry.kind, stream.namespace, stream.name, entry.text):
            data = part.encode("utf-8", "surrogatepass")
            hashed.update(len(data).to_bytes(8, "big"))
            hashed.update(data)
    return hashed.hexdigest()


def airbyte_state_file(states: Sequence[StateEntry]) -> str:
    """Return the text of an Airbyte ``--state`` file: the list of state objects, bytes untouched."""
    return "[" + ",".join(entry.text for entry in states) + "]"


def singer_state_file(states: Sequence[StateEntry]) -> str:
    """Return the text of a Singer ``--state`` file: the last STATE's value. Raises ProtocolViolation without one."""
    if len(states) != 1 or states[0].kind != "singer":
        raise ProtocolViolation("a Singer state is exactly one value", value=str(len(states)))
    return states[0].text
