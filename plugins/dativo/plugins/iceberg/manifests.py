"""Manifests whose Avro schema defines no name twice, as Avro demands (its specification, Names).

pyiceberg 0.12 names the type of a decimal by its precision and scale, wherever there is one: where two fields of a spec are of
one such type, DuckDB reads nothing of the table. The first keeps that name, which Java gives it too; any other has a number more.
"""

from __future__ import annotations

import json
from typing import Any

from pyiceberg.avro.codecs import AVRO_CODEC_KEY, CODEC_MAPPING_ICEBERG_TO_AVRO
from pyiceberg.avro.file import MAGIC, META_SCHEMA, AvroFileHeader, AvroOutputFile
from pyiceberg.avro.resolver import construct_writer
from pyiceberg.manifest import DEFAULT_READ_VERSION, ManifestEntry, ManifestWriterV2
from pyiceberg.utils.schema_conversion import AvroSchemaConversion


class ManifestWriter(ManifestWriterV2):
    """Writes a manifest of format version 2."""

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        """Return what writes the Avro file."""
        return _AvroFile(
            output_file=self._output_file,
            file_schema=self._with_partition(self.version),
            record_schema=self._with_partition(DEFAULT_READ_VERSION),
            schema_name="manifest_entry",
            metadata=self._meta,
        )


class _AvroFile(AvroOutputFile[ManifestEntry]):
    def _write_header(self) -> None:
        schema = AvroSchemaConversion().iceberg_to_avro(self.file_schema, self.schema_name)
        codec = self.metadata[AVRO_CODEC_KEY]
        meta = {
            **self.metadata,
            "avro.schema": json.dumps(named_once(schema, set())),
            AVRO_CODEC_KEY: CODEC_MAPPING_ICEBERG_TO_AVRO.get(codec, codec),
        }
        construct_writer(META_SCHEMA).write(
            self.encoder, AvroFileHeader(MAGIC, meta, self.sync_bytes)
        )


def named_once(node: Any, used: set[str]) -> Any:
    """Return an Avro schema with another name for every fixed type whose name is in ``used`` already."""
    if isinstance(node, list):
        return [named_once(each, used) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") != "fixed":
        return {key: named_once(each, used) for key, each in node.items()}
    name, number = node["name"], 2
    while name in used:
        name, number = f"{node['name']}_{number}", number + 1
    used.add(name)
    return {**node, "name": name}
