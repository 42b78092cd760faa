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

from dativo.kernel import shapes
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
    features: tuple[str, ...]
    digest: str


def load(folder: Path) -> Manifest:
    """Read ``folder``/plugin.yaml. Raises ConfigError with line and column, also when this dativo is too old or too new."""
    document = load_yaml(folder / FILE, FILE)
    said = shapes.read(shapes.PLUGIN, document, FILE)
    wanted = tuple(int(part) for part in said["api_version"].split("."))
    if wanted[0] != API_VERSION[0] or wanted[1:] > API_VERSION[1:]:
        raise ConfigError(
            f"plugin {said['name']} needs version {said['api_version']} of the plugin interface, "
            f"this dativo has {API_VERSION[0]}.{API_VERSION[1]}",
            document.where(("api_version",)),
        )
    for key, bound in said.get("compatibility", {}).items():
        if _outside(bound, above=key == "platform_max"):
            raise ConfigError(
                f"plugin {said['name']} does not work with dativo {VERSION}",
                document.where(("compatibility", key)),
                value=bound,
            )
    entry = said["entry_point"]
    kind: Literal["module", "file", "executable"] = (
        "module" if "module" in entry else "file" if "file" in entry else "executable"
    )
    return Manifest(
        folder=folder,
        name=said["name"],
        version=said["version"],
        type=said["type"],
        language=said["language"],
        protocol=said.get("protocol", "native"),
        entry_kind=kind,
        entry=entry[kind],
        arguments=entry.get("arguments", ()),
        dependencies=said.get("dependencies", ()),
        features=said.get("features", ()),
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
