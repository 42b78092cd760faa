"""The shape of every file that a person writes, as pydantic models; nothing but the loaders uses them.

Each has a JSON Schema of the same keys in ``dativo.schemas`` for editors. A key that the design knows and dativo cannot do yet is
refused by name, an unknown one with the nearest known one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from dativo.kernel import quantities
from dativo.kernel.document import Document
from dativo.protocol.errors import ConfigError

Size = Annotated[int, BeforeValidator(quantities.parse_bytes)]
Seconds = Annotated[int, BeforeValidator(quantities.parse_seconds)]
Cpus = Annotated[float, BeforeValidator(quantities.parse_cpus)]
Count = Annotated[int, Field(ge=1, le=2**40)]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Text = Annotated[str, Field(min_length=1, max_length=4096)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Version = Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.+!_-]{0,63}$")]
Module = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", max_length=256)]


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("a path cannot hold a NUL")
    return value


FilePath = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_no_nul)]


def _namespace(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", value):
        raise ValueError("expected a letter, then at most 62 letters, digits and _")
    return value


def _built(*values: str) -> BeforeValidator:
    """Accept ``values``; name the others that the design knows as not built yet."""

    def check(value: object) -> object:
        if isinstance(value, str) and value not in values:
            raise PydanticCustomError(
                "not_built", "{value} is not built yet", {"value": value, "offer": list(values)}
            )
        return value

    return BeforeValidator(check)


class Shape(BaseModel):
    """Strict, closed, frozen. ``not_built`` names the keys that are known and refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        defer_build=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )
    not_built: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys as they are written in the file."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            raise PydanticCustomError("mapping_type", "expected a mapping")
        known = cls.keys()
        for key in value:
            if key in known:
                continue
            if key in cls.not_built:
                raise PydanticCustomError(
                    "key_not_built", "`{key}` is not built yet", {"key": key, "offer": known}
                )
            raise PydanticCustomError(
                "unknown_key", "unknown key `{key}`", {"key": key, "offer": known}
            )
        return value


# --- job -----------------------------------------------------------------------------------------


def _no_network(value: object) -> object:
    if value:
        raise PydanticCustomError("not_built", "network grants are not built yet")
    return value


class GrantsShape(Shape):
    """``source.grants``: what the process asks for; absent = the default."""

    not_built: ClassVar[frozenset[str]] = frozenset({"loopback", "srv", "devices", "secrets"})

    network: Annotated[list[Text], BeforeValidator(_no_network)] = []
    read: Annotated[list[FilePath], Field(max_length=100)] = []
    write: Annotated[list[FilePath], Field(max_length=100)] = []
    memory: Size | None = None
    cpus: Cpus | None = None
    pids: Count | None = None
    open_files: Count | None = None
    file_size: Size | None = None
    tmp: Size | None = None
    time: Seconds | None = None
    idle: Seconds | None = None


class SourceShape(Shape):
    """``source`` of a job."""

    not_built: ClassVar[frozenset[str]] = frozenset(
        {"custom_reader", "path", "engine", "image", "state", "partitions", "tags"}
    )

    connector: Text
    config: dict[str, Any] = {}
    streams: Annotated[list[Text], Field(min_length=1, max_length=1000)] | None = None
    grants: GrantsShape = Field(default_factory=GrantsShape)


class TargetConfigShape(Shape):
    """``target.config`` of our own targets."""

    not_built: ClassVar[frozenset[str]] = frozenset({"catalog", "catalogue", "properties"})

    warehouse: FilePath
    namespace: Annotated[str, AfterValidator(_namespace)]


class EpochShape(Shape):
    """``target.epoch``: when the rows since the last commit are cut at the next state."""

    size: Size | None = Field(default=None, alias="bytes")
    rows: Count | None = None
    time: Seconds | None = None


class TargetShape(Shape):
    """``target`` of a job."""

    not_built: ClassVar[frozenset[str]] = frozenset(
        {"custom_writer", "path", "engine", "grants", "shared", "contract", "max_rejects", "eof"}
    )

    connector: Annotated[Literal["iceberg", "parquet"], _built("iceberg", "parquet")]
    config: TargetConfigShape
    mode: Annotated[Literal["append"], _built("append")] = "append"
    epoch: EpochShape = Field(default_factory=EpochShape)


class ReadLimitsShape(Shape):
    """``limits`` of a job: bounds on what the source writes."""

    max_line_bytes: Size | None = None
    max_depth: Annotated[int, Field(ge=4, le=1000)] | None = None
    max_columns: Annotated[int, Field(ge=1, le=100_000)] | None = None
    max_streams: Annotated[int, Field(ge=1, le=100_000)] | None = None
    max_state_bytes: Size | None = None
    max_text_lines: Annotated[int, Field(ge=0, le=2**40)] | None = None
    max_staged_bytes: Size | None = None


class JobShape(Shape):
    """A job file."""

    not_built: ClassVar[frozenset[str]] = frozenset(
        {
            "transformers",
            "engine",
            "tenant",
            "schedule",
            "contract",
            "contracts",
            "max_rejects",
            "rejects",
            "eof",
            "partition",
            "audit",
        }
    )

    pipeline: Identifier
    source: SourceShape
    target: TargetShape
    limits: ReadLimitsShape = Field(default_factory=ReadLimitsShape)


# --- policy --------------------------------------------------------------------------------------


class CeilingsShape(Shape):
    """``ceilings`` of the policy: no run gets more; absent = no ceiling."""

    not_built: ClassVar[frozenset[str]] = frozenset({"network"})

    memory: Size | None = None
    cpus: Cpus | None = None
    pids: Count | None = None
    open_files: Count | None = None
    file_size: Size | None = None
    tmp: Size | None = None
    time: Seconds | None = None
    idle: Seconds | None = None
    max_line_bytes: Size | None = None
    max_depth: Count | None = None
    max_columns: Count | None = None
    max_streams: Count | None = None
    max_state_bytes: Size | None = None
    max_text_lines: Count | None = None
    max_staged_bytes: Size | None = None


class WallsShape(Shape):
    """``walls`` of the policy: the weaker modes that the operator accepts, by name."""

    cgroup: Literal["degraded"] | None = None


class BlockShape(Shape):
    """One of ``blocked``: a name, a name and version, or a digest."""

    name: Text | None = None
    version: Text | None = None
    digest: Annotated[str, Field(pattern=r"^(sha256:)?[0-9a-f]{64}$")] | None = None
    reason: Text | None = None

    @model_validator(mode="after")
    def _one_subject(self) -> BlockShape:
        if (self.name is None) == (self.digest is None):
            raise PydanticCustomError("block", "expected either `name` or `digest`")
        if self.version is not None and self.name is None:
            raise PydanticCustomError("block", "`version` needs `name`")
        return self


class PolicyShape(Shape):
    """The operator's policy file."""

    not_built: ClassVar[frozenset[str]] = frozenset({"waivers", "tenants", "roles", "network"})

    ceilings: CeilingsShape = Field(default_factory=CeilingsShape)
    variables: Annotated[list[Variable], Field(max_length=1000)] = []
    secrets: Annotated[list[Text], Field(max_length=1000)] | None = None
    walls: WallsShape = Field(default_factory=WallsShape)
    blocked: Annotated[list[BlockShape], Field(max_length=10_000)] = []


# --- plugin manifest -----------------------------------------------------------------------------


class EntryPointShape(Shape):
    """``entry_point``: exactly one of a module, a file beside the manifest, an executable beside it."""

    module: Module | None = None
    file: FilePath | None = None
    executable: FilePath | None = None
    arguments: Annotated[list[Text], Field(max_length=100)] = []

    @model_validator(mode="after")
    def _one_kind(self) -> EntryPointShape:
        kinds = [k for k in (self.module, self.file, self.executable) if k is not None]
        if len(kinds) != 1:
            raise PydanticCustomError(
                "entry_point", "expected exactly one of `module`, `file` and `executable`"
            )
        return self


class CompatibilityShape(Shape):
    """``compatibility``: versions of dativo that the plugin works with, both inclusive."""

    platform_min: Version | None = None
    platform_max: Version | None = None


class PluginShape(Shape):
    """A ``plugin.yaml``."""

    name: Identifier
    version: Version
    type: Literal["reader", "transformer", "writer"]
    language: Literal["python", "rust", "any"]
    entry_point: EntryPointShape
    protocol: Literal["airbyte", "singer", "native"] = "native"
    api_version: Annotated[str, Field(pattern=r"^[0-9]{1,4}(\.[0-9]{1,4})?$")]
    compatibility: CompatibilityShape = Field(default_factory=CompatibilityShape)
    dependencies: Annotated[list[Text], Field(max_length=1000)] = []
    permissions: GrantsShape = Field(default_factory=GrantsShape)
    requires: Annotated[list[Text], Field(max_length=100)] = []
    metadata: dict[str, Any] = {}


# --- lock ----------------------------------------------------------------------------------------

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Package = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=128)]
Requirement = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[0-9A-Za-z.+!_-]+( --hash=sha256:[0-9a-f]{64})+$",
        max_length=1_000_000,
    ),
]
"""One exact version and the hashes of its wheels: no option, no address, no marker can hide in it."""


class LockedShape(Shape):
    """One plugin of ``dativo.lock``."""

    kind: Literal["airbyte", "singer"]
    package: Package
    version: Version
    requested: Annotated[str, Field(max_length=256)]
    newest: Version | None = None
    python: Annotated[str, Field(pattern=r"^3\.[0-9]{1,2}$")]
    script: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    requirements: Annotated[list[Requirement], Field(min_length=1, max_length=5000)]
    contents: dict[Annotated[str, Field(pattern=r"^linux-[a-z0-9_]{1,20}$")], Digest]


class LockShape(Shape):
    """A ``dativo.lock``."""

    version: Literal[1]
    plugins: dict[
        Annotated[str, Field(pattern=r"^(airbyte|singer):[a-z0-9-]{1,128}$")], LockedShape
    ]


# --- reading them --------------------------------------------------------------------------------

S = TypeVar("S", bound=Shape)


def read(shape: type[S], document: Document, what: str) -> S:
    """Return ``document`` as ``shape``. Raises ConfigError for the first fault in the file."""
    try:
        return shape.model_validate(document.value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise min(
            (_located(fault, document, what, len(faults)) for fault in faults),
            key=lambda e: (e.where.line or 0, e.where.column or 0),
        ) from None


def _located(fault: Any, document: Document, what: str, faults: int) -> ConfigError:
    location = fault["loc"]
    context: dict[str, Any] = fault.get("ctx", {})
    kind = fault["type"]
    hints = []
    if "key" in context:
        location = (*location, context["key"])
    if kind == "unknown_key":
        hints.append(_nearest(context["key"], context["offer"]))
    elif "offer" in context:
        hints.append("This version knows: " + ", ".join(context["offer"]))
    if faults > 1:
        hints.append(f"{faults - 1} more {'fault' if faults == 2 else 'faults'} in this file")
    message = fault["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:] if message.startswith("Input") else message
    if kind == "missing":
        message = f"`{location[-1]}` is missing"
        location = location[:-1]
    elif "key" not in context and location:
        message = f"`{location[-1]}`: {message}"
    return ConfigError(
        f"{what}: {message}",
        document.where(location),
        value=_seen(document, location),
        hint=". ".join(hints) or None,
    )


def _nearest(key: str, known: list[str]) -> str:
    from difflib import get_close_matches

    if near := get_close_matches(key, known, 1, 0.5):
        return f"Did you mean `{near[0]}`?"
    return "Known here: " + ", ".join(known)


def _seen(document: Document, location: tuple[str | int, ...]) -> str | None:
    """Return the scalar at ``location`` as text; a mapping or list is not shown."""
    value: Any = document.value
    for step in location:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return None if isinstance(value, (dict, list)) or value is None else str(value)
