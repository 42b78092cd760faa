"""The catalogue file that a user hands to ``read`` or ``write``, of either dialect (docs/spec/dialects.md).

In the plugin's own dialect the file is the catalogue. In the other one it is a choice among what the plugin discovers: its
streams are found by the names of ``translate.singer_names``, and the plugin is given back its own text with the choice in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from dativo.protocol import jsontext
from dativo.protocol.catalog import (
    Catalog,
    CatalogStream,
    Dialect,
    SyncMode,
    from_airbyte,
    from_configured,
    from_singer,
    metadata_of,
)
from dativo.protocol.errors import ConfigError, ProtocolViolation, Where
from dativo.protocol.translate import singer_names

_MODES: Final[dict[str, SyncMode]] = {"FULL_TABLE": "full_refresh", "INCREMENTAL": "incremental"}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A catalogue and the part of it that is to be read."""

    discovered: Catalog
    selected: Catalog


def load(text: str) -> Chosen:
    """Read a catalogue file: Airbyte's catalogue or configured catalogue, a CATALOG message, or a Singer catalogue.

    Raises ProtocolViolation, also for a file of neither dialect.
    """
    members = jsontext.members(text, "catalogue")
    if "streams" not in members and "catalog" in members:
        text = members["catalog"]
        members = jsontext.members(text, "catalogue")
    parts = jsontext.elements(members.get("streams", "null"), "streams of the catalogue")
    first = jsontext.members(parts[0], "stream of the catalogue") if parts else {}
    if "sync_mode" in first or "json_schema" in jsontext.members(
        first["stream"] if first.get("stream", "").startswith("{") else "{}", "stream"
    ):
        found = from_configured(text)
    elif "json_schema" in first:
        found = from_airbyte(text)
    elif "schema" in first or "tap_stream_id" in first:
        found = from_singer(text)
        return Chosen(found, replace(found, streams=_marked(found)))
    else:
        raise ProtocolViolation(
            "this is neither a catalogue of Airbyte nor of Singer",
            value=parts[0] if parts else text,
        )
    return Chosen(found, found)


def choose(text: str, dialect: Dialect, discover: Callable[[], Catalog]) -> Chosen:
    """Return what the file's ``text`` chooses for a plugin of ``dialect``.

    ``discover`` is asked only when the file is of the other dialect. Raises ProtocolViolation for a file that is no catalogue,
    ConfigError for a choice that the plugin does not offer.
    """
    said = load(text)
    if said.selected.dialect == dialect:
        return said
    discovered = discover()
    names = singer_names(discovered)
    wanted = {_name(entry): entry for entry in said.selected.streams}
    offered = {names[entry.stream]: entry for entry in discovered.streams}
    for name in wanted:
        if name not in offered:
            some = ", ".join(list(offered)[:20])
            raise ConfigError(
                "the plugin has no stream of this name", Where(stream=name), hint=f"It has: {some}"
            )
    kept = tuple(_chosen(offered[name], wanted[name]) for name in offered if name in wanted)
    return Chosen(discovered, replace(discovered, streams=kept))


def _name(entry: CatalogStream) -> str:
    stream = entry.stream
    return f"{stream.namespace}-{stream.name}" if stream.namespace else stream.name


def _chosen(offered: CatalogStream, wanted: CatalogStream) -> CatalogStream:
    """Return the plugin's own stream with the fields, the mode and the cursor of the file's."""
    where = Where(stream=str(offered.stream))
    given = set(wanted.properties()) - wanted.deselected
    needed = {*offered.key, *offered.cursor[:1]}
    deselected = (
        frozenset(name for name in offered.properties() if name not in given and name not in needed)
        if wanted.properties()
        else frozenset[str]()
    )
    mode = wanted.mode
    if mode == "incremental" and not offered.incremental:
        raise ConfigError("this stream cannot be read incrementally", where)
    cursor = wanted.cursor if mode == "incremental" and wanted.cursor else offered.cursor
    return replace(offered, mode=mode, cursor=cursor, deselected=offered.deselected | deselected)


def _marked(catalog: Catalog) -> tuple[CatalogStream, ...]:
    """Return the streams that a Singer catalogue selects, as singer-sdk reads it: ``selected``, else ``selected-by-default``.

    A catalogue that marks no stream at all, as ``--discover`` prints it, selects every one.
    """
    documents = {entry.stream: entry.document() for entry in catalog.streams}
    marks = {stream: _mark(document) for stream, document in documents.items()}
    unmarked = all(mark is None for mark in marks.values())
    kept: list[CatalogStream] = []
    for entry in catalog.streams:
        document = documents[entry.stream]
        if not (unmarked or marks[entry.stream]):
            continue
        gone = {name for name in entry.properties() if not _field_marked(document, name)}
        mode = metadata_of(document, ()).get("replication-method") or document.get(
            "replication_method"
        )
        kept.append(
            replace(
                entry,
                deselected=entry.deselected | gone - {*entry.key, *entry.cursor},
                mode=_MODES.get(str(mode)),
            )
        )
    if not kept:
        raise ConfigError(
            "the catalogue selects no stream", hint='Set "selected": true in metadata'
        )
    return tuple(kept)


def _mark(document: dict[str, jsontext.Json]) -> bool | None:
    """Return whether a stream is selected; None where nothing says so."""
    root = metadata_of(document, ())
    if root.get("inclusion") == "unsupported":
        return False
    schema = document.get("schema")
    legacy = schema.get("selected") if isinstance(schema, dict) else None
    return _flag(root.get("selected"), _flag(legacy, _flag(root.get("selected-by-default"), None)))


def _field_marked(document: dict[str, jsontext.Json], name: str) -> bool:
    metadata = metadata_of(document, ("properties", name))
    inclusion = metadata.get("inclusion")
    if inclusion in ("automatic", "unsupported"):
        return inclusion == "automatic"
    schema = document.get("schema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    node = properties.get(name) if isinstance(properties, dict) else None
    legacy = node.get("selected") if isinstance(node, dict) else None
    found = _flag(
        metadata.get("selected"), _flag(legacy, _flag(metadata.get("selected-by-default"), True))
    )
    return found is not False


def _flag(value: jsontext.Json, otherwise: bool | None) -> bool | None:
    """Return a mark; old documents write the words as strings."""
    return {True: True, False: False, "true": True, "false": False}.get(
        value if isinstance(value, bool | str) else "", otherwise
    )
