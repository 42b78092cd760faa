"""``dativo plugin add``: from a reference to an environment in the store.

resolve (wheels, every one by hash; of a package without a wheel its sdist) → build the sdists, confined (``build.py``) → assemble
(a new environment, copied and not linked) → byte-compile → make read-only → hash every file → record. Outside walls nothing of
what was downloaded is executed. The environment is built where it stays, because scripts hold its path; the record beside it is
written last, and an environment without a record is rubble of an interrupted installation and is built anew.

Byte-compilation is done by the bare interpreter (``-I -S``): uv's own starts the new environment's interpreter, which runs any
``.pth`` file that a wheel brings, outside the sandbox.

The trial ``spec`` in the sandbox is the caller's part.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dativo.kernel import environment, limits, lock, registry, show, tree
from dativo.kernel.document import read_bounded, write_atomic
from dativo.kernel.lock import Locked, Reference
from dativo.kernel.paths import Paths, make_folder
from dativo.kernel.registry import Installed
from dativo.kernel.store import (
    ENV_FOLDER,
    LISTING_FILE,
    RECORD_FILE,
    Record,
    check,
    folder_of,
    record_of,
)
from dativo.protocol.errors import Blame, ConfigError, LimitExceeded, Where

if TYPE_CHECKING:
    from dativo.kernel.build import Builder
    from dativo.kernel.resolver import Interpreter, Uv
    from dativo.sandbox import Walls

_GENERATED: Final = re.compile(
    r"bin(/.*)?|lib64|pyvenv\.cfg|\.lock|\.gitignore|CACHEDIR\.TAG"
    r"|(.*/)?__pycache__(/.*)?|.*/_virtualenv\.(py|pth)"
    r"|.*\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_cache\.json)"
)
"""What an environment holds besides the files of the wheels: it depends on the place and the tools."""

_BUILT_ELSEWHERE: Final = (
    "What is built of an sdist may depend on the compiler and the libraries of the machine. To lock what comes out here, take "
    "{0} out of dativo.lock, then: dativo plugin add {0}"
)

Progress = Callable[[str], None]


class _Tools:
    """What one installation works with; uv and the builder are made, and imported, once they are needed."""

    def __init__(
        self, paths: Paths, env: Mapping[str, str], walls: Walls | None, progress: Progress
    ) -> None:
        self.paths = paths
        self.env = env
        self.walls = walls
        self.progress = progress

    @cached_property
    def uv(self) -> Uv:
        from dativo.kernel.resolver import Uv

        return Uv(self.paths, self.env)

    @cached_property
    def builder(self) -> Builder:
        from dativo.kernel.build import Builder
        from dativo.sandbox import Walls

        return Builder(self.uv, self.walls or Walls(), self.progress)


def add(
    reference: str,
    paths: Paths,
    workspace: Path,
    *,
    locked: bool = False,
    python: str | None = None,
    env: Mapping[str, str] | None = None,
    walls: Walls | None = None,
    progress: Progress = show.note,
) -> Installed:
    """Install what ``reference`` names, write it into the workspace's lock and return it, checked.

    A locked plugin that still fits the reference is installed as it is locked, without asking the index what is newer; one that
    is in the store already is only checked. ``locked``: nothing but what the lock says, and the lock is not written. ``python``
    is a version (``3.10``) or a path; by default the one that runs dativo. ``walls`` are those that sdists are built behind; by
    default all. Blocks for as long as the download takes. Raises ConfigError, TreeMismatch, LimitExceeded, and where an sdist
    is built the sandbox's errors.
    """
    wanted = lock.parse_reference(reference)
    file = workspace / lock.LOCK_FILE
    plugins = lock.load_lock(file)
    env = environment.current() if env is None else env
    paths.ensure()
    found = plugins.get(wanted.name)
    before = found if isinstance(found, Locked) else None
    tools = _Tools(paths, env, walls, progress)
    entry = _as_locked(before, wanted, file) if locked else _choose(before, wanted, python, tools)
    record = _installed(entry, paths)
    if record is None:
        record = _install(entry, python, tools)
    contents = {**entry.contents, lock.platform_name(): record.contents}
    entry = replace(entry, script=record.script, contents=contents)
    if not locked and entry != before:
        lock.save_lock(file, {**plugins, wanted.name: entry})
    return registry.installed(entry, record, paths)


def _as_locked(entry: Locked | None, wanted: Reference, file: Path) -> Locked:
    if entry is None or not _fits(entry, wanted) or lock.platform_name() not in entry.contents:
        raise ConfigError(
            f"the lock does not hold {wanted.requirement} for {lock.platform_name()}",
            Where(file=str(file)),
            hint=f"Without --locked: dativo plugin add {wanted.name}{wanted.specifier}",
        )
    return entry


def _choose(entry: Locked | None, wanted: Reference, python: str | None, tools: _Tools) -> Locked:
    """Return the lock's entry while it fits, else what the index has."""
    fits = entry is not None and _fits(entry, wanted)
    if entry is not None and fits and python is None:
        return entry
    interpreter = tools.uv.interpreter(python)
    if entry is not None and fits and interpreter.minor == entry.python:
        return entry
    tools.progress(f"Resolving {wanted.requirement} for Python {interpreter.minor}")
    entry = tools.uv.resolve(
        wanted, interpreter, lambda sdist, python: tools.builder.build(sdist, python)
    )
    if entry.newest:
        tools.progress(
            f"Note: the index has {entry.newest}; {entry.version} is the newest that resolves"
        )
    return entry


def remove(entry: lock.Entry, paths: Paths) -> bool:
    """Delete what the store has of ``entry``; tell whether there was something. Other workspaces may use it."""
    folder = folder_of(entry, paths)
    if not folder.exists():
        return False
    with exclusive(folder.parent / ".lock", show.note):
        (folder / RECORD_FILE).unlink(missing_ok=True)
        tree.make_removable(folder)
        shutil.rmtree(folder)
    return True


def contents_digest(listing: tree.Listing) -> str:
    """Return the digest of the wheels' files alone, the same wherever they are installed."""
    entries = listing.entries()
    kept = {path: entries[path] for path in entries if not _GENERATED.fullmatch(path)}
    return tree.Listing.of(kept).digest


def _fits(entry: Locked, wanted: Reference) -> bool:
    if not wanted.specifier:
        return True
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted.specifier).contains(entry.version, prereleases=True)


def _installed(entry: Locked, paths: Paths) -> Record | None:
    """Return the record of an environment that is whole and, as far as the lock knows it, the locked one."""
    record = record_of(entry, paths)
    if record is not None:
        known = {lock.platform_name(): record.contents, **entry.contents}
        check(replace(entry, contents=known), record, paths)
    return record


def _install(entry: Locked, python: str | None, tools: _Tools) -> Record:
    paths, uv, progress = tools.paths, tools.uv, tools.progress
    interpreter = uv.interpreter(python)
    if interpreter.minor != entry.python:
        interpreter = uv.interpreter(entry.python)
    folder = paths.plugins / entry.folder
    make_folder(paths.plugins, 0o755)
    make_folder(folder.parent, 0o755)
    with exclusive(folder.parent / ".lock", progress):
        if (record := _installed(entry, paths)) is not None:
            return record
        if folder.exists():
            tree.make_removable(folder)
            shutil.rmtree(folder)
        make_folder(folder, 0o755)
        env_folder = folder / ENV_FOLDER
        progress(f"Installing {entry.package} {entry.version}: {len(entry.requirements)} packages")
        lines, links = _wheels(entry, interpreter, tools)
        uv.assemble(entry.package, lines, interpreter, env_folder, links)
        progress("Compiling")
        uv.byte_compile(interpreter, env_folder)
        progress("Hashing")
        script = _script(env_folder, entry)
        tree.make_read_only(env_folder)
        listing = tree.measure(env_folder)
        record = _record(entry, interpreter.version, interpreter.prefix, script, listing)
        write_atomic(folder / LISTING_FILE, listing.text)
        tree.check(env_folder, folder / LISTING_FILE, record.tree, paths.cache)
        write_atomic(folder / RECORD_FILE, json.dumps(asdict(record), indent=2) + "\n")
        return record


def _wheels(entry: Locked, interpreter: Interpreter, tools: _Tools) -> tuple[list[str], list[Path]]:
    """Return the requirements with hashes of wheels alone, and the folders of those that were built here."""
    lines, links = [], []
    for line in entry.requirements:
        requirement, _, sha256 = line.partition(" --hash=sha256:")
        package = lock.normal(requirement.partition("==")[0])
        if package in entry.built:
            sdist = tools.uv.find_sdist(requirement, package, interpreter)
            if sdist.sha256 != sha256:
                raise ConfigError(
                    f"the index has another sdist of {requirement} than the lock",
                    Where(plugin=entry.reference),
                    value=sdist.sha256,
                    blame=Blame.PLUGIN,
                )
            built = tools.builder.build(sdist, interpreter, entry.built[package])
            links.append(built.file.parent)
            line = f"{requirement} --hash=sha256:{built.sha256}"
        lines.append(line)
    return lines, links


def _record(entry: Locked, python: str, prefix: str, script: str, listing: tree.Listing) -> Record:
    files, size = listing.totals()
    if size > limits.TREE_BYTES:
        raise LimitExceeded(f"{entry.package} has more than {limits.TREE_BYTES} bytes")
    contents = contents_digest(listing)
    locked = entry.contents.get(lock.platform_name(), contents)
    if locked != contents:
        raise tree.TreeMismatch(
            f"{entry.package} {entry.version} came out other than the lock says",
            hint=_BUILT_ELSEWHERE.format(entry.reference)
            if entry.built
            else "Every wheel passed its hash: was the lock edited, or uv's cache?",
        )
    return Record(
        reference=entry.reference,
        kind=entry.kind,
        package=entry.package,
        version=entry.version,
        python=python,
        prefix=prefix,
        script=script,
        contents=contents,
        tree=listing.digest,
        files=files,
        bytes=size,
    )


def _script(env_folder: Path, entry: Locked) -> str:
    """Return the console script that is the connector. What a wheel says about itself is hostile: bounded, names checked."""
    import configparser

    found = [
        folder
        for folder in env_folder.glob("lib/python*/site-packages/*.dist-info")
        if lock.normal(folder.name.rpartition("-")[0].rpartition("-")[0]) == entry.package
    ]
    names: list[str] = []
    for file in (folder / "entry_points.txt" for folder in found):
        if not file.exists():
            continue
        data = read_bounded(file, "entry_points.txt", limits.JOB_BYTES)
        parser = configparser.ConfigParser(
            delimiters=("=",), interpolation=None, strict=False, default_section=""
        )
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
        try:
            parser.read_string(data.decode("utf-8", "replace"))
        except configparser.Error as error:
            raise _no_script(entry, f"its entry_points.txt is malformed ({error})") from error
        if parser.has_section("console_scripts"):
            names += parser.options("console_scripts")
    names = sorted(
        {name for name in names if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name)}
    )
    prefixes = ("source-", "destination-") if entry.kind == "airbyte" else ("tap-", "target-")
    likely = [name for name in names if entry.package.endswith(name)] or [
        name for name in names if name.startswith(prefixes)
    ]
    chosen = max(likely, key=len, default=names[0] if len(names) == 1 else None)
    if chosen is None:
        raise _no_script(entry, f"its console scripts are: {', '.join(names) or 'none'}")
    if not stat.S_ISREG((env_folder / "bin" / chosen).lstat().st_mode):
        raise _no_script(entry, f"bin/{chosen} is not a file")
    return chosen


def _no_script(entry: Locked, reason: str) -> ConfigError:
    return ConfigError(
        f"{entry.package} {entry.version} has no command that looks like a connector: {reason}",
        Where(plugin=entry.reference),
        blame=Blame.PLUGIN,
    )


@contextmanager
def exclusive(file: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock of a folder of the store; waits for another installation in it."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("Waiting for another installation")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
