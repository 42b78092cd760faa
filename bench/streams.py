"""The generated streams of the benches, kept in $XDG_CACHE_HOME/dativo (by default ~/.cache/dativo), checked before each use."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.measure import command

DIALECTS = ("singer", "airbyte")
SEED = "dativo-bench-shuffled-1"
_MEMBER = re.compile(rb'"(?:[^"\\]|\\.)*":(?:"(?:[^"\\]|\\.)*"|[^,{}\[\]"]+)')
_RECORD = re.compile(rb'(\{"type":"RECORD","stream":"[a-z]+","record":)\{([^{}]*)\}(.*)', re.DOTALL)


def streams(shape: str) -> Path:
    """Return the folder with ``shape``'s streams; makes them when they are not there or not what their manifest says.

    The folder is one for each version of the generator: orders takes 924 MB, nested 715 MB, narrow 613 MB.
    """
    generator = Path(__file__).parent / "generate_streams.py"
    version = hashlib.sha256(generator.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "dativo" / f"bench-{version}"
    if not _is_whole(folder, shape):
        print(f"generating {shape} into {folder} …", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        command([sys.executable, str(generator), str(folder), "--only", shape])
        if not _is_whole(folder, shape):
            raise RuntimeError(f"{folder} is not what its manifest says")
    return folder


def _is_whole(folder: Path, shape: str) -> bool:
    manifest = folder / "MANIFEST.json"
    if not manifest.is_file():
        return False
    files = json.loads(manifest.read_text())
    names = {f"{shape}.{dialect}.jsonl" for dialect in DIALECTS}
    return names <= files.keys() and all(
        (folder / name).is_file() and _sha256(folder / name) == files[name]["sha256"]
        for name in names
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shuffled(shape: str) -> Path:
    """Return a copy of a flat shape's Singer stream, each record's keys in another order; makes it where it is missing."""
    source = streams(shape) / f"{shape}.singer.jsonl"
    target = source.with_name(f"{shape}.singer.{SEED}.jsonl")
    if not (target.is_file() and target.stat().st_size == source.stat().st_size):
        print(f"shuffling the keys of {shape} into {target} …", file=sys.stderr, flush=True)
        part = target.with_suffix(".part")
        with source.open("rb") as lines, part.open("wb") as out:
            out.writelines(shuffle(lines))
        part.rename(target)
    return target


def shuffle(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield ``lines``, the keys of each flat RECORD in an order that the seed and its place give; every byte else as it was."""
    order = random.Random(SEED)
    for line in lines:
        if (record := _RECORD.fullmatch(line)) is None:
            yield line
            continue
        head, body, tail = record.groups()
        members = _MEMBER.findall(body)
        if b",".join(members) != body:
            raise ValueError(f"not a flat record: {line[:200]!r}")
        order.shuffle(members)
        yield b"%b{%b}%b" % (head, b",".join(members), tail)
