"""``dativo.lock``: which plugins a workspace uses, to the byte (docs/spec/manifest.md).

It lies in the workspace, so it is a request: it chooses among what the operator installed and proves that this is the same, and
it never says where or how to run anything. For each plugin it holds every requirement with the hashes of its wheels, and per
platform the digest of the files that came out of them. A package without a wheel is built here, confined: then the hash is
that of its sdist, and what builds it is locked too. An image is locked by the hash of its configuration and of its files.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from dativo.kernel import limits, shapes
from dativo.kernel.document import load_json, write_atomic
from dativo.protocol.errors import ConfigError, Where

LOCK_FILE: Final = "dativo.lock"
IMAGE: Final = "image:"
Kind = Literal["airbyte", "singer"]


@dataclass(frozen=True, slots=True)
class Reference:
    """A connector from the package index: ``airbyte:source-faker`` is PyPI's ``airbyte-source-faker``."""

    kind: Kind
    package: str
    extras: tuple[str, ...] = ()
    specifier: str = ""

    @property
    def name(self) -> str:
        """The short form without version, as jobs and locks write it."""
        short = self.package.removeprefix("airbyte-") if self.kind == "airbyte" else self.package
        return f"{self.kind}:{short}"

    @property
    def requirement(self) -> str:
        """The PEP 508 requirement."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{self.package}{extras}{self.specifier}"


def is_packaged(reference: str) -> bool:
    """Tell whether ``reference`` is ``airbyte:…`` or ``singer:…``."""
    return reference.startswith(("airbyte:", "singer:"))


def parse_reference(text: str) -> Reference:
    """Return the reference that ``text`` writes: kind, PEP 508 name, extras, versions. Raises ConfigError.

    Addresses, markers and options are refused: a reference only ever names something in the index.
    """
    hint = "Write airbyte:source-faker==7.2.1 or singer:tap-jsonl==0.3.1"
    kind, _, rest = text.partition(":")
    if kind not in ("airbyte", "singer") or len(text) > 256:
        raise ConfigError("this is not a connector of the package index", value=text, hint=hint)
    if plain := re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", rest):
        return Reference(kind, _package(kind, plain[0]))  # type: ignore[arg-type]  # checked above
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        parsed = Requirement(rest)
    except InvalidRequirement as error:
        raise ConfigError(
            f"this is not a package name with a version: {str(error).splitlines()[0]}",
            value=text,
            hint=hint,
        ) from error
    if parsed.url is not None or parsed.marker is not None:
        raise ConfigError("addresses and markers are not allowed here", value=text, hint=hint)
    return Reference(
        kind,  # type: ignore[arg-type]  # checked above
        _package(kind, parsed.name),
        tuple(sorted(parsed.extras)),
        str(parsed.specifier),
    )


def _package(kind: str, name: str) -> str:
    """Return the normalised name of the package."""
    package = normal(name)
    airbyte = kind == "airbyte" and not package.startswith("airbyte-")
    return f"airbyte-{package}" if airbyte else package


def normal(name: str) -> str:
    """Return the name of a package as indexes and locks compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True, slots=True)
class Locked:
    """One plugin of the lock. ``newest`` is set when the resolver chose an older version than the index has.

    ``built``: each package whose requirement holds the hash of an sdist, with the requirements that it is built with.
    """

    reference: str
    kind: Kind
    package: str
    version: str
    requested: str
    newest: str | None
    python: str
    script: str
    requirements: tuple[str, ...] = field(repr=False)
    contents: Mapping[str, str] = field(default_factory=dict)
    built: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what is to be installed: Python version and requirements with their hashes, those of builds too."""
        building = (line for name in sorted(self.built) for line in (f"{name}:", *self.built[name]))
        text = "\n".join((self.python, *self.requirements, *building))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def folder(self) -> str:
        """The folder of its environment below ``Paths.plugins``."""
        return f"{self.package}/{self.version}-{self.digest[:12]}"


@dataclass(frozen=True, slots=True)
class LockedImage:
    """An image of the lock. For each platform ``images`` has its id, the SHA-256 of its configuration, and ``contents`` the
    digest of its unpacked root.
    """

    reference: str
    version: str
    images: Mapping[str, str]
    contents: Mapping[str, str]
    kind: Literal["image"] = "image"
    newest: None = None
    python: str = ""

    @property
    def folder(self) -> str:
        """The folder of its root below ``Paths.images``; empty when the lock has no image for this platform."""
        return self.images.get(platform_name(), "")


Entry: TypeAlias = Locked | LockedImage


def platform_name() -> str:
    """Return the platform that wheels are chosen for, such as ``linux-x86_64``."""
    return f"linux-{platform.machine()}"


def load_lock(path: Path) -> dict[str, Entry]:
    """Return the plugins of the lock at ``path`` by reference; none when there is no file. Raises ConfigError."""
    if not path.exists():
        return {}
    said = shapes.read(shapes.LOCK, load_json(path, LOCK_FILE, limits.LOCK_BYTES), LOCK_FILE)
    found: dict[str, Entry] = {}
    for reference, entry in said["plugins"].items():
        if not reference.startswith(f"{entry['kind']}:"):
            raise ConfigError(
                f"{LOCK_FILE}: {reference} is not of kind {entry['kind']}", Where(file=str(path))
            )
        if entry["kind"] == "image":
            found[reference] = LockedImage(reference, **entry)
        else:
            found[reference] = Locked(reference=reference, **{"newest": None, **entry})
    return found


def save_lock(path: Path, plugins: Mapping[str, Entry]) -> None:
    """Write the lock: the same plugins always give the same bytes."""
    write_atomic(path, lock_text(plugins))


def lock_text(plugins: Mapping[str, Entry]) -> str:
    """Return the lock's text: JSON, sorted, one requirement a line."""
    entries: dict[str, Any] = {}
    for reference in sorted(plugins):
        entry = plugins[reference]
        if isinstance(entry, LockedImage):
            entries[reference] = {
                "kind": entry.kind,
                "version": entry.version,
                "images": dict(sorted(entry.images.items())),
                "contents": dict(sorted(entry.contents.items())),
            }
            continue
        entries[reference] = {
            "kind": entry.kind,
            "package": entry.package,
            "version": entry.version,
            "requested": entry.requested,
            **({"newest": entry.newest} if entry.newest else {}),
            "python": entry.python,
            "script": entry.script,
            "contents": dict(sorted(entry.contents.items())),
            "requirements": list(entry.requirements),
        }
        if entry.built:
            entries[reference]["built"] = {k: list(v) for k, v in sorted(entry.built.items())}
    return json.dumps({"version": 1, "plugins": entries}, indent=2, ensure_ascii=False) + "\n"
