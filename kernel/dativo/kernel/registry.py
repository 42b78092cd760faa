"""From a name in a job to a program: which files it is made of, by digest, and how it is started. It never imports one.

`airbyte:…`, `singer:…` and `image:…` come from dativo.lock and the store; `iceberg`, `parquet` and `files` are dativo's own;
`./folder` and any other bare name is a `plugin.yaml` in the workspace.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from dativo.kernel import environment, lock, manifest, store, tree
from dativo.kernel.lock import Locked, LockedImage
from dativo.kernel.paths import Paths
from dativo.protocol.catalog import Dialect
from dativo.protocol.errors import ConfigError, InternalError, Where
from dativo.sandbox import Container

Role: TypeAlias = Literal["source", "target"]
OWN_TARGETS: Final = ("iceberg", "parquet")
OWN_SOURCES: Final = ("files",)
_ROLES: Final[dict[str, Role]] = {"reader": "source", "writer": "target"}


@dataclass(frozen=True, slots=True)
class Installed:
    """A program that can be started.

    ``role``: whether records come out of it or go into it; ``batches``: a source that can write batches (docs/spec/batch.md).
    ``digest``: SHA-256 (hex) of what runs, the artefact of an approval.
    ``argv`` is complete but for the verb. ``runtime``: paths it needs to read, to be bound read-only at the same place;
    /usr is not among them. ``path``: its own folder of commands, for PATH. Of an image there are its id (``image``), its root
    file system (``root``), the ``environment`` that it asks for, its working folder (``cwd``); and the ``container`` that it
    runs in, where the policy has a Docker Engine run it.
    """

    reference: str
    kind: Literal["airbyte", "singer", "native"]
    version: str
    digest: str
    argv: tuple[str, ...]
    runtime: tuple[Path, ...]
    path: tuple[str, ...] = ()
    role: Role = "source"
    root: Path | None = None
    environment: tuple[tuple[str, str], ...] = ()
    cwd: str = "/tmp"  # noqa: S108  # inside, a tmpfs of its own
    image: str | None = None
    container: Container | None = None
    batches: bool = False

    @property
    def dialect(self) -> Dialect:
        """The foreign protocol it speaks. Raises ConfigError for a native plugin."""
        if self.kind == "native":
            raise ConfigError(f"{self.reference} speaks neither Airbyte nor Singer")
        return self.kind


def find_source(
    reference: str, workspace: Path, paths: Paths, *, verify: bool = False
) -> Installed:
    """Return the connector that a job in ``workspace`` calls ``reference``, after its files were checked.

    ``verify``: hash every file, whatever its metadata. Blocks for up to 0.1 s for 20,000 unchanged files.
    Raises ConfigError with what to type, also for a target, and TreeMismatch for changed files.
    """
    return _in_role("source", find_plugin(reference, workspace, paths, verify=verify))


def find_target(
    reference: str, workspace: Path | None = None, paths: Paths | None = None
) -> Installed:
    """Return the target ``reference``: dativo's own without ``workspace`` and ``paths``, else any. Raises as find_source does."""
    if workspace is None or paths is None:
        return _own_target(reference)
    return _in_role("target", find_plugin(reference, workspace, paths))


def find_plugin(
    reference: str, workspace: Path, paths: Paths, *, verify: bool = False
) -> Installed:
    """Return the source or target ``reference``, after its files were checked. Raises as find_source does."""
    if reference in OWN_TARGETS:
        return _own_target(reference)
    if reference in OWN_SOURCES:
        return _own_source(reference)
    if reference.startswith(lock.IMAGE):
        return _image(reference, workspace, paths, verify=verify)
    if not lock.is_packaged(reference):
        return _local(reference, workspace)
    wanted = lock.parse_reference(reference)
    file = workspace / lock.LOCK_FILE
    if wanted.specifier or wanted.extras:
        raise ConfigError(
            f"the version of {wanted.name} comes from {lock.LOCK_FILE}",
            value=reference,
            hint=f"Write {wanted.name} here, and run: dativo plugin add {reference}",
        )
    entry = lock.load_lock(file).get(wanted.name)
    if not isinstance(entry, Locked):
        raise _not_locked(wanted.name, file, wanted.name)
    record = store.record_of(entry, paths)
    if record is None:
        raise _not_installed(entry, file)
    store.check(entry, record, paths, always=verify)
    return installed(entry, record, paths)


def _image(reference: str, workspace: Path, paths: Paths, *, verify: bool) -> Installed:
    file = workspace / lock.LOCK_FILE
    entry = lock.load_lock(file).get(reference)
    if not isinstance(entry, LockedImage):
        name = reference.removeprefix(lock.IMAGE)
        raise _not_locked(reference, file, f"{lock.IMAGE}ARCHIVE --name {name}")
    record = store.image_record_of(entry, paths)
    if record is None:
        raise _not_installed(entry, file)
    store.check(entry, record, paths, always=verify)
    return installed_image(entry, record, paths)


def _not_locked(name: str, file: Path, argument: str) -> ConfigError:
    return ConfigError(
        f"{name} is not in {lock.LOCK_FILE}",
        Where(file=str(file), plugin=name),
        hint=f"dativo plugin add {argument}",
    )


def _not_installed(entry: lock.Entry, file: Path) -> ConfigError:
    return ConfigError(
        f"{entry.reference} {entry.version} is locked but not installed here",
        Where(file=str(file), plugin=entry.reference),
        hint=f"dativo plugin add {store.argument(entry)}",
    )


def _in_role(role: Role, found: Installed) -> Installed:
    if found.role != role:
        raise ConfigError(
            f"{found.reference} is a {found.role}, not a {role}", Where(plugin=found.reference)
        )
    return found


def installed(entry: Locked, record: store.Record, paths: Paths) -> Installed:
    """Return how the plugin of a checked record is started. Raises ConfigError when its Python is gone."""
    env_folder = paths.plugins / entry.folder / store.ENV_FOLDER
    if not (env_folder / "bin/python").exists():
        raise ConfigError(
            f"the Python {record.python} that {entry.reference} was installed with is gone",
            Where(file=record.prefix, plugin=entry.reference),
            hint=store.again(entry, paths),
        )
    return Installed(
        reference=entry.reference,
        kind=entry.kind,
        version=record.version,
        digest=record.tree,
        argv=record.argv(env_folder),
        runtime=_runtime((env_folder, Path(record.prefix))),
        path=(str(env_folder / "bin"),),
        role="target" if record.script.startswith(("target-", "destination-")) else "source",
    )


def installed_image(entry: LockedImage, record: store.ImageRecord, paths: Paths) -> Installed:
    """Return how the connector of a checked image is started. Its digest covers what the image says and every file of it."""
    name = record.labels.get("io.airbyte.name", "").rpartition("/")[2]
    named = (entry.reference.removeprefix(lock.IMAGE), name)
    return Installed(
        reference=entry.reference,
        kind="airbyte",
        version=entry.version,
        digest=record.digest,
        argv=record.argv,
        runtime=(),
        role="target" if any(each.startswith("destination-") for each in named) else "source",
        root=store.folder_of(entry, paths) / store.ROOT_FOLDER,
        environment=tuple(sorted(record.environment.items())),
        cwd=record.folder,
        image=entry.images[lock.platform_name()],
    )


def listing(workspace: Path, paths: Paths) -> list[dict[str, str]]:
    """Return reference, version, Python, digest and state (installed, missing) of every locked plugin."""
    found = []
    for reference, entry in sorted(lock.load_lock(workspace / lock.LOCK_FILE).items()):
        if isinstance(entry, LockedImage):
            record: store.Record | store.ImageRecord | None = store.image_record_of(entry, paths)
        else:
            record = store.record_of(entry, paths)
        found.append(
            {
                "reference": reference,
                "version": entry.version,
                "python": record.python if isinstance(record, store.Record) else entry.python,
                "digest": record.digest if record else "",
                "newest": entry.newest or "",
                "state": "installed" if record else "missing",
            }
        )
    return found


def _local(reference: str, workspace: Path) -> Installed:
    """Return a plugin of the workspace: ``./folder`` below it, or the bare name of a folder in its ``plugins``."""
    named = "/" in reference
    folder = workspace / reference if named else workspace / "plugins" / reference
    real = Path(os.path.realpath(folder))
    if not real.is_relative_to(os.path.realpath(workspace)):
        raise ConfigError(
            f"the plugin {reference} lies outside the workspace", Where(file=str(real))
        )
    if not (real / manifest.FILE).is_file():
        raise ConfigError(
            f"there is no connector {reference}",
            Where(file=str(real / manifest.FILE)),
            hint="Write airbyte:NAME, singer:NAME, image:NAME, or the folder of a plugin.yaml such as ./plugins/mine",
        )
    found = manifest.load(real)
    where = Where(file=str(real / manifest.FILE), plugin=found.name)
    role = _ROLES.get(found.type)
    if role is None:
        raise ConfigError(f"a {found.type} cannot be started yet", where)
    if found.protocol == "native":
        raise ConfigError(
            "the native protocol for plugins of a workspace is not built yet",
            where,
            hint="protocol: airbyte or protocol: singer",
        )
    if found.dependencies:
        raise ConfigError("dependencies of a workspace's plugin are not built yet", where)
    if found.entry_kind == "module":
        raise ConfigError(
            "a workspace's plugin is started by `file` or `executable`, not by `module`", where
        )
    program = Path(os.path.realpath(real / found.entry))
    if not program.is_relative_to(real) or not program.is_file():
        raise ConfigError(f"its entry point {found.entry} is not a file beside plugin.yaml", where)
    runtime: tuple[Path, ...] = (real,)
    start: tuple[str, ...] = (str(program),)
    if found.entry_kind == "file":
        # A workspace's plugin gets the standard library: not dativo's dependencies, nor what was installed beside the base
        # interpreter, of which its digest tells nothing.
        base = os.path.realpath(sys.executable)
        start = (base, "-S", "-B", str(program))
        runtime = (real, Path(sys.base_prefix))
    elif not os.access(program, os.X_OK):
        raise ConfigError(f"its entry point {found.entry} is not executable", where)
    return Installed(
        reference=reference,
        kind=found.protocol,
        version=found.version,
        digest=tree.measure(real).digest,
        argv=(*start, *found.arguments),
        runtime=_runtime(runtime),
        role=role,
        batches="batches" in found.features,
    )


def _own_target(name: str) -> Installed:
    found = manifest.first_party(name)
    if found.type != "writer" or found.entry_kind != "module":
        raise InternalError(f"plugin {name} is not a target", Where(file=str(found.folder)))
    return Installed(
        reference=name,
        kind="native",
        version=found.version,
        digest=found.digest,
        argv=(*own_module(found.entry), *found.arguments),
        runtime=own_runtime(),
        role="target",
    )


def _own_source(name: str) -> Installed:
    """Return a source of dativo's own: an executable that lies with ours, confined as any other. Its digest covers the file."""
    found = manifest.first_party(name)
    if found.type != "reader" or found.protocol == "native" or found.entry_kind != "executable":
        raise InternalError(f"plugin {name} is not a source", Where(file=str(found.folder)))
    program = executable(found.entry, os.environ)
    with program.open("rb") as file:
        contents = hashlib.file_digest(file, "sha256").hexdigest()
    return Installed(
        reference=name,
        kind=found.protocol,
        version=found.version,
        digest=hashlib.sha256(f"{found.digest}\n{contents}".encode()).hexdigest(),
        argv=(str(program), *found.arguments),
        runtime=_runtime((program,)),
        batches="batches" in found.features,
    )


def own_module(name: str) -> tuple[str, ...]:
    """Return the command that runs a module of dativo's own plugins; ``own_runtime`` is what it reads."""
    return (sys.executable, "-I", "-m", name)


def own_runtime() -> tuple[Path, ...]:
    """Return the interpreter, the packages and dativo itself, as they lie on this machine."""
    return _runtime((Path(sys.prefix), Path(sys.base_prefix), *map(Path, filter(None, sys.path))))


def _runtime(wanted: Iterable[Path]) -> tuple[Path, ...]:
    """Return the paths that exist and that no other one, nor /usr, holds."""
    kept: list[Path] = []
    for path in (Path(os.path.normpath(path)) for path in wanted):
        if path.exists() and not any(path.is_relative_to(held) for held in (*kept, Path("/usr"))):
            kept.append(path)
    return tuple(kept)


def executable(name: str, env: Mapping[str, str]) -> Path:
    """Return dativo's executable ``name``: from DATIVO_BIN_DIR, else the installation's scripts folder; never from PATH."""
    folder = env.get(environment.DATIVO_BIN_DIR.name) or sysconfig.get_path("scripts")
    file = Path(folder) / name
    if not file.is_absolute() or not os.access(file, os.X_OK):
        raise ConfigError(
            f"dativo's executable {name} is not in {folder}",
            hint=f"Build it with `make setup`, or set {environment.DATIVO_BIN_DIR} to its folder",
        )
    return file
