"""Reading, making and writing table metadata and manifests with pyiceberg 0.12; types of columns are in schemas.py.

Only functions without side effects and file writers are used, never a catalogue, ``Table`` or ``Transaction``: those retry on
their own, which repeats appends, and write without syncing. Neither pyarrow nor SQLAlchemy gets imported.
Source: Iceberg table specification, format version 2.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from pydantic import ValidationError
from pyiceberg.exceptions import ValidationError as PyIcebergValidationError
from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    read_manifest_list,
    write_manifest_list,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.serializers import FromInputFile, ToOutputFile
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import (
    Operation,
    Snapshot,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import (
    AddSchemaUpdate,
    AddSnapshotUpdate,
    AddSortOrderUpdate,
    SetCurrentSchemaUpdate,
    SetDefaultSortOrderUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableUpdate,
    update_table_metadata,
)
from pyiceberg.types import DecimalType, IcebergType

from dativo.plugins.commit.durable import SyncedFile
from dativo.plugins.commit.faults import protocol_fault
from dativo.plugins.commit.kept import check_regular
from dativo.plugins.commit.layouts import Layout, SortField
from dativo.plugins.commit.messages import Metrics
from dativo.plugins.commit.target import PlacedFile
from dativo.plugins.commit.types import Column
from dativo.plugins.iceberg import layouts, schemas
from dativo.plugins.iceberg.manifests import ManifestWriter
from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.state import Stream

FORMAT_VERSION: Final = 2
OWNER, PIPELINE, STREAM = "dativo.owner", "dativo.pipeline", "dativo.stream"
MANIFEST_COMPRESSION: Final = "deflate"

_METADATA_NAME = re.compile(r"(\d+)-[0-9a-f-]{36}\.metadata\.json")


class UnreadableMetadata(Exception):
    """A metadata file is not Iceberg's, or of a format version that is not written here."""


@dataclass(frozen=True, slots=True)
class TableVersion:
    """A table as one metadata file describes it."""

    metadata: TableMetadata
    pointer: str

    @property
    def path(self) -> Path:
        """The metadata file; ``pointer`` is the same as the catalogue spells it."""
        return _path(self.pointer)

    @property
    def properties(self) -> Mapping[str, str]:
        """The table's properties."""
        return self.metadata.properties

    @property
    def schema_id(self) -> int:
        """The id of the current schema."""
        return self.metadata.current_schema_id

    @property
    def last_field_id(self) -> int:
        """The highest field id that was ever assigned."""
        return self.metadata.last_column_id

    @property
    def location(self) -> Path:
        """The table's folder."""
        return _path(self.metadata.location)

    @property
    def snapshot_id(self) -> int | None:
        """The current snapshot."""
        return self.metadata.current_snapshot_id

    @property
    def stream(self) -> Stream | None:
        """The stream whose table this is."""
        text = self.properties.get(STREAM)
        return None if text is None else Stream.from_event(json.loads(text))

    @property
    def columns(self) -> tuple[Column, ...]:
        """The current schema's columns with the properties they hold; a column that others added holds its own name."""
        return schemas.columns(self.metadata.schema(), self.properties.get(schemas.NAME_MAP, "{}"))

    @property
    def layout(self) -> Layout:
        """How its files are laid out from now on."""
        return layouts.layout(self.metadata, self.columns)

    def superseded(self, newer: TableVersion) -> list[Path]:
        """Return the metadata files that the log of ``newer`` no longer names."""
        kept = {entry.metadata_file for entry in newer.metadata.metadata_log}
        gone = {entry.metadata_file for entry in self.metadata.metadata_log} - kept
        paths = [_path(pointer) for pointer in sorted(gone)]
        return [path for path in paths if path.parent == self.location / "metadata"]


def read(pointer: str) -> TableVersion:
    """Read the metadata file that the catalogue points at. Raises OSError, UnreadableMetadata."""
    try:
        metadata = FromInputFile.table_metadata(LocalIO().new_input(pointer))
    except (ValidationError, PyIcebergValidationError, ValueError) as error:
        raise UnreadableMetadata(f"not Iceberg table metadata: {error}") from error
    if metadata.format_version != FORMAT_VERSION:
        raise UnreadableMetadata(f"format version {metadata.format_version}")
    version = TableVersion(metadata, pointer)
    try:
        _ = version.columns, version.stream
    except (ValueError, TypeError, AttributeError, ProtocolViolation) as error:
        raise UnreadableMetadata(f"the properties dativo.* were changed: {error}") from error
    try:
        _ = version.layout
    except ValueError as error:
        raise UnreadableMetadata(str(error)) from error
    return version


def create(
    location: Path, columns: Sequence[Column], layout: Layout, properties: Mapping[str, str]
) -> TableVersion:
    """Write the first metadata file of a new table below ``location``, whose metadata folder exists."""
    schema = Schema(*schemas.fields(columns))
    fresh = new_table_metadata(
        schema=schema,
        partition_spec=UNPARTITIONED_PARTITION_SPEC,
        sort_order=UNSORTED_SORT_ORDER,
        location=str(location),
        properties={
            **properties,
            schemas.NAME_MAP: schemas.name_map(columns),
            "format-version": str(FORMAT_VERSION),
        },
    )
    # It numbers fields itself; ours are planned already, and in the writer's files.
    spec, order_id = layouts.spec(layout, columns), 1 if layout.sort else 0
    numbered = {
        "schemas": [schema],
        "last_column_id": schema.highest_field_id,
        "partition_specs": [spec],
        "last_partition_id": spec.last_assigned_field_id,
        "sort_orders": [layouts.order(layout.sort, order_id)],
        "default_sort_order_id": order_id,
    }
    metadata = fresh.model_copy(update=numbered)
    return _write(metadata, location / "metadata" / f"00000-{uuid.uuid4()}.metadata.json")


def altered(
    version: TableVersion, columns: Sequence[Column], sort: Sequence[SortField] | None
) -> TableVersion:
    """Write the metadata file of ``version`` grown to ``columns`` and, unless that is None, with another sort order."""
    updates: tuple[TableUpdate, ...] = ()
    if tuple(columns) != version.columns:
        updates += _grown(version, columns)
    if sort is not None:
        updates += _sorted(version.metadata, sort)
    return _step(version, updates, str(uuid.uuid4()))


def _grown(version: TableVersion, columns: Sequence[Column]) -> tuple[TableUpdate, ...]:
    """Return the steps to ``columns``; other fields' definitions stay as they are."""
    before = version.metadata.schema()
    fields = schemas.grown_fields(before, version.columns, columns)
    required = {field.field_id for field in fields if field.required}
    schema_id = 1 + max(schema.schema_id for schema in version.metadata.schemas)
    schema = Schema(
        *fields,
        schema_id=schema_id,
        identifier_field_ids=[id for id in before.identifier_field_ids if id in required],
    )
    return (
        AddSchemaUpdate(schema=schema),
        SetCurrentSchemaUpdate.model_validate({"schema-id": schema_id}),
        SetPropertiesUpdate(updates={schemas.NAME_MAP: schemas.name_map(columns)}),
    )


def _sorted(metadata: TableMetadata, sort: Sequence[SortField]) -> tuple[TableUpdate, ...]:
    order_id = layouts.order_id(metadata, sort)
    known = any(order.order_id == order_id for order in metadata.sort_orders)
    new = {"sort-order": layouts.order(sort, order_id)}
    added: tuple[TableUpdate, ...] = () if known else (AddSortOrderUpdate.model_validate(new),)
    return (*added, SetDefaultSortOrderUpdate.model_validate({"sort-order-id": order_id}))


def with_files(
    version: TableVersion,
    files: Sequence[tuple[Path, PlacedFile]],
    kept: AbstractSet[Path] | None,
    attempt: str,
    summary: Mapping[str, str],
) -> TableVersion | None:
    """Write manifests, manifest list and metadata file that add ``files``; all their names hold ``attempt``.

    With ``kept`` the snapshot is an overwrite: of the live files only these stay. None when that changes nothing.
    Row counts and what columns hold are as the inspector found them: footers are for it alone to read.
    """
    metadata, folder = version.metadata, version.location / "metadata"
    parent = metadata.snapshot_by_name(MAIN_BRANCH)
    snapshot = _NewSnapshot(metadata, metadata.new_snapshot_id(), folder, attempt)
    carried = read_manifest_list(LocalIO().new_input(parent.manifest_list)) if parent else []
    # What only tells of files that left earlier has served the snapshot that it was written for.
    carried = [manifest for manifest in carried if _has_live_files(manifest)]
    if kept is not None:
        carried = snapshot.without(carried, kept)
        if not files and not snapshot.removed:
            return None
    manifests = snapshot.adding(files)
    list_path = str(folder / f"snap-{snapshot.id}-0-{attempt}.avro")
    with write_manifest_list(
        format_version=FORMAT_VERSION,
        output_file=LocalIO().new_output(list_path),
        snapshot_id=snapshot.id,
        parent_snapshot_id=parent.snapshot_id if parent else None,
        sequence_number=metadata.next_sequence_number(),
        avro_compression=MANIFEST_COMPRESSION,
    ) as manifest_list:
        manifest_list.add_manifests(manifests + carried)
    operation = Operation.APPEND if kept is None else Operation.OVERWRITE
    record = Snapshot.model_validate(
        {
            "snapshot-id": snapshot.id,
            "parent-snapshot-id": parent.snapshot_id if parent else None,
            "manifest-list": list_path,
            "sequence-number": metadata.next_sequence_number(),
            "summary": _summary(snapshot, operation, parent, summary),
            "schema-id": metadata.current_schema_id,
        }
    )
    reference = {
        "ref-name": MAIN_BRANCH,
        "type": SnapshotRefType.BRANCH,
        "snapshot-id": snapshot.id,
    }
    updates: tuple[TableUpdate, ...] = (
        AddSnapshotUpdate(snapshot=record),
        SetSnapshotRefUpdate.model_validate(reference),
    )
    return _step(version, updates, attempt)


class _NewSnapshot:
    """A snapshot's manifests while they are written, and what it adds and removes."""

    def __init__(
        self, metadata: TableMetadata, snapshot_id: int, folder: Path, attempt: str
    ) -> None:
        self.metadata = metadata
        self.id = snapshot_id
        self.added: list[DataFile] = []
        self.removed: list[DataFile] = []
        self._folder = folder
        self._attempt = attempt
        self._written = 0

    def adding(self, files: Sequence[tuple[Path, PlacedFile]]) -> list[ManifestFile]:
        """Write the manifests of new files, one for each spec that they were written for."""
        by_spec: dict[int, list[tuple[Path, PlacedFile]]] = {}
        for path, file in files:
            by_spec.setdefault(file.placement.spec_id, []).append((path, file))
        return [self._adding(self._spec(spec_id), files) for spec_id, files in by_spec.items()]

    def _adding(
        self, spec: PartitionSpec, files: Sequence[tuple[Path, PlacedFile]]
    ) -> ManifestFile:
        schema = self.metadata.schema()
        with self._manifest(spec) as manifest:
            for path, file in files:
                # What columns hold takes memory, and is for the manifest alone.
                self.added.append(_data_file(path, replace(file, metrics=()), spec, schema))
                manifest.add(
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED,
                        snapshot_id=self.id,
                        data_file=_data_file(path, file, spec, schema),
                    )
                )
        return manifest.to_manifest_file()

    def _spec(self, spec_id: int) -> PartitionSpec:
        spec = self.metadata.specs().get(spec_id)
        if spec is None:
            raise UnreadableMetadata(f"partition spec {spec_id} is gone")
        return spec

    def without(
        self, manifests: Sequence[ManifestFile], kept: AbstractSet[Path]
    ) -> list[ManifestFile]:
        """Return ``manifests`` after all data files but ``kept`` left; those that change are written anew.

        A file that leaves stands in its new manifest as deleted, so that readers of changes find it. Files of row deletions stay
        while a data file does that they may belong to.
        """
        result = []
        for old in manifests:
            entries = old.fetch_manifest_entry(LocalIO(), discard_deleted=True)
            if old.content == ManifestContent.DELETES:
                if kept:
                    result.append(old)
                else:
                    self.removed += [entry.data_file for entry in entries]
                continue
            leaving = [entry for entry in entries if _path(entry.data_file.file_path) not in kept]
            if not leaving:
                result.append(old)
                continue
            self.removed += [entry.data_file for entry in leaving]
            with self._manifest(self.metadata.specs()[old.partition_spec_id]) as manifest:
                for entry in entries:
                    if _path(entry.data_file.file_path) in kept:
                        manifest.existing(entry)
                    else:
                        manifest.delete(entry)
            result.append(manifest.to_manifest_file())
        return result

    def _manifest(self, spec: PartitionSpec) -> ManifestWriter:
        path = self._folder / f"{self._attempt}-m{self._written}.avro"
        self._written += 1
        return ManifestWriter(
            spec,
            self.metadata.schema(),
            LocalIO().new_output(str(path)),
            self.id,
            MANIFEST_COMPRESSION,
        )


def _has_live_files(manifest: ManifestFile) -> bool:
    return manifest.has_added_files() or manifest.has_existing_files()


def _step(version: TableVersion, updates: tuple[TableUpdate, ...], unique: str) -> TableVersion:
    metadata = update_table_metadata(version.metadata, updates, metadata_location=version.pointer)
    match = _METADATA_NAME.fullmatch(version.path.name)
    number = int(match[1]) + 1 if match else len(metadata.metadata_log)
    name = f"{number:05d}-{unique}.metadata.json"
    return _write(metadata, version.location / "metadata" / name)


def _write(metadata: TableMetadata, path: Path) -> TableVersion:
    ToOutputFile.table_metadata(metadata, LocalIO().new_output(str(path)))
    return TableVersion(metadata, str(path))


def _summary(
    snapshot: _NewSnapshot,
    operation: Operation,
    parent: Snapshot | None,
    properties: Mapping[str, str],
) -> Summary:
    collector = SnapshotSummaryCollector()
    schema = snapshot.metadata.schema()
    specs = snapshot.metadata.specs()
    for data_file in snapshot.added:
        collector.add_file(data_file, schema=schema, partition_spec=specs[data_file.spec_id])
    for data_file in snapshot.removed:
        collector.remove_file(data_file, schema=schema, partition_spec=specs[data_file.spec_id])
    return update_snapshot_summaries(
        Summary(operation=operation, **collector.build(), **properties),
        previous_summary=parent.summary if parent and parent.summary else None,
    )


def _data_file(path: Path, file: PlacedFile, spec: PartitionSpec, schema: Schema) -> DataFile:
    try:
        partition = layouts.record(file.placement, spec, schema)
    except ValueError as error:
        raise protocol_fault(
            f"the partition of a file is none of its table: {error}",
            code="staged_file",
            value=repr(file.placement.partition),
        ) from error
    data_file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=str(path),
        file_format=FileFormat.PARQUET,
        partition=partition,
        record_count=file.rows,
        file_size_in_bytes=file.bytes,
        sort_order_id=file.placement.sort_id,
        equality_ids=None,
        key_metadata=None,
        **_metrics(file.metrics, schema),
    )
    # pyiceberg takes it from the manifest where it reads one, and from nobody where it writes one.
    data_file.spec_id = spec.spec_id
    return data_file


def _metrics(columns: Sequence[Metrics], schema: Schema) -> dict[str, Any]:
    """Return the maps of a data file by field id; none at all for a file of which nothing is known.

    Bounds leave NaN out, as the specification has it, but DuckDB counts NaN among the numbers and would pass over a file that
    holds one: such a column has none.
    """
    if not columns:
        return {}
    bounded = [column for column in columns if not column.nans]
    return {
        "column_sizes": {column.field_id: column.size for column in columns},
        "value_counts": {column.field_id: column.values for column in columns},
        "null_value_counts": {column.field_id: column.nulls for column in columns},
        "nan_value_counts": {
            column.field_id: column.nans for column in columns if column.nans is not None
        },
        "lower_bounds": {
            column.field_id: _bound(column.lower, schema.find_type(column.field_id))
            for column in bounded
            if column.lower is not None
        },
        "upper_bounds": {
            column.field_id: _bound(column.upper, schema.find_type(column.field_id))
            for column in bounded
            if column.upper is not None
        },
    }


def _bound(value: bytes, of: IcebergType) -> bytes:
    # DuckDB (1.4) takes a decimal's bound for a number of its type's full width, and the specification's shortest form for
    # another number. Readers that keep to the specification take both.
    if not isinstance(of, DecimalType):
        return value
    width = next(n for n, digits in ((2, 4), (4, 9), (8, 18), (16, 38)) if of.precision <= digits)
    return int.from_bytes(value, "big", signed=True).to_bytes(width, "big", signed=True)


class LocalIO(FileIO):
    """Plain local paths, as the catalogue and the metadata name them; new files are synced on close and never overwrite."""

    def new_input(self, location: str) -> InputFile:
        """Return the file to read."""
        return _LocalFile(location)

    def new_output(self, location: str) -> OutputFile:
        """Return the file to make."""
        return _LocalFile(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete the file. Raises FileNotFoundError."""
        _path(location if isinstance(location, str) else location.location).unlink()


class _LocalFile(InputFile, OutputFile):
    def __len__(self) -> int:
        return _path(self.location).stat().st_size

    def exists(self) -> bool:
        return _path(self.location).exists()

    def open(self, seekable: bool = True) -> InputStream:
        check_regular(_path(self.location))
        # A plain file is one; its parameters are named otherwise, which a type checker minds.
        return cast(InputStream, _path(self.location).open("rb"))

    def create(self, overwrite: bool = False) -> OutputStream:
        # pyiceberg asks to overwrite manifests. Every name is new, so one that is taken is a fault, which SyncedFile raises.
        return cast(OutputStream, SyncedFile(_path(self.location)))

    def to_input_file(self) -> InputFile:
        return self


def _path(location: str) -> Path:
    # Other tools may have written file: URLs into the metadata; we write plain paths.
    return Path(re.sub(r"^file:(//)?(?=/)", "", location))
