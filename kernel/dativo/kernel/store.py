"""The store: one folder per installed environment, with its record and the list of its files.

    <store>/plugins/<package>/<version>-<lock digest>/{env/, files.txt, record.json}

It is the operator's, outside every workspace; a plugin sees its own environment read-only. The record says what was installed and
which digest the environment must have; the workspace's lock only chooses among records.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dativo.kernel import limits, lock, tree
from dativo.kernel.document import load_json
from dativo.kernel.lock import Locked
from dativo.kernel.paths import Paths
from dativo.protocol.errors import ConfigError, Where

RECORD_FILE: Final = "record.json"
LISTING_FILE: Final = "files.txt"
ENV_FOLDER: Final = "env"


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

    def argv(self, env_folder: Path) -> tuple[str, str]:
        """Return the command. The interpreter stands in it by name, since Linux cuts long shebang lines."""
        return (str(env_folder / "bin/python"), str(env_folder / "bin" / self.script))


def record_of(entry: Locked, paths: Paths) -> Record | None:
    """Return the store's record of a locked plugin, or None when it is not installed. Raises ConfigError."""
    file = paths.plugins / entry.folder / RECORD_FILE
    if not file.exists():
        return None
    value = load_json(file, "the store's record", limits.JOB_BYTES, trusted=True).value
    try:
        return Record(**value)  # type: ignore[arg-type]  # as asdict wrote it
    except TypeError as error:
        raise ConfigError(
            "the store's record of a plugin is damaged",
            Where(file=str(file)),
            hint=again(entry, paths),
        ) from error


def check(entry: Locked, record: Record, paths: Paths, *, always: bool = False) -> None:
    """Check that the store holds what the lock says and that no file changed. Raises TreeMismatch.

    ``always``: hash every file, whatever its metadata.
    """
    folder = paths.plugins / entry.folder
    locked = entry.contents.get(lock.platform_name())
    if locked != record.contents:
        raise tree.TreeMismatch(
            f"the lock has {'other' if locked else 'no'} contents for {entry.reference} "
            f"{entry.version} on {lock.platform_name()}",
            Where(file=str(folder)),
            hint=f"dativo plugin add {entry.reference}",
        )
    env_folder, listing = folder / ENV_FOLDER, folder / LISTING_FILE
    try:
        tree.check(env_folder, listing, record.tree, paths.cache, always=always)
    except tree.TreeMismatch as error:
        error.hint = again(entry, paths)
        raise


def again(entry: Locked, paths: Paths) -> str:
    """Return what to type to install a plugin anew: an environment without its record is not installed."""
    record = paths.plugins / entry.folder / RECORD_FILE
    return f"Install it again: rm {record}; dativo plugin add {entry.reference}"
