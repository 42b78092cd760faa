"""The machine's /usr for a program that may not execute what lies there: ``Grants.execute`` without ``/usr``.

Then its libraries and data are seen and its programs are not, but for the program's own interpreter and what was granted by
name. What is left below the libraries' folders is read and not executed (Landlock), the loader apart, without which nothing
starts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

SYSTEM: Final = Path("/usr")
_SEEN: Final = (
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "share",
    "local/lib",
    "local/lib64",
    "local/share",
)
_LOADERS: Final = ("lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1", "lib/ld-musl-*.so.1")
_MAX_LINKS: Final = 40
_SHEBANG_BYTES: Final = 256


def folders() -> list[str]:
    """Return what is seen of /usr."""
    found = (SYSTEM / name for name in _SEEN)
    return [str(path) for path in found if path.is_dir() and not path.is_symlink()]


def loaders() -> list[str]:
    """Return the loaders of this machine's C libraries, as real paths."""
    return sorted({os.path.realpath(path) for name in _LOADERS for path in Path("/").glob(name)})


def programs(argv0: str, granted: Iterable[Path]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return links below /usr, as (target, path), and the files and folders that may be executed, for a program and its grants.

    A program that is a script is executed by the interpreter that its first line names, through ``env`` or not.
    """
    links: dict[str, str] = {}
    paths: dict[str, None] = {}
    for name in (argv0, *_interpreters(argv0), *map(str, granted)):
        for path, target in _chain(name):
            if not Path(path).is_relative_to(SYSTEM):
                continue
            if target is None:
                paths[path] = None
            else:
                links[path] = target
    hidden = [(target, path) for path, target in links.items() if not _is_seen(path)]
    return hidden, list(paths)


def _is_seen(path: str) -> bool:
    return any(path.startswith(f"{folder}/") for folder in folders())


def _chain(name: str) -> Iterator[tuple[str, str | None]]:
    """Yield each link on the way of ``name`` with what it says, then what it leads to, if that is there."""
    for _ in range(_MAX_LINKS):
        path = Path(os.path.realpath(Path(name).parent), Path(name).name)
        if not path.is_symlink():
            if path.exists():
                yield str(path), None
            return
        target = os.readlink(path)  # noqa: PTH115  # spelled as it is
        yield str(path), target
        name = os.path.normpath(path.parent / target)


def _interpreters(path: str) -> list[str]:
    """Return the programs that the first line of a script names."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(_SHEBANG_BYTES)
    except OSError:
        return []  # the launch tells that it cannot be started
    if not start.startswith(b"#!"):
        return []
    words = os.fsdecode(start[2:].split(b"\n")[0]).split()
    found = words[:1]
    if len(words) == 2 and Path(words[0]).name == "env":
        inside = shutil.which(words[1], path="/usr/bin:/bin")
        found += [inside] if inside is not None else []
    return found
