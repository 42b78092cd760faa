"""Airbyte's messages outside a read: SPEC, CATALOG, CONNECTION_STATUS, and what surrounds them.

Source: airbyte-protocol 0.18, airbyte_protocol.yaml. Every struct there is open: unknown fields are kept, since payloads stay the
connector's own text. Within a read the Rust writer takes the messages; nothing here sees a RECORD of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dativo.protocol import jsontext
from dativo.protocol.errors import ProtocolViolation, Where
from dativo.protocol.state import Stream

PAYLOAD_KEYS: Final = {
    "RECORD": "record",
    "STATE": "state",
    "LOG": "log",
    "TRACE": "trace",
    "CONTROL": "control",
    "SPEC": "spec",
    "CONNECTION_STATUS": "connectionStatus",
    "CATALOG": "catalog",
    "DESTINATION_CATALOG": "destination_catalog",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its type and the source text of its payload."""

    type: str
    payload: str


def parse_message(line: str, number: int | None = None) -> Message | None:
    """Return the message on ``line``; None when the line is not a message of the protocol (plain text, other JSON).

    Raises ProtocolViolation for a known type without its payload.
    """
    if not line.lstrip().startswith("{"):
        return None
    try:
        parts = jsontext.members(line, "line")
    except ProtocolViolation:
        return None
    kind = jsontext.loads(parts.get("type", "null"), "type")
    if not isinstance(kind, str) or kind not in PAYLOAD_KEYS:
        return None
    payload = parts.get(PAYLOAD_KEYS[kind])
    if payload is None or not payload.startswith("{"):
        raise ProtocolViolation(
            f"{kind} without {PAYLOAD_KEYS[kind]}", Where(line=number), value=line
        )
    return Message(kind, payload)


@dataclass(frozen=True, slots=True)
class Spec:
    """A connector's SPEC. ``text`` is the whole payload; ``secrets`` are the paths of ``airbyte_secret`` properties."""

    text: str
    connection_specification: jsontext.Json
    protocol_version: str
    secrets: tuple[tuple[str, ...], ...]

    @classmethod
    def from_text(cls, text: str) -> Spec:
        """Read a SPEC payload. Raises ProtocolViolation."""
        document = jsontext.loads(text, "SPEC")
        if not isinstance(document, dict) or not isinstance(
            document.get("connectionSpecification"), dict
        ):
            raise ProtocolViolation("SPEC without connectionSpecification", value=text)
        version = document.get("protocol_version") or "0.2.0"
        specification = document["connectionSpecification"]
        return cls(text, specification, str(version), tuple(_secrets(specification, ())))


def _secrets(schema: jsontext.Json, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    if not isinstance(schema, dict):
        return found
    if schema.get("airbyte_secret") is True:
        found.append(path)
    properties = schema.get("properties")
    if isinstance(properties, dict):
        for name, inner in properties.items():
            found += _secrets(inner, (*path, name))
    for keyword in ("oneOf", "anyOf", "allOf"):
        options = schema.get(keyword)
        if isinstance(options, list):
            for inner in options:
                found += _secrets(inner, path)
    return found


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """The answer of ``check``."""

    succeeded: bool
    message: str

    @classmethod
    def from_text(cls, text: str) -> ConnectionStatus:
        """Read a CONNECTION_STATUS payload. Raises ProtocolViolation."""
        document = jsontext.loads(text, "CONNECTION_STATUS")
        status = document.get("status") if isinstance(document, dict) else None
        if not isinstance(document, dict) or status not in ("SUCCEEDED", "FAILED"):
            raise ProtocolViolation(
                "CONNECTION_STATUS without status SUCCEEDED or FAILED", value=text
            )
        return cls(status == "SUCCEEDED", str(document.get("message") or ""))


def trace_error(payload: str) -> str | None:
    """Return the message of a TRACE of type ERROR; None for any other TRACE."""
    document = jsontext.loads(payload, "TRACE")
    if not isinstance(document, dict) or document.get("type") != "ERROR":
        return None
    error = document.get("error")
    return str(error.get("message", "")) if isinstance(error, dict) else ""


def log_line(payload: str) -> tuple[str, str]:
    """Return level and message of a LOG payload."""
    document = jsontext.loads(payload, "LOG")
    if not isinstance(document, dict):
        return "INFO", ""
    return str(document.get("level", "INFO")), str(document.get("message", ""))


def stream_of(document: dict[str, jsontext.Json]) -> Stream:
    """Return the identity of a catalogue's stream. Raises ProtocolViolation."""
    return Stream.from_event({"name": document.get("name"), "namespace": document.get("namespace")})
