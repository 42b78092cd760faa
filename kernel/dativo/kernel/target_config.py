"""The configuration of the standalone targets: one table of settings behind the file, ``--about`` and Airbyte's ``spec``.

A file is one JSON object. Unknown keys are errors that name the nearest known one. Settings that every target of singer-sdk has
are taken where their value asks for what happens anyway, and refused where it does not (docs/guide/targets.md has the table).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from dativo.kernel import shapes
from dativo.kernel.contracts import Contracts
from dativo.kernel.document import Document, Location, load_json, pointer
from dativo.kernel.layouts import Layouts
from dativo.kernel.limits import JOB_BYTES, MAX_REJECTS, EpochLimits, ReadLimits, shown
from dativo.kernel.shapes import Fault, Parse, Shape
from dativo.protocol.catalog import Dialect
from dativo.protocol.errors import ConfigError, Where
from dativo.protocol.layouts import MAX_LAYOUT_FIELDS

Target: TypeAlias = Literal["parquet", "iceberg"]
Eof: TypeAlias = Literal["commit", "checkpoint"]

DEFAULT_PIPELINE: Final = "pipe"
DEFAULT_NAMESPACE: Final = "main"
FOLDER: Final[dict[Target, str]] = {"parquet": "path", "iceberg": "warehouse"}
"""The setting that names the folder of each target."""


@dataclass(frozen=True, slots=True)
class TargetConfig:
    """What the file says. ``warehouse`` is real and absolute; ``eof`` None: commit, without proof that the input was complete."""

    file: Path
    target: Target
    warehouse: Path
    namespace: str
    pipeline: str = DEFAULT_PIPELINE
    mode: Literal["append", "overwrite"] = "append"
    append_dedup: Literal["refuse", "append"] = "refuse"
    eof: Eof | None = None
    strict: bool = False
    epoch: EpochLimits = field(default_factory=EpochLimits)
    metadata: str = "none"
    limits: ReadLimits = field(default_factory=ReadLimits)
    notices: tuple[str, ...] = ()
    contracts: Contracts = field(default_factory=Contracts)
    layouts: Layouts = field(default_factory=Layouts)


@dataclass(frozen=True, slots=True)
class Setting:
    """One key: how it is read, and its JSON Schema for tools and people. ``dialect``: the only one in which it says anything."""

    name: str
    parse: Parse
    schema: Mapping[str, object]
    description: str
    required: bool = False
    dialect: Dialect | None = None

    def json_schema(self) -> dict[str, object]:
        """Return the property of the settings' JSON Schema."""
        return {**self.schema, "description": self.description}


# --- dativo's own ----------------------------------------------------------------------------------------------------------

_AMOUNT: Final = {"type": ["string", "integer"]}


def _limits_schema() -> dict[str, object]:
    return {
        name: {**_AMOUNT, "default": shown(name.upper())}
        if name.endswith("_bytes")
        else {"type": "integer", "default": int(getattr(ReadLimits(), name))}
        for name in shapes.READ_LIMITS
    }


def _one_of(*values: str) -> dict[str, object]:
    return {"type": "string", "enum": list(values)}


_NAMESPACE_TEXT: Final[dict[str, object]] = {
    "type": "string",
    "pattern": "^[A-Za-z][A-Za-z0-9_]{0,62}$",
}

_CONTRACT_SCHEMA: Final[dict[str, object]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "schema": {**_one_of("evolve", "freeze"), "default": "evolve"},
        "conflict": {**_one_of("new_column", "fail"), "default": "new_column"},
        "values": {**_one_of("fail", "discard_row", "discard_value"), "default": "fail"},
        "max_rejects": {"type": "integer", "minimum": 0, "default": int(MAX_REJECTS)},
        "keep_text": {"type": "boolean", "default": False},
        "rename": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}

_ITEMS: Final = {"type": "array", "maxItems": MAX_LAYOUT_FIELDS, "items": {"type": "string"}}
_LAYOUT_SCHEMA: Final[dict[str, object]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"partition_by": _ITEMS, "sort_by": _ITEMS},
}

_OWN: Final = (
    Setting(
        "pipeline",
        shapes.IDENTIFIER,
        {
            "type": "string",
            "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$",
            "default": DEFAULT_PIPELINE,
        },
        "Whose tables and state these are. Pipes that write into one folder at the same time need one each.",
    ),
    Setting(
        "mode",
        shapes.one_of("append", "overwrite"),
        {**_one_of("append", "overwrite"), "default": "append"},
        "overwrite: rows stay hidden until the input is known to be complete, then replace the tables in one step.",
        dialect="singer",
    ),
    Setting(
        "eof",
        shapes.one_of("commit", "checkpoint"),
        _one_of("commit", "checkpoint"),
        "What the end of the input means. commit: everything was sent, so overwrite and ACTIVATE_VERSION take effect; "
        "checkpoint: rows after the last state are dropped; absent: all rows are committed, nothing is replaced without proof.",
    ),
    Setting(
        "append_dedup",
        shapes.one_of("refuse", "append"),
        {**_one_of("refuse", "append"), "default": "refuse"},
        "Airbyte streams of mode append_dedup. append: their rows are appended, and readers have to take the newest of each key.",
        dialect="airbyte",
    ),
    Setting(
        "strict",
        shapes.boolean,
        {"type": "boolean", "default": False},
        "Refuse what is tolerated otherwise: blank lines, text, NaN, unknown types.",
    ),
    Setting(
        "metadata",
        shapes.one_of(*shapes.METADATA),
        {**_one_of(*shapes.METADATA), "default": "none"},
        "Columns beside those of the input: `_dativo_`, `_sdc_` or `_airbyte_` ones.",
    ),
    Setting(
        "epoch",
        shapes.EPOCH,
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "bytes": {**_AMOUNT, "default": shown("EPOCH_BYTES")},
                "rows": {"type": "integer", "default": int(EpochLimits().max_rows)},
                "time": {**_AMOUNT, "default": shown("EPOCH_SECONDS")},
            },
        },
        "Rows are committed at the first state after any of these.",
    ),
    Setting(
        "limits",
        Shape({}, shapes.READ_LIMITS),
        {"type": "object", "additionalProperties": False, "properties": _limits_schema()},
        "Bounds on the input.",
    ),
    Setting(
        "contracts",
        shapes.CONTRACTS,
        {"type": "object", "additionalProperties": _CONTRACT_SCHEMA},
        "By patterns of streams: what becomes of changes of their schemas and of values that do not fit. The last that fits "
        "holds.",
    ),
    Setting(
        "layout",
        shapes.LAYOUTS,
        {"type": "object", "additionalProperties": _LAYOUT_SCHEMA},
        "By patterns of streams: how tables are partitioned, and how rows are sorted in their files. The last that fits holds.",
    ),
)

_FOLDERS: Final[dict[Target, tuple[Setting, ...]]] = {
    "parquet": (
        Setting(
            "path",
            shapes.FILE_PATH,
            {"type": "string"},
            "Folder of the tables; relative paths start at the current folder.",
            required=True,
        ),
        Setting(
            "namespace",
            shapes.NAMESPACE,
            {**_NAMESPACE_TEXT, "default": DEFAULT_NAMESPACE},
            "Folder below it that holds a folder per stream.",
        ),
    ),
    "iceberg": (
        Setting(
            "warehouse",
            shapes.FILE_PATH,
            {"type": "string"},
            "Folder of the tables and their catalogue; relative paths start at the current folder.",
            required=True,
        ),
        Setting(
            "namespace",
            shapes.NAMESPACE,
            _NAMESPACE_TEXT,
            "Namespace of the tables.",
            required=True,
        ),
    ),
}

# --- singer-sdk's ----------------------------------------------------------------------------------------------------------


def _only(accepted: object, otherwise: str) -> Parse:
    """Return the parser of a setting that may ask only for what happens anyway."""

    def parse(value: Any, location: Location) -> object:
        if value == accepted and isinstance(value, type(accepted)):
            return value
        raise Fault(location, otherwise)

    return parse


def _any(value: Any, _: Location) -> object:
    return value


_LOAD_METHODS: Final = {"append-only": "append", "overwrite": "overwrite"}


def _load_method(value: Any, location: Location) -> str:
    if value == "upsert":
        raise Fault(location, "`load_method: upsert` is not built yet", "append-only, overwrite")
    method: str = shapes.one_of(*_LOAD_METHODS)(value, location)
    return method


_NO_EFFECT: Final = {
    "batch_wait_limit_seconds": "rows are committed by `epoch`",
    "validate_records": "records are always checked against their schema",
    "hard_delete": "ACTIVATE_VERSION removes rows, it never marks them",
    "flattening_max_depth": "nothing is flattened",
    "flattening_max_key_length": "nothing is flattened",
    "flattening_separator": "nothing is flattened",
    "stream_map_config": "there are no stream maps",
    "faker_config": "there are no stream maps",
}
"""Settings of singer-sdk that are taken and change nothing, and why."""

_SDK: Final[dict[str, Parse]] = {
    "load_method": _load_method,
    "default_target_schema": shapes.NAMESPACE,
    "batch_size_rows": shapes.COUNT,
    "add_record_metadata": shapes.boolean,
    "flattening_enabled": _only(
        False, "flattening is not built; nested values are kept as JSON text"
    ),
    "process_activate_version_messages": _only(True, "ACTIVATE_VERSION cannot be switched off"),
    "stream_maps": _only({}, "stream maps are not built"),
    "batch_config": _only({}, "BATCH messages are refused"),
    **dict.fromkeys(_NO_EFFECT, _any),
}
_SDK_DESCRIPTIONS: Final[dict[str, tuple[dict[str, object], str]]] = {
    "load_method": (
        {**_one_of(*_LOAD_METHODS), "default": "append-only"},
        "singer-sdk's name for `mode`.",
    ),
    "default_target_schema": (_NAMESPACE_TEXT, "singer-sdk's name for `namespace`."),
    "batch_size_rows": ({"type": "integer"}, "singer-sdk's name for `epoch.rows`."),
    "add_record_metadata": (
        {"type": "boolean", "default": False},
        "singer-sdk's name for `metadata: singer`.",
    ),
}

# --- reading it ------------------------------------------------------------------------------------------------------------


def settings(target: Target, dialect: Dialect) -> tuple[Setting, ...]:
    """Return the settings of a target that people and tools of a dialect are shown, in their order."""
    sdk = (
        Setting(name, _SDK[name], schema, description, dialect="singer")
        for name, (schema, description) in _SDK_DESCRIPTIONS.items()
    )
    known = (*_FOLDERS[target], *_OWN, *sdk)
    return tuple(setting for setting in known if setting.dialect in (None, dialect))


def json_schema(target: Target, dialect: Dialect) -> dict[str, object]:
    """Return the settings as a JSON Schema (draft 7), as ``--about`` and ``spec`` give it."""
    known = settings(target, dialect)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "title": f"dativo-target-{target}",
        "required": [setting.name for setting in known if setting.required],
        "properties": {setting.name: setting.json_schema() for setting in known},
    }


def _shape(target: Target) -> Shape:
    own = (*_FOLDERS[target], *_OWN)
    # `namespace` may come by singer-sdk's name for it.
    required = {s.name: s.parse for s in own if s.required and s.name != "namespace"}
    optional = {s.name: s.parse for s in own if s.name not in required}
    return Shape(required, {**optional, **_SDK}, frozenset({"secrets"}))


def load(file: str, target: Target, folder: Path) -> TargetConfig:
    """Read the configuration ``file``; relative paths start at ``folder``. Raises ConfigError with file and JSON Pointer.

    A key whose value is null counts as absent.
    """
    if file == "ENV":
        raise ConfigError(
            "`--config ENV` is not supported: a configuration is a file",
            hint="Write the settings into a JSON file",
        )
    written = load_json(folder / file, "config", JOB_BYTES)
    said = _read(_shape(target), written)
    namespace = said.get("namespace", said.get("default_target_schema"))
    if namespace is None and target == "iceberg":
        raise ConfigError("config: `namespace` is missing", Where(file=str(written.file)))
    return TargetConfig(
        file=written.file,
        target=target,
        warehouse=Path(os.path.realpath(folder / said[FOLDER[target]])),
        namespace=namespace or DEFAULT_NAMESPACE,
        pipeline=said.get("pipeline", DEFAULT_PIPELINE),
        mode=_mode(said, written.file),
        append_dedup=said.get("append_dedup", "refuse"),
        eof=said.get("eof"),
        strict=said.get("strict", False),
        epoch=_epoch(said),
        metadata=_metadata(said, written.file),
        limits=replace(ReadLimits(), **said.get("limits", {})),
        notices=tuple(
            f"`{name}` has no effect: {why}" for name, why in _NO_EFFECT.items() if name in said
        ),
        contracts=Contracts.read(said.get("contracts", {})),
        layouts=Layouts.read(said.get("layout", {})),
    )


def _epoch(said: Mapping[str, Any]) -> EpochLimits:
    fields = {"bytes": "max_bytes", "rows": "max_rows", "time": "max_seconds"}
    given = {fields[key]: value for key, value in said.get("epoch", {}).items()}
    if "batch_size_rows" in said:
        given.setdefault("max_rows", said["batch_size_rows"])
    return replace(EpochLimits(), **given)


def _metadata(said: Mapping[str, Any], file: Path) -> str:
    added: bool = said.get("add_record_metadata", False)
    metadata: str = said.get("metadata", "singer" if added else "none")
    if added and metadata != "singer":
        raise ConfigError(
            f"config: `metadata` says {metadata}, `add_record_metadata` says singer",
            Where(file=str(file), pointer="/metadata"),
            hint="Leave one of them out",
        )
    return metadata


def _mode(said: Mapping[str, Any], file: Path) -> Literal["append", "overwrite"]:
    by_method = _LOAD_METHODS[said["load_method"]] if "load_method" in said else None
    mode = said.get("mode", by_method or "append")
    if by_method is not None and mode != by_method:
        raise ConfigError(
            f"config: `mode` says {mode}, `load_method` says {by_method}",
            Where(file=str(file), pointer="/mode"),
            hint="Leave one of them out",
        )
    return "overwrite" if mode == "overwrite" else "append"


def _read(shape: Shape, written: Document) -> dict[str, Any]:
    value = written.value
    if not isinstance(value, dict):
        raise ConfigError("config: expected one JSON object", Where(file=str(written.file)))
    given: dict[str, Any] = {key: item for key, item in value.items() if item is not None}
    try:
        return shape(given, ())
    except Fault as fault:
        seen: Any = given
        for step in fault.location:
            seen = seen[step]
        name = fault.location[-1] if fault.location else ""
        about = f"`{name}`: " if name != "" and f"`{name}`" not in fault.message else ""
        raise ConfigError(
            f"config: {about}{fault.message}",
            Where(file=str(written.file), pointer=pointer(fault.location) or None),
            value=None if isinstance(seen, dict | list) else str(seen),
            hint=fault.hint,
        ) from None
