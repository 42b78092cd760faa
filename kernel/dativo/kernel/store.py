"""The store: one folder per installed environment and per image, with its record and the list of its files.

    <store>/plugins/<package>/<version>-<lock digest>/{env/, files.txt, record.json}
    <store>/images/<id>/{root/, files.txt, record.json}

It is the operator's, outside every workspace; a plugin sees its own environment read-only. The record says what was installed and
which digest the environment must have; the workspace's lock only chooses among records.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dativo.kernel import limits, lock, tree
from dativo.kernel.document import load_json
from dativo.kernel.lock import Entry, Locked, LockedImage
from dativo.kernel.paths import Paths
from dativo.protocol.errors import ConfigError, Where

RECORD_FILE: Final = "record.json"
LISTING_FILE: Final = "files.txt"
ENV_FOLDER: Final = "env"
ROOT_FOLDER: Final = "root"


@dataclass(frozen=True, slots=True)
class Record:
    """What the store knows about one environment. ``tree`` is the digest checked at each launch, ``contents`` the lock's."""

    reference: str
    kind: str
    package: str
    version: str
    python: str
    prefix: str
    script: str
    contents: str
    tree: str
    files: int
    bytes: int

    @property
    def digest(self) -> str:
        """The artefact of an approval."""
        return self.tree

    def argv(self, env_folder: Path) -> tuple[str, str]:
        """Return the command. The interpreter stands in it by name, since Linux cuts long shebang lines."""
        return (str(env_folder / "bin/python"), str(env_folder / "bin" / self.script))


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What the store knows about one image. ``argv``, ``environment``, ``folder``, ``user``, ``labels`` are the image's words."""

    image: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    folder: str
    user: str
    labels: dict[str, str]
    tree: str
    files: int
    bytes: int

    @property
    def contents(self) -> str:
        """The lock's digest: nothing in a root depends on where it was unpacked."""
        return self.tree

    @property
    def digest(self) -> str:
        """The artefact of an approval: what the image says of how it is run, and every file."""
        return hashlib.sha256(f"{self.image}\n{self.tree}".encode()).hexdigest()


def folder_of(entry: Entry, paths: Paths) -> Path:
    """Return the folder of a locked plugin in the store."""
    return (paths.images if isinstance(entry, LockedImage) else paths.plugins) / entry.folder


def record_of(entry: Locked, paths: Paths) -> Record | None:
    """Return the store's record of a locked plugin, or None when it is not installed. Raises ConfigError."""
    value = _record_text(entry, paths)
    try:
        return None if value is None else Record(**value)
    except TypeError as error:
        raise _damaged(entry, paths) from error


def image_record_of(entry: LockedImage, paths: Paths) -> ImageRecord | None:
    """The same for an image."""
    value = _record_text(entry, paths) if entry.folder else None
    try:
        return None if value is None else ImageRecord(**{**value, "argv": tuple(value["argv"])})
    except (KeyError, TypeError) as error:
        raise _damaged(entry, paths) from error


def _record_text(entry: Entry, paths: Paths) -> dict[str, Any] | None:
    file = folder_of(entry, paths) / RECORD_FILE
    if not file.exists():
        return None
    value = load_json(file, "the store's record", limits.RECORD_BYTES, trusted=True).value
    return value if isinstance(value, dict) else {}


def _damaged(entry: Entry, paths: Paths) -> ConfigError:
    return ConfigError(
        "the store's record of a plugin is damaged",
        Where(file=str(folder_of(entry, paths) / RECORD_FILE)),
        hint=again(entry, paths),
    )


def check(
    entry: Entry, record: Record | ImageRecord, paths: Paths, *, always: bool = False
) -> None:
    """Check that the store holds what the lock says and that no file changed. Raises TreeMismatch.

    ``always``: hash every file, whatever its metadata.
    """
    folder = folder_of(entry, paths)
    locked = entry.contents.get(lock.platform_name())
    if locked != record.contents:
        raise tree.TreeMismatch(
            f"the lock has {'other' if locked else 'no'} contents for {entry.reference} "
            f"{entry.version} on {lock.platform_name()}",
            Where(file=str(folder)),
            hint=f"dativo plugin add {argument(entry)}",
        )
    files = folder / (ROOT_FOLDER if isinstance(entry, LockedImage) else ENV_FOLDER)
    try:
        tree.check(files, folder / LISTING_FILE, record.tree, paths.cache, always=always)
    except tree.TreeMismatch as error:
        error.hint = again(entry, paths)
        raise


def again(entry: Entry, paths: Paths) -> str:
    """Return what to type to install a plugin anew: an environment without its record is not installed."""
    record = folder_of(entry, paths) / RECORD_FILE
    return f"Install it again: rm {record}; dativo plugin add {argument(entry)}"


def argument(entry: Entry) -> str:
    """Return what ``dativo plugin add`` is told to install a locked plugin."""
    if not isinstance(entry, LockedImage):
        return entry.reference
    name = entry.reference.removeprefix(lock.IMAGE)
    return f"{lock.IMAGE}ARCHIVE --name {name}, with the archive that it came from"
