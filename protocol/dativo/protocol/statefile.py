"""The state file that a user hands to ``read``, of either dialect, and the states in it (docs/spec/dialects.md).

Airbyte keeps a list of state objects, Singer one value of any shape. The relay wraps each in the other: a Singer reader of an
Airbyte source gets ``{"airbyte_states": […]}``, an Airbyte reader of a tap a GLOBAL state with ``{"singer_state": …}`` inside.
What is handed to a plugin is what the plugin itself once wrote, byte for byte.
"""

from __future__ import annotations

from typing import Final

from dativo.protocol import jsontext
from dativo.protocol.airbyte import stream_of
from dativo.protocol.catalog import Dialect
from dativo.protocol.errors import ConfigError, ProtocolViolation
from dativo.protocol.state import StateEntry, StateKind, merge

AIRBYTE_STATES: Final = "airbyte_states"
SINGER_STATE: Final = "singer_state"
_KINDS: Final[dict[str, StateKind]] = {"STREAM": "stream", "GLOBAL": "global", "LEGACY": "legacy"}


def load(text: str, dialect: Dialect) -> tuple[StateEntry, ...]:
    """Return the states that a plugin of ``dialect`` starts from; none for an empty file, ``null``, ``[]`` and ``{}``.

    Takes the files of both dialects and STATE messages. Raises ConfigError when the file belongs to a plugin of the other
    dialect, ProtocolViolation when it is malformed.
    """
    text = text.strip()
    if text in ("", "null"):
        return ()
    text = _payload(text)
    if jsontext.loads(text, "state") in ([], {}):
        return ()
    return _singer(text) if dialect == "singer" else _airbyte(text)


def _payload(text: str) -> str:
    """Return what a STATE message carries; any other document as it is."""
    if not text.startswith("{"):
        return text
    members = jsontext.members(text, "state")
    if members.get("type") != '"STATE"':
        return text
    return members.get("value") or members.get("state") or text


def _airbyte(text: str) -> tuple[StateEntry, ...]:
    if text.startswith("{"):
        members = jsontext.members(text, "state")
        if AIRBYTE_STATES in members:
            text = members[AIRBYTE_STATES]
        elif jsontext.loads(members.get("type", "null"), "type") in _KINDS:
            text = f"[{text}]"
        else:
            raise ConfigError(
                "this is not a state of an Airbyte connector",
                value=text,
                hint=f'Give a list of state objects, or what --as singer wrote: {{"{AIRBYTE_STATES}": […]}}',
            )
    entries: tuple[StateEntry, ...] = ()
    for part in jsontext.elements(text, "state"):
        entry = airbyte_entry(part)
        if _wrapped(entry) is not None:
            raise ConfigError(
                "this is the state of a Singer tap, the plugin speaks Airbyte", value=part
            )
        entries = merge(entries, (entry,))
    return entries


def airbyte_entry(text: str) -> StateEntry:
    """Read one state object of Airbyte, as it stands in a state file. Raises ProtocolViolation."""
    document = jsontext.loads(text, "state")
    kind = _KINDS.get(str(document.get("type") or "LEGACY")) if isinstance(document, dict) else None
    if not isinstance(document, dict) or kind is None:
        raise ProtocolViolation("this is not a state object of Airbyte", value=text)
    payload = document.get("data" if kind == "legacy" else kind)
    if not isinstance(payload, dict):
        raise ProtocolViolation(f"a state of type {kind.upper()} without its payload", value=text)
    if kind != "stream":
        return StateEntry(kind, None, text)
    descriptor = payload.get("stream_descriptor")
    if not isinstance(descriptor, dict):
        raise ProtocolViolation("a state of a stream without stream_descriptor", value=text)
    return StateEntry(kind, stream_of(descriptor), text)


def _singer(text: str) -> tuple[StateEntry, ...]:
    if text.startswith("{"):
        members = jsontext.members(text, "state")
        if AIRBYTE_STATES in members and len(members) == 1:
            raise ConfigError(
                "this is the state of an Airbyte source, the plugin is a Singer tap", value=text
            )
        if members.get("type") != '"GLOBAL"' or "global" not in members:
            return (StateEntry("singer", None, text),)
        text = f"[{text}]"
    if not text.startswith("["):
        return (StateEntry("singer", None, text),)
    parts = jsontext.elements(text, "state")
    wrapped = _wrapped(airbyte_entry(parts[0])) if len(parts) == 1 else None
    if wrapped is None:
        raise ConfigError(
            "this is the state of an Airbyte source, the plugin is a Singer tap",
            value=text,
            hint="Give the value of the tap's last STATE, or the GLOBAL state that --as airbyte wrote",
        )
    return (StateEntry("singer", None, wrapped),)


def _wrapped(entry: StateEntry) -> str | None:
    """Return the Singer state inside a GLOBAL state that the relay made; None for any other state."""
    if entry.kind != "global":
        return None
    inner = jsontext.members(jsontext.members(entry.text, "state")["global"], "state")
    shared = inner.get("shared_state", "null")
    return jsontext.members(shared, "state").get(SINGER_STATE) if shared.startswith("{") else None
