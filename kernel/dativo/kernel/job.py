"""The job: what a file in the workspace asks for (docs/spec/job.md). A request; nothing here grants anything.

Paths are relative to the job file's folder, which is the workspace. The digest is that of the file as it was written, before
variables are put in: what they can change is in the grants, and the grants are part of every approval.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from dativo.kernel import expansion, shapes
from dativo.kernel.contracts import Contracts
from dativo.kernel.document import Document, Location, Number, load_yaml
from dativo.kernel.grants import Grants
from dativo.kernel.layouts import Layouts
from dativo.kernel.limits import EpochLimits, ReadLimits
from dativo.kernel.network import NetworkGrant, collect
from dativo.kernel.secrets import SecretRef
from dativo.protocol.errors import ConfigError, Where

Config: TypeAlias = (
    "Mapping[str, Config] | list[Config] | str | int | Number | bool | SecretRef | None"
)
"""A connector's configuration: JSON, numbers as written, and references where secrets go."""

Numbers: TypeAlias = Literal["double", "decimal", "text"]

JOB_DIR: Final = "JOB_DIR"
"""The one variable that needs no policy: the folder of the job file."""


@dataclass(frozen=True, slots=True)
class SourceJob:
    """The source: ``connector`` as written, its config, stream rules (empty = all) and requested grants.

    ``strict``: refuse what is tolerated otherwise (docs/spec/wire.md); ``numbers``: what becomes of numbers whose schema says
    nothing of their digits (docs/spec/validation.md).
    """

    connector: str
    config: Mapping[str, Config] = field(repr=False)
    streams: tuple[str, ...]
    grants: Grants
    strict: bool = False
    numbers: Numbers = "double"

    @property
    def secrets(self) -> tuple[SecretRef, ...]:
        """Every secret that the config refers to, once, in order of appearance."""
        return tuple(dict.fromkeys(references(self.config)))


@dataclass(frozen=True, slots=True)
class ForeignTargetJob:
    """A target that is a connector: its own config, and requested grants."""

    connector: str
    config: Mapping[str, Config] = field(repr=False)
    grants: Grants

    @property
    def secrets(self) -> tuple[SecretRef, ...]:
        """Every secret that the config refers to, once, in order of appearance."""
        return tuple(dict.fromkeys(references(self.config)))


@dataclass(frozen=True, slots=True)
class TargetJob:
    """One of dativo's own targets: ``iceberg`` or ``parquet``; the warehouse is a real absolute path.

    ``metadata``: which columns tables have beside those of the source. ``network``: what its committer asks for, beside the
    warehouse that it may write.
    """

    connector: str
    warehouse: Path
    namespace: str
    mode: str = "append"
    epoch: EpochLimits = field(default_factory=EpochLimits)
    metadata: str = "none"
    network: tuple[NetworkGrant, ...] = ()

    @property
    def config(self) -> dict[str, str]:
        """The target's config as the committer is told it."""
        return {"warehouse": str(self.warehouse), "namespace": self.namespace}


@dataclass(frozen=True, slots=True)
class Job:
    """One job file. ``path`` is real and absolute; ``digest`` is a SHA-256 in hex."""

    path: Path
    pipeline: str
    source: SourceJob
    target: TargetJob | ForeignTargetJob
    limits: ReadLimits
    digest: str
    contracts: Contracts = field(default_factory=Contracts)
    layouts: Layouts = field(default_factory=Layouts)

    @property
    def own_target(self) -> TargetJob:
        """The target, which is one of dativo's own. Raises ConfigError for any other."""
        if isinstance(self.target, ForeignTargetJob):
            raise ConfigError(
                f"{self.target.connector} keeps its own data: dativo knows no tables and files of it",
                Where(file=str(self.path), pointer="/target/connector"),
            )
        return self.target

    @property
    def workspace(self) -> Path:
        """The folder of the job file: base of relative paths, home of dativo.lock."""
        return self.path.parent


def references(config: Config) -> Iterator[SecretRef]:
    """Yield every secret reference in ``config``, in order."""
    if isinstance(config, SecretRef):
        yield config
    elif isinstance(config, Mapping):
        for value in config.values():
            yield from references(value)
    elif isinstance(config, list):
        for value in config:
            yield from references(value)


def load_job(path: Path, variables: Mapping[str, str | None]) -> Job:
    """Read the job at ``path``.

    ``variables``: every name that the policy lists, None where it is not set (``Policy.variables``).
    Raises ConfigError with file, line, column and pointer; NotPermitted for a variable that is not listed.
    """
    try:
        path = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"cannot read the job {path}: {getattr(error, 'strerror', None) or error}"
        ) from error
    written = load_yaml(path, "job")
    document = expansion.expand(written, {**variables, JOB_DIR: str(path.parent)})
    said = shapes.read(shapes.JOB, document, "job")
    if said["target"]["connector"] not in shapes.OWN_TARGETS and "numbers" in said["source"]:
        raise ConfigError(
            "a foreign target is sent the numbers as the source wrote them",
            document.where(("source", "numbers")),
            hint="Leave `numbers` out",
        )
    return Job(
        path=path,
        pipeline=said["pipeline"],
        source=_source(said["source"], document, path.parent),
        target=_target(said["target"], document, path.parent),
        limits=replace(ReadLimits(), **said.get("limits", {})),
        digest=written.digest(),
        contracts=Contracts.read(said.get("contracts", {})),
        layouts=Layouts.read(said.get("layout", {})),
    )


def _source(said: Mapping[str, Any], document: Document, workspace: Path) -> SourceJob:
    config, grants = _connector("source", said, document, workspace)
    return SourceJob(
        said["connector"],
        config,
        said.get("streams", ()),
        grants,
        said.get("strict", False),
        said.get("numbers", "double"),
    )


def _connector(
    part: str, said: Mapping[str, Any], document: Document, workspace: Path
) -> tuple[Mapping[str, Config], Grants]:
    """Return configuration and requested grants of a connector in ``part`` of the job."""
    config = _config(said.get("config", {}), (part, "config"), document)
    if isinstance(config, SecretRef):
        raise ConfigError(
            "`config` must be a mapping; a secret goes into one of its values",
            document.where((part, "config")),
        )
    grants = Grants.requested(
        said.get("grants", {}),
        workspace,
        tuple(str(ref) for ref in dict.fromkeys(references(config))),
        lambda key: document.where((part, "grants", *key)),
    )
    return config, grants


def _target(
    said: Mapping[str, Any], document: Document, workspace: Path
) -> TargetJob | ForeignTargetJob:
    if said["connector"] not in shapes.OWN_TARGETS:
        return ForeignTargetJob(said["connector"], *_connector("target", said, document, workspace))
    fields = {"bytes": "max_bytes", "rows": "max_rows", "time": "max_seconds"}
    epoch = {fields[key]: value for key, value in said.get("epoch", {}).items()}
    return TargetJob(
        connector=said["connector"],
        warehouse=Path(os.path.realpath(workspace / said["config"]["warehouse"])),
        namespace=said["config"]["namespace"],
        mode=said.get("mode", "append"),
        epoch=replace(EpochLimits(), **epoch),
        metadata=said.get("metadata", "none"),
        network=collect(
            said.get("grants", {}).get("network", ()),
            document.where(("target", "grants", "network")),
        ),
    )


def _config(value: Any, location: Location, document: Document) -> Any:
    """Return ``value`` with every ``{secret: reference}`` as a SecretRef."""
    if isinstance(value, dict):
        if value.keys() == {expansion.SECRET_KEY}:
            where = document.where((*location, expansion.SECRET_KEY))
            return SecretRef.parse(value[expansion.SECRET_KEY], where)
        return {key: _config(item, (*location, key), document) for key, item in value.items()}
    if isinstance(value, list):
        return [_config(item, (*location, index), document) for index, item in enumerate(value)]
    return value
