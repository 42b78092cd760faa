"""The deny list: plugins that must not run, by name, by name and version, or by the digest of their files.

Entries stand in the policy, or are kept by ``dativo grants block`` as one file each in ``<config>/blocked``, so that no command
rewrites what a person wrote. Both hold for runs that are under way (``running.DenyList``).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from dativo.kernel import document, limits
from dativo.kernel.paths import Paths, make_folder
from dativo.protocol.errors import ConfigError, Where

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NAMED: Final = re.compile(
    r"([A-Za-z0-9.][A-Za-z0-9._:/@-]{0,254})(?:==([A-Za-z0-9][A-Za-z0-9.!+_-]{0,127}))?"
)
_MAX_REASON_CHARS: Final = 1000
_KEYS: Final = {"version", "what", "reason", "blocked_at", "blocked_by"}


@dataclass(frozen=True, slots=True)
class Block:
    """A plugin that must not run: by name, by name and version, or by digest (hex). ``kept`` is the file of a command's entry."""

    name: str | None
    version: str | None
    digest: str | None
    reason: str | None
    kept: Path | None = field(default=None, compare=False)

    def fits(self, reference: str, version: str, digest: str) -> bool:
        """Whether it means this plugin. A name is the reference or that of the package."""
        if self.digest is not None:
            return self.digest == digest
        return self.name in names(reference) and self.version in (None, version)

    def __str__(self) -> str:
        if self.digest is not None:
            return self.digest
        return f"{self.name}=={self.version}" if self.version else str(self.name)


def names(reference: str) -> tuple[str, ...]:
    """Return what a plugin is called: its reference, its package with and without ``airbyte-``, or its folder's name."""
    short = reference.rpartition(":")[2]
    prefixed = (f"airbyte-{short}",) if reference.startswith("airbyte:") else ()
    return (reference, short, *prefixed, reference.rstrip("/").rpartition("/")[2])


def parse(text: str, reason: str | None = None) -> Block:
    """Read ``NAME``, ``NAME==VERSION`` or a digest of 64 hexadecimal digits. Raises ConfigError."""
    if reason is not None and len(reason) > _MAX_REASON_CHARS:
        raise ConfigError(f"a reason has at most {_MAX_REASON_CHARS} characters")
    if _DIGEST.fullmatch(text):
        return Block(None, None, text, reason)
    if found := _NAMED.fullmatch(text):
        return Block(found[1], found[2], None, reason)
    raise ConfigError(
        "this names no plugin",
        value=text,
        hint="NAME, NAME==VERSION, or the digest of its files: 64 hexadecimal digits",
    )


def keep(block: Block, paths: Paths) -> Path:
    """Put ``block`` on the list; twice is once. Returns its file. Raises ConfigError."""
    paths.ensure()
    make_folder(paths.blocked, 0o700 if paths.private_config else 0o755)
    entry = {
        "version": 1,
        "what": str(block),
        "reason": block.reason,
        "blocked_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "blocked_by": f"uid {os.getuid()}",
    }
    file = _file(block, paths)
    document.write_atomic(file, json.dumps(entry, indent=2, ensure_ascii=False) + "\n")
    return file


def lift(block: Block, paths: Paths) -> None:
    """Take ``block`` from the list. Raises ConfigError when it is not there."""
    try:
        _file(block, paths).unlink()
    except FileNotFoundError:
        raise ConfigError(
            f"{block} was not blocked by a command",
            hint=f"See: dativo grants show. What {paths.policy} blocks is lifted there",
        ) from None


def kept(paths: Paths) -> tuple[Block, ...]:
    """Return what the commands have blocked. Raises ConfigError for a damaged entry, or one that others can write."""
    if not paths.blocked.is_dir():
        return ()
    document.check_owner(paths.blocked.stat(), paths.blocked, "the folder of blocked plugins")
    files = sorted(file for file in paths.blocked.glob("*.json") if file.name[:1] != ".")
    return tuple(_read(file, paths) for file in files)


def _file(block: Block, paths: Paths) -> Path:
    return paths.blocked / f"{hashlib.sha256(str(block).encode()).hexdigest()}.json"


def _read(file: Path, paths: Paths) -> Block:
    said: object = document.load_json(file, "block", limits.JOB_BYTES, trusted=True).value
    if isinstance(said, dict) and said.keys() == _KEYS and isinstance(said["what"], str):
        reason = said["reason"]
        block = parse(said["what"], reason if isinstance(reason, str) else None)
        if _file(block, paths).name == file.name:
            return replace(block, kept=file)
    raise ConfigError("this is no entry of the deny list", Where(file=str(file)), hint="Delete it")
