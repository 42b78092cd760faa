"""Runs behind the walls, alone: unpacks an sdist into its own /tmp and asks its build backend for a wheel (PEP 517, PEP 518).

    build_inside.py describe SDIST               what pyproject.toml says: {"requires": […], "backend": …, "backend_path": […]}
    build_inside.py wheel SDIST DESCRIBED KNOWN  {"requires": […]} when the backend wants more than KNOWN (null: everything is
                                                 there), else {"wheel": NAME} and, from the next line on, the wheel itself

Standard library only, Python 3.8 and later. ``describe`` needs 3.11. Its answer is as hostile as the sdist: whoever reads it
checks it.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

SOURCE = Path("/tmp/source")  # noqa: S108  # a tmpfs that only this process sees
WHEELS = Path("/tmp/wheels")  # noqa: S108
# Without a [build-system] table (PEP 517, "Source trees").
LEGACY = {
    "requires": ["setuptools>=40.8.0"],
    "backend": "setuptools.build_meta:__legacy__",
    "backend_path": [],
}


def unpack(archive: str) -> Path:
    """Unpack the sdist and return its one folder. Where its paths lead to is the walls' matter."""
    SOURCE.mkdir()
    if archive.endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(SOURCE)  # noqa: S202
    else:
        with tarfile.open(archive) as tarred:
            if hasattr(tarfile, "data_filter"):
                tarred.extractall(SOURCE, filter="data")
            else:
                tarred.extractall(SOURCE)  # noqa: S202
    folders = [entry for entry in SOURCE.iterdir() if entry.is_dir()]
    if len(folders) != 1:
        raise SystemExit(f"an sdist holds one folder, this one {len(folders)}")
    return folders[0]


def describe(archive: str) -> dict[str, Any]:
    """Return the build backend and its requirements."""
    import tomllib

    file = unpack(archive) / "pyproject.toml"
    said = tomllib.loads(file.read_text("utf-8")).get("build-system") if file.exists() else None
    if said is None:
        return LEGACY
    return {
        "requires": said.get("requires", LEGACY["requires"]),
        "backend": said.get("build-backend", LEGACY["backend"]),
        "backend_path": said.get("backend-path", []),
    }


def wheel(
    archive: str, described: dict[str, Any], known: list[str] | None, answer: BinaryIO
) -> None:
    """Build the wheel and write it to ``answer``, or what the backend wants for that."""
    source = unpack(archive)
    os.chdir(source)
    sys.path[:0] = [str(source / path) for path in described["backend_path"]]
    module, _, name = described["backend"].partition(":")
    backend: Any = importlib.import_module(module)
    for part in filter(None, name.split(".")):
        backend = getattr(backend, part)
    if known is not None and hasattr(backend, "get_requires_for_build_wheel"):
        wanted = backend.get_requires_for_build_wheel()
        if not set(wanted) <= set(known):
            answer.write(json.dumps({"requires": sorted(wanted)}).encode() + b"\n")
            return
    WHEELS.mkdir()
    file = WHEELS / backend.build_wheel(str(WHEELS))
    answer.write(json.dumps({"wheel": file.name}).encode() + b"\n")
    with file.open("rb") as stream:
        shutil.copyfileobj(stream, answer)


def main(step: str, archive: str, *more: str) -> None:
    """Run one step. What the backend prints goes to stderr: stdout is the answer alone."""
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        if step == "describe":
            answer.write(json.dumps(describe(archive)).encode() + b"\n")
        else:
            wheel(archive, json.loads(more[0]), json.loads(more[1]), answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
