"""``plugin.yaml``: what a plugin says about itself (docs/spec/manifest.md). A request; the operator grants.

Found, never imported: dativo's own plugins by scanning the folders of the namespace ``dativo.plugins``, a workspace's by path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from dativo.kernel._version import VERSION
from dativo.kernel.document import load_yaml
from dativo.protocol.errors import ConfigError, Where

FILE: Final = "plugin.yaml"
API_VERSION: Final = (1, 0)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One plugin.yaml. ``entry`` is the module, or the file or executable below ``folder``, as ``entry_kind`` says."""

    folder: Path
    name: str
    version: str
    type: Literal["reader", "transformer", "writer"]
    language: Literal["python", "rust", "any"]
    protocol: Literal["airbyte", "singer", "native"]
    entry_kind: Literal["module", "file", "executable"]
    entry: str
    arguments: tuple[str, ...]
    dependencies: tuple[str, ...]
    digest: str


def load(folder: Path) -> Manifest:
    """Read ``folder``/plugin.yaml. Raises ConfigError with line and column, also when this dativo is too old or too new."""
    from dativo.kernel import shapes

    document = load_yaml(folder / FILE, FILE)
    shape = shapes.read(shapes.PluginShape, document, FILE)
    wanted = tuple(int(part) for part in shape.api_version.split("."))
    if wanted[0] != API_VERSION[0] or wanted[1:] > API_VERSION[1:]:
        raise ConfigError(
            f"plugin {shape.name} needs version {shape.api_version} of the plugin interface, "
            f"this dativo has {API_VERSION[0]}.{API_VERSION[1]}",
            document.where(("api_version",)),
        )
    bounds = shape.compatibility
    for key, bound, above in (
        ("platform_min", bounds.platform_min, False),
        ("platform_max", bounds.platform_max, True),
    ):
        if bound is not None and _outside(bound, above):
            raise ConfigError(
                f"plugin {shape.name} does not work with dativo {VERSION}",
                document.where(("compatibility", key)),
                value=bound,
            )
    entry = shape.entry_point
    kind: Literal["module", "file", "executable"] = (
        "module" if entry.module else "file" if entry.file else "executable"
    )
    return Manifest(
        folder=folder,
        name=shape.name,
        version=shape.version,
        type=shape.type,
        language=shape.language,
        protocol=shape.protocol,
        entry_kind=kind,
        entry=entry.module or entry.file or entry.executable or "",
        arguments=tuple(entry.arguments),
        dependencies=tuple(shape.dependencies),
        digest=hashlib.sha256(f"{VERSION}\n{document.digest()}".encode()).hexdigest(),
    )


def _outside(bound: str, above: bool) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        limit = Version(bound)
    except InvalidVersion:
        return True
    return Version(VERSION) > limit if above else Version(VERSION) < limit


def first_party(name: str) -> Manifest:
    """Return dativo's own plugin ``name``. Raises ConfigError that lists what there is."""
    names = []
    for folder in _own_folders():
        if (folder / FILE).exists():
            names.append(folder.name)
            if folder.name == name:
                found = load(folder)
                if found.name != name:
                    raise ConfigError(
                        f"plugin {found.name} lies in a folder of another name",
                        Where(file=str(folder / FILE), pointer="/name"),
                    )
                return found
    raise ConfigError(f"dativo has no plugin {name}", hint=f"It has: {', '.join(sorted(names))}")


def _own_folders() -> Iterator[Path]:
    spec = find_spec("dativo.plugins")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield from (folder for folder in Path(place).iterdir() if folder.is_dir())
