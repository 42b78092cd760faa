"""A catalogue of either dialect as a file of the other one (docs/spec/dialects.md).

What one dialect cannot say is left out, never made up: an Airbyte source has no Singer bookmarks to choose, a tap does not tell
whether a full refresh can be resumed. Names are those that the relay gives the streams on stdout.
Sources: airbyte-protocol 0.18 AirbyteCatalog; Singer spec DISCOVERY_MODE; singer-sdk singerlib/catalog.py.
"""

from __future__ import annotations

import json

from dativo.protocol import jsontext
from dativo.protocol.catalog import Catalog, CatalogStream, Dialect, metadata_of
from dativo.protocol.singerschema import singer_schema
from dativo.protocol.state import Stream


def catalog_file(catalog: Catalog, dialect: Dialect) -> str:
    """Return the text of the catalogue's file in ``dialect``; the connector's own text when that is its own.

    Raises ProtocolViolation for a schema that cannot be translated.
    """
    if dialect == catalog.dialect:
        return catalog.text
    entry = _singer_entry if dialect == "singer" else _airbyte_entry
    names = singer_names(catalog)
    return (
        '{"streams":['
        + ",".join(entry(stream, names[stream.stream]) for stream in catalog.streams)
        + "]}"
    )


def singer_names(catalog: Catalog) -> dict[Stream, str]:
    """Return the name of each stream in a Singer output, unique within ``catalog``.

    A tap's own name; for an Airbyte stream its name, behind its namespace and a hyphen where it has one, as taps of databases do.
    A name that is taken gets the first free number behind it.
    """
    names: dict[Stream, str] = {}
    taken: set[str] = set()
    for entry in catalog.streams:
        stream = entry.stream
        plain = f"{stream.namespace}-{stream.name}" if stream.namespace else stream.name
        name, number = plain, 1
        while name in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name)
        names[stream] = name
    return names


def singer_key(entry: CatalogStream) -> tuple[str, ...]:
    """Return the key as a SCHEMA message may name it: only whole, and only properties that the schema has."""
    properties = set(entry.properties()) - entry.deselected
    return entry.key if properties.issuperset(entry.key) else ()


def _singer_entry(entry: CatalogStream, name: str) -> str:
    key = singer_key(entry)
    cursor = entry.cursor[0] if len(entry.cursor) == 1 else None
    root: dict[str, jsontext.Json] = {
        "inclusion": "available",
        "selected-by-default": True,
        "table-key-properties": list(key),
    }
    if cursor is not None:
        root["valid-replication-keys"] = [cursor]
    if not entry.incremental:
        root["forced-replication-method"] = "FULL_TABLE"
    if entry.stream.namespace:
        root["schema-name"] = entry.stream.namespace
    needed = {*key, cursor}
    metadata: list[jsontext.Json] = [{"breadcrumb": [], "metadata": root}]
    for field in entry.properties():
        inclusion = "automatic" if field in needed else "available"
        metadata.append({"breadcrumb": ["properties", field], "metadata": {"inclusion": inclusion}})
    members = {
        "tap_stream_id": jsontext.string(name),
        "stream": jsontext.string(name),
        "key_properties": jsontext.dumps(list(key)),
        "schema": singer_schema(entry.json_schema, entry.stream),
        "metadata": jsontext.dumps(metadata),
    }
    if cursor is not None and entry.incremental:
        members["replication_key"] = jsontext.string(cursor)
    members["replication_method"] = json.dumps("INCREMENTAL" if entry.incremental else "FULL_TABLE")
    return jsontext.assemble(members)


def _airbyte_entry(entry: CatalogStream, name: str) -> str:
    root = metadata_of(entry.document(), ())
    modes = ["full_refresh", "incremental"] if entry.incremental else ["full_refresh"]
    members = {
        "name": jsontext.string(name),
        "json_schema": entry.selected_schema(),
        "supported_sync_modes": json.dumps(modes),
    }
    if entry.incremental:
        # A tap that offers several keys to choose from says so; any other one keeps its bookmark itself.
        offered = root.get("valid-replication-keys")
        chosen = isinstance(offered, list) and len(offered) > 1
        members["source_defined_cursor"] = json.dumps(not chosen)
    if entry.cursor:
        members["default_cursor_field"] = jsontext.dumps(list(entry.cursor))
    if entry.key:
        members["source_defined_primary_key"] = jsontext.dumps([[field] for field in entry.key])
    return jsontext.assemble(members)
