"""Catalogues of both dialects in one shape, and the selection that a job makes of them.

A discovered stream keeps the connector's own text; what we send back to the connector (Airbyte's configured catalogue, Singer's
catalogue with selection metadata) is that text with our choices added, so unknown keys survive.
Sources: airbyte-protocol 0.18 AirbyteCatalog, ConfiguredAirbyteCatalog; Singer spec DISCOVERY_MODE; Meltano's select rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias

from dativo.protocol import jsontext
from dativo.protocol.airbyte import stream_of
from dativo.protocol.errors import ConfigError, ProtocolViolation, Where
from dativo.protocol.state import Stream

Dialect: TypeAlias = Literal["airbyte", "singer"]
SyncMode: TypeAlias = Literal["full_refresh", "incremental"]
MAX_STREAMS = 1000
_SYNC_MODES: Final[dict[str, SyncMode]] = {
    "full_refresh": "full_refresh",
    "incremental": "incremental",
}


@dataclass(frozen=True, slots=True)
class CatalogStream:
    """One stream of a catalogue.

    ``text`` is the catalogue entry and ``json_schema`` its schema as the connector wrote them; ``key`` the top-level key
    properties; ``incremental``: it can be read so; ``mode``: how it was chosen to be read, None where nobody chose;
    ``deselected`` the top-level properties that are left out.
    """

    stream: Stream
    text: str
    json_schema: str
    key: tuple[str, ...]
    incremental: bool
    cursor: tuple[str, ...] = ()
    mode: SyncMode | None = None
    deselected: frozenset[str] = frozenset()

    def document(self) -> dict[str, jsontext.Json]:
        """Return the catalogue entry, parsed."""
        return _object(self.text)

    def properties(self) -> tuple[str, ...]:
        """Return the names of the top-level properties."""
        schema = jsontext.loads(self.json_schema, f"schema of {self.stream}")
        properties = schema.get("properties") if isinstance(schema, dict) else None
        return tuple(properties) if isinstance(properties, dict) else ()

    def selected_schema(self) -> str:
        """Return the JSON Schema without the deselected properties; the untouched text where none is."""
        if not self.deselected:
            return self.json_schema
        schema = jsontext.loads(self.json_schema, f"schema of {self.stream}")
        if not isinstance(schema, dict):
            return self.json_schema
        properties = schema.get("properties")
        if isinstance(properties, dict):
            schema["properties"] = {k: v for k, v in properties.items() if k not in self.deselected}
        required = schema.get("required")
        if isinstance(required, list):
            schema["required"] = [name for name in required if name not in self.deselected]
        return jsontext.dumps(schema)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All streams of a source, in its order."""

    dialect: Dialect
    streams: tuple[CatalogStream, ...]
    text: str


def from_airbyte(text: str) -> Catalog:
    """Read the payload of a CATALOG message. Raises ProtocolViolation."""
    found = [_airbyte_stream(part) for part in _streams(text)]
    return Catalog("airbyte", _unique(found), text)


def from_configured(text: str) -> Catalog:
    """Read a ConfiguredAirbyteCatalog: streams as they were chosen. Raises ProtocolViolation."""
    found = [_configured_stream(part) for part in _streams(text)]
    return Catalog("airbyte", _unique(found), text)


def from_singer(text: str) -> Catalog:
    """Read the document of ``tap --discover``. Raises ProtocolViolation."""
    found = [_singer_stream(part) for part in _streams(text)]
    return Catalog("singer", _unique(found), text)


def _streams(text: str) -> list[str]:
    streams = jsontext.members(text, "catalogue").get("streams")
    if streams is None:
        raise ProtocolViolation("catalogue without streams", value=text)
    parts = jsontext.elements(streams, "streams of the catalogue")
    if len(parts) > MAX_STREAMS:
        raise ProtocolViolation(f"catalogue has {len(parts)} streams, the limit is {MAX_STREAMS}")
    return parts


def _unique(found: list[CatalogStream]) -> tuple[CatalogStream, ...]:
    seen: set[Stream] = set()
    for entry in found:
        if entry.stream in seen:
            raise ProtocolViolation(
                "catalogue names a stream twice", Where(stream=str(entry.stream))
            )
        seen.add(entry.stream)
    return tuple(found)


def _object(text: str) -> dict[str, jsontext.Json]:
    document = jsontext.loads(text, "stream of the catalogue")
    if not isinstance(document, dict):
        raise ProtocolViolation("a stream of the catalogue is not an object", value=text)
    return document


def _airbyte_stream(text: str) -> CatalogStream:
    document = _object(text)
    schema = jsontext.members(text, "stream").get("json_schema")
    if schema is None or not schema.startswith("{"):
        raise ProtocolViolation(
            "stream without json_schema", Where(stream=str(document.get("name")))
        )
    modes = document.get("supported_sync_modes")
    cursor = document.get("default_cursor_field")
    return CatalogStream(
        stream=stream_of(document),
        text=text,
        json_schema=schema,
        key=_top_level_key(document.get("source_defined_primary_key")),
        incremental=isinstance(modes, list) and "incremental" in modes,
        cursor=tuple(str(part) for part in cursor) if isinstance(cursor, list) else (),
    )


def _configured_stream(text: str) -> CatalogStream:
    document = _object(text)
    stream = _airbyte_stream(jsontext.members(text, "configured stream").get("stream", "null"))
    mode = _SYNC_MODES.get(str(document.get("sync_mode")))
    if mode is None:
        raise ProtocolViolation(
            "a configured stream has sync_mode full_refresh or incremental",
            Where(stream=str(stream.stream)),
            value=str(document.get("sync_mode")),
        )
    cursor = document.get("cursor_field")
    key = _top_level_key(document.get("primary_key"))
    return replace(
        stream,
        key=key or stream.key,
        cursor=tuple(map(str, cursor)) if isinstance(cursor, list) and cursor else stream.cursor,
        mode=mode,
    )


def _top_level_key(value: jsontext.Json) -> tuple[str, ...]:
    """Return a key of top-level properties; nested paths are no key of a flat table."""
    if not isinstance(value, list):
        return ()
    names: list[str] = []
    for path in value:
        if not isinstance(path, list) or len(path) != 1 or not isinstance(path[0], str):
            return ()
        names.append(path[0])
    return tuple(names)


def _singer_stream(text: str) -> CatalogStream:
    document = _object(text)
    name = document.get("stream") or document.get("tap_stream_id")
    if not isinstance(name, str):
        raise ProtocolViolation("stream without name", value=text)
    schema = jsontext.members(text, "stream").get("schema")
    if schema is None or not schema.startswith("{"):
        raise ProtocolViolation("stream without schema", Where(stream=name))
    root = metadata_of(document, ())
    key = document.get("key_properties") or root.get("table-key-properties")
    replication_key = document.get("replication_key") or root.get("replication-key")
    method = document.get("replication_method") or root.get("forced-replication-method")
    offered = root.get("valid-replication-keys")
    if not replication_key and isinstance(offered, list) and len(offered) == 1:
        replication_key = offered[0]
    return CatalogStream(
        stream=Stream("", name),
        text=text,
        json_schema=schema,
        key=tuple(str(part) for part in key) if isinstance(key, list) else (),
        incremental=method in ("INCREMENTAL", "LOG_BASED")
        or (method != "FULL_TABLE" and bool(replication_key)),
        cursor=(replication_key,) if isinstance(replication_key, str) and replication_key else (),
        deselected=_unsupported(document),
    )


def _unsupported(document: dict[str, jsontext.Json]) -> frozenset[str]:
    """Return the properties that a tap says it never sends."""
    found: set[str] = set()
    entries = document.get("metadata")
    for entry in entries if isinstance(entries, list) else ():
        match entry:
            case {
                "breadcrumb": ["properties", str(name)],
                "metadata": {"inclusion": "unsupported"},
            }:
                found.add(name)
    return frozenset(found)


def metadata_of(
    document: dict[str, jsontext.Json], breadcrumb: tuple[str, ...]
) -> dict[str, jsontext.Json]:
    """Return the metadata of a Singer catalogue entry at ``breadcrumb``; ``()`` is the stream itself."""
    for entry in document.get("metadata") or []:  # type: ignore[union-attr]  # checked item by item below
        if isinstance(entry, dict) and entry.get("breadcrumb") == list(breadcrumb):
            found = entry.get("metadata")
            return found if isinstance(found, dict) else {}
    return {}


# --- selection -------------------------------------------------------------------------------------------------------------


def _split(rule: str) -> tuple[str, str | None]:
    """Split ``stream.field`` at the first dot without a backslash before it."""
    match = re.match(r"((?:[^.\\]|\\.)*)(?:\.(.*))?$", rule, re.DOTALL)
    stream, field = (match[1], match[2]) if match else (rule, None)
    return stream.replace("\\.", "."), field


def select(catalog: Catalog, rules: Sequence[str]) -> Catalog:
    """Return the catalogue of the streams and fields that ``rules`` choose, in the source's order.

    A rule is ``stream`` or ``stream.field`` with ``*``, ``?`` and ``[…]``; ``!`` in front takes away; a dot inside a stream's
    name is written ``\\.`` (or the rule names the whole stream). No positive stream rule means every stream. A rule that meets
    nothing is a ConfigError that lists what there is. Key and cursor fields cannot be taken away.
    """
    positive = [rule for rule in rules if not rule.startswith("!")]
    kept = list(catalog.streams) if not positive else []
    for rule in positive:
        hits = _matching(catalog, rule)
        kept += [hit for hit in hits if hit.stream not in {k.stream for k in kept}]
    for rule in (rule[1:] for rule in rules if rule.startswith("!")):
        name, field = _split(rule)
        whole = [entry for entry in catalog.streams if fnmatchcase(str(entry.stream), rule)]
        if whole or field is None:
            gone = {hit.stream for hit in _matching(catalog, rule)}
            kept = [entry for entry in kept if entry.stream not in gone]
        else:
            kept = [_without(entry, name, field) for entry in kept]
            _check_field_rule(catalog, rule, name, field)
    order = {entry.stream: index for index, entry in enumerate(catalog.streams)}
    kept.sort(key=lambda entry: order[entry.stream])
    if not kept:
        raise ConfigError("the job selects no stream", hint=_offer(catalog))
    return replace(catalog, streams=tuple(kept))


def _matching(catalog: Catalog, rule: str) -> list[CatalogStream]:
    whole = [entry for entry in catalog.streams if fnmatchcase(str(entry.stream), rule)]
    if whole:
        return whole
    name, field = _split(rule)
    hits = [entry for entry in catalog.streams if fnmatchcase(str(entry.stream), name)]
    if field not in (None, "*"):
        hits = [
            entry for entry in hits if any(fnmatchcase(p, field or "") for p in entry.properties())
        ]
    if not hits:
        raise ConfigError(f"stream rule {rule!r} meets no stream", hint=_offer(catalog))
    return hits


def _check_field_rule(catalog: Catalog, rule: str, name: str, field: str) -> None:
    streams = [entry for entry in catalog.streams if fnmatchcase(str(entry.stream), name)]
    if any(fnmatchcase(p, field) for entry in streams for p in entry.properties()):
        return
    hint = "; ".join(
        f"{entry.stream} has: {_some(entry.properties())}" for entry in streams[:5]
    ) or _offer(catalog)
    raise ConfigError(f"stream rule '!{rule}' meets no field", hint=hint)


def _without(entry: CatalogStream, name: str, field: str) -> CatalogStream:
    if not fnmatchcase(str(entry.stream), name):
        return entry
    gone = {p for p in entry.properties() if fnmatchcase(p, field)}
    needed = gone & ({*entry.key} | {*entry.cursor})
    if needed:
        raise ConfigError(
            f"field {sorted(needed)[0]!r} is a key or cursor and cannot be left out",
            Where(stream=str(entry.stream)),
        )
    return replace(entry, deselected=entry.deselected | gone)


def _offer(catalog: Catalog) -> str:
    return f"The source has: {_some([str(entry.stream) for entry in catalog.streams])}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "")


# --- what the connector is given -------------------------------------------------------------------------------------------


def configured_airbyte(catalog: Catalog, *, full_refresh: bool = False, files: bool = False) -> str:
    """Return the text of a ConfiguredAirbyteCatalog. Only enum values that old connectors know are used.

    ``files``: streams of files are asked for their files too.
    """
    return (
        '{"streams":['
        + ",".join(_configured(entry, full_refresh, files) for entry in catalog.streams)
        + "]}"
    )


def _configured(entry: CatalogStream, full_refresh: bool, files: bool) -> str:
    members = jsontext.members(entry.text, "stream")
    members["json_schema"] = entry.selected_schema()
    mode: SyncMode = entry.mode or ("incremental" if entry.incremental else "full_refresh")
    configured = {
        "stream": jsontext.assemble(members),
        "sync_mode": json.dumps("full_refresh" if full_refresh else mode),
        "destination_sync_mode": '"append"',
    }
    if files and members.get("is_file_based") == "true":
        configured["include_files"] = "true"
    if entry.cursor:
        configured["cursor_field"] = jsontext.dumps(list(entry.cursor))
    if entry.key:
        configured["primary_key"] = jsontext.dumps([[name] for name in entry.key])
    return jsontext.assemble(configured)


def configured_singer(discovered: Catalog, selected: Catalog, *, full_refresh: bool = False) -> str:
    """Return the tap's catalogue with ``selected`` set in metadata and, for old taps, in the schema nodes.

    How a stream is replicated is left to the tap, but for streams with a ``mode`` and with ``full_refresh``.
    """
    chosen = {
        entry.stream: replace(entry, mode="full_refresh") if full_refresh else entry
        for entry in selected.streams
    }
    streams = [_singer_choice(entry, chosen.get(entry.stream)) for entry in discovered.streams]
    members = jsontext.members(discovered.text, "catalogue")
    members["streams"] = "[" + ",".join(streams) + "]"
    return jsontext.assemble(members)


def _singer_choice(entry: CatalogStream, chosen: CatalogStream | None) -> str:
    document = entry.document()
    metadata = document.get("metadata")
    if not isinstance(metadata, list):
        metadata = []
    document["metadata"] = metadata
    _annotate(metadata, [], {"selected": chosen is not None})
    if chosen is not None:
        _set_mode(document, metadata, chosen)
    schema = document["schema"]
    if isinstance(schema, dict):
        schema["selected"] = chosen is not None
        properties = schema.get("properties")
        for name, node in properties.items() if isinstance(properties, dict) else ():
            wanted = chosen is not None and name not in chosen.deselected
            _annotate(metadata, ["properties", name], {"selected": wanted})
            if isinstance(node, dict):
                node["selected"] = wanted
    return jsontext.dumps(document)


def _set_mode(
    document: dict[str, jsontext.Json], metadata: list[jsontext.Json], chosen: CatalogStream
) -> None:
    """Write the chosen mode where singer-python (metadata) and singer-sdk (both) look for it."""
    if chosen.mode == "full_refresh":
        method: dict[str, jsontext.Json] = {"replication-method": "FULL_TABLE"}
    elif chosen.mode == "incremental" and len(chosen.cursor) == 1:
        method = {"replication-method": "INCREMENTAL", "replication-key": chosen.cursor[0]}
    else:
        return
    _annotate(metadata, [], method)
    document |= {key.replace("-", "_"): value for key, value in method.items()}


def _annotate(
    metadata: list[jsontext.Json],
    breadcrumb: list[jsontext.Json],
    values: dict[str, jsontext.Json],
) -> None:
    for entry in metadata:
        if isinstance(entry, dict) and entry.get("breadcrumb") == breadcrumb:
            found = entry.setdefault("metadata", {})
            if isinstance(found, dict):
                found |= values
            return
    metadata.append({"breadcrumb": breadcrumb, "metadata": values})
