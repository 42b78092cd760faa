"""``dativo plugin add image:ARCHIVE``: from an archive on this machine to a root file system in the store.

copy the archive (so that it stays as it is) → describe it and unpack it, by a confined process of ours without network that sees
the copy and one folder (``dativo.plugins.image``) → make read-only → hash every file → record. The answers of that process are as
hostile as the image: what they say is checked for its shape, and what it wrote is looked at anew.

The trial ``spec`` in the sandbox is the caller's part.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from dativo.kernel import answers, limits, lock, registry, shapes, show, tree, walls
from dativo.kernel.document import write_atomic
from dativo.kernel.install import exclusive
from dativo.kernel.lock import LockedImage
from dativo.kernel.paths import Paths, make_folder
from dativo.kernel.processes import own_identity, tool_limits
from dativo.kernel.registry import Installed
from dativo.kernel.store import (
    LISTING_FILE,
    RECORD_FILE,
    ROOT_FOLDER,
    ImageRecord,
    check,
    folder_of,
    image_record_of,
)
from dativo.protocol import jsontext
from dativo.protocol.errors import Blame, ConfigError, LimitExceeded, ProtocolViolation, Where
from dativo.sandbox import Grants, Identity, Program, Walls, launch

_MODULE: Final = "dativo.plugins.image"
_REFUSED: Final = 3
_ANSWER_BYTES: Final = 4 << 20
_CHUNK_BYTES: Final = 1 << 20
_STAGING: Final = "staging"
# Inside.
_ARCHIVE: Final = "/image/archive"
_ROOT: Final = "/image/root"
# An image that lies in a Docker Engine, as other tools spell it (containers-transports(5)).
_DAEMON: Final = "docker-daemon:"
_TAG_OR_DIGEST: Final = re.compile(r"(:[\w.-]+)?(@sha256:[0-9a-f]{64})?$")
_VERSION: Final = re.compile(r"[0-9][0-9A-Za-z.+!_-]{0,63}")
_VERSION_LABELS: Final = ("io.airbyte.version", "org.opencontainers.image.version")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Image:
    """One archive that is being installed. ``name`` is what jobs call it; ``archive`` the copy."""

    reference: str
    archive: Path
    paths: Paths
    walls: Walls
    progress: Progress


def add(
    reference: str,
    paths: Paths,
    workspace: Path,
    *,
    name: str | None = None,
    locked: bool = False,
    walls: Walls | None = None,
    progress: Progress = show.note,
    engine: Path | None = None,
) -> Installed:
    """Install the image in the archive that ``reference`` names, write it into the workspace's lock and return it, checked.

    ``name`` is what jobs call it; by default the name of the file or folder. ``engine`` is the socket of the Docker Engine that
    ``image:docker-daemon:NAME`` is taken from. ``locked``: nothing but what the lock says, and the lock is not written. Blocks
    for as long as copying, unpacking and hashing take. Raises ConfigError, TreeMismatch, LimitExceeded and the sandbox's errors.
    """
    place = reference.removeprefix(lock.IMAGE)
    wanted = place.removeprefix(_DAEMON) if place.startswith(_DAEMON) else None
    source = Path(place if wanted is None else _TAG_OR_DIGEST.sub("", wanted))
    name = lock.IMAGE + (_name(source) if name is None else _checked_name(name))
    file = workspace / lock.LOCK_FILE
    plugins = lock.load_lock(file)
    paths.ensure()
    make_folder(paths.images, 0o755)
    with exclusive(paths.images / ".lock", progress), _staging(paths.images) as staging:
        copied = staging / "archive"
        archive = _copy(source, copied, name) if wanted is None else _fetch(wanted, engine, copied)
        image = _Image(name, archive, paths, walls or Walls(), progress)
        described = _ask(image, "describe")
        entry = _entry(image, described, plugins.get(name), file if locked else None)
        record = image_record_of(entry, paths)
        if record is None:
            record = _install(image, entry, described, staging)
    contents = {lock.platform_name(): record.tree, **entry.contents}
    entry = LockedImage(name, entry.version, entry.images, contents)
    check(entry, record, paths)
    if not locked and plugins.get(name) != entry:
        lock.save_lock(file, {**plugins, name: entry})
    return registry.installed_image(entry, record, paths)


def _name(source: Path) -> str:
    """Return a name for the image from the operator's own word for its archive."""
    stem = source.name.removesuffix(".tar").lower()
    return _checked_name(re.sub(r"[^a-z0-9]+", "-", stem).strip("-"))


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or len(name) > 128:
        raise ConfigError(
            "this is no name for an image",
            value=name,
            hint="Choose one of lower-case letters, digits and hyphens: --name source-shop",
        )
    return name


def _entry(
    image: _Image, described: dict[str, Any], before: lock.Entry | None, locked: Path | None
) -> LockedImage:
    """Return the lock's entry where it is that of this image, else a new one. ``locked``: the lock that must hold it."""
    here, found = lock.platform_name(), described["id"]
    if isinstance(before, LockedImage) and before.images.get(here) == found:
        return before
    if locked is not None:
        raise ConfigError(
            f"the lock does not hold this image as {image.reference} for {here}",
            Where(file=str(locked), plugin=image.reference),
            value=f"sha256:{found}",
        )
    labels = described["config"]["labels"]
    said = [labels[label] for label in _VERSION_LABELS if _VERSION.fullmatch(labels.get(label, ""))]
    version = said[0] if said else f"0+{found[:12]}"
    if isinstance(before, LockedImage) and before.version == version and here not in before.images:
        return LockedImage(
            image.reference, version, {**before.images, here: found}, before.contents
        )
    return LockedImage(image.reference, version, {here: found}, {})


def _install(
    image: _Image, entry: LockedImage, described: dict[str, Any], staging: Path
) -> ImageRecord:
    image.progress(f"Unpacking {image.reference} {entry.version}")
    folder = folder_of(entry, image.paths)
    if folder.exists():
        tree.make_removable(folder)
        shutil.rmtree(folder)
    root = staging / ROOT_FOLDER
    root.mkdir(mode=0o755)
    found = _ask(image, "unpack", root, described["id"])
    program = found.get("program")
    if program is None:
        raise _no_program(image, found["config"])
    if left := found.get("devices", 0) + found.get("set_uid", 0):
        image.progress(f"Note: {left} devices, pipes and set-uid bits of the image were left out")
    _give_away(root)
    make_folder(folder, 0o755)
    root = root.rename(folder / ROOT_FOLDER)
    image.progress("Hashing")
    tree.make_read_only(root)
    listing = tree.measure(root)
    files, size = listing.totals()
    config = found["config"]
    record = ImageRecord(
        image=found["id"],
        argv=(program, *config["entrypoint"][1:]),
        environment=config["environment"],
        folder=config["folder"],
        user=config["user"],
        labels=config["labels"],
        tree=listing.digest,
        files=files,
        bytes=size,
    )
    write_atomic(folder / LISTING_FILE, listing.text)
    tree.check(root, folder / LISTING_FILE, record.tree, image.paths.cache)
    write_atomic(folder / RECORD_FILE, json.dumps(asdict(record), indent=2) + "\n")
    return record


def _no_program(image: _Image, config: Mapping[str, Any]) -> ConfigError:
    entrypoint, command = config["entrypoint"], config["command"]
    if entrypoint:
        reason, value = "the program of its entrypoint is not in it", entrypoint[0]
    else:
        reason, value = "it names no entrypoint that verbs could be added to", " ".join(command)
    return ConfigError(
        f"{image.reference} is no connector: {reason}",
        Where(plugin=image.reference),
        value=show.foreign(value, max_chars=limits.MAX_VALUE_CHARS) or None,
        blame=Blame.PLUGIN,
    )


def _give_away(root: Path) -> None:
    """As root: take over what the unpacking process wrote, whose uid will be somebody else's."""
    if os.geteuid() != 0:
        return
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            os.chown(Path(folder, name), 0, 0, follow_symlinks=False)
    os.chown(root, 0, 0)


# --- the archive -----------------------------------------------------------------------------------------------------------


@contextmanager
def _staging(images: Path) -> Iterator[Path]:
    """Give an empty folder beside the images, gone afterwards; what an interrupted installation left goes first."""
    folder = images / _STAGING

    def clear() -> None:
        if folder.exists():
            tree.make_removable(folder)
            shutil.rmtree(folder)

    clear()
    make_folder(folder, 0o700)
    try:
        yield folder
    finally:
        clear()


def _copy(source: Path, target: Path, name: str) -> Path:
    """Copy an archive, of a folder the files of an image layout alone, so that anybody may read the copy. Raises ConfigError."""
    left = int(limits.IMAGE_BYTES)

    def copy(file: Path | str, into: Path, folder: int | None = None) -> None:
        nonlocal left
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if folder else 0)
        fd = os.open(file, flags, dir_fd=folder)
        with open(fd, "rb") as stream, into.open("xb") as out:  # noqa: PTH123  # a descriptor
            while data := stream.read(_CHUNK_BYTES):
                left -= len(data)
                if left < 0:
                    raise LimitExceeded(
                        f"the archive of {name} has more than {limits.IMAGE_BYTES} bytes",
                        Where(file=str(source)),
                    )
                out.write(data)
        into.chmod(0o444)

    try:
        if not source.is_dir():
            copy(source, target)
            return target
        blobs = target / "blobs/sha256"
        for made in (target, target / "blobs", blobs):
            make_folder(made, 0o755)
        for document in ("index.json", "oci-layout"):
            copy(source / document, target / document)
        fd = os.open(source / "blobs/sha256", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for blob in os.listdir(fd):  # noqa: PTH208  # by descriptor
                if re.fullmatch("[0-9a-f]{64}", blob):
                    copy(blob, blobs / blob, fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise ConfigError(
            f"the archive of {name} cannot be copied: {error.strerror}",
            Where(file=str(error.filename or source)),
            hint="It is a folder of an OCI image layout, a tar file of one, or what `docker save` wrote: "
            f"dativo plugin add {lock.IMAGE}./source-shop.tar",
        ) from error
    return target


def _fetch(wanted: str, engine: Path | None, target: Path) -> Path:
    """Copy the archive of an image that an engine has. Raises ConfigError, LimitExceeded."""
    from dativo.kernel.engine import saved

    if engine is None:
        raise ConfigError("no Docker Engine was named", value=wanted)
    left = int(limits.IMAGE_BYTES)
    with saved(wanted, engine) as part, target.open("xb") as out:
        while data := part():
            left -= len(data)
            if left < 0:
                raise LimitExceeded(f"{wanted} has more than {limits.IMAGE_BYTES} bytes")
            out.write(data)
    target.chmod(0o444)
    return target


# --- the process that unpacks it -------------------------------------------------------------------------------------------


def _ask(image: _Image, step: str, root: Path | None = None, expected: str = "") -> dict[str, Any]:
    """Run one step of ``dativo.plugins.image`` and return its answer, checked for its shape."""
    bounds = {
        "layers": limits.IMAGE_LAYERS,
        "files": limits.TREE_FILES,
        "bytes": limits.TREE_BYTES,
        "ratio": limits.IMAGE_RATIO,
        "path_bytes": limits.IMAGE_PATH_BYTES,
    }
    machine = lock.platform_name().removeprefix("linux-")
    arguments = [step, _ARCHIVE, machine, json.dumps({k: int(v) for k, v in bounds.items()})]
    binds: list[tuple[Path, str, bool]] = [(image.archive, _ARCHIVE, False)]
    if root is not None:
        arguments += [_ROOT, expected]
        binds.append((root, _ROOT, True))
    program = Program(
        name="image",
        argv=(*registry.own_module(_MODULE), *arguments),
        runtime=registry.own_runtime(),
        binds=tuple(binds),
    )
    taken = bytearray()

    def take(data: bytes) -> None:
        taken.extend(data)
        if len(taken) > _ANSWER_BYTES:
            raise LimitExceeded(f"unpacking {image.reference} answered too much")

    with own_identity() as identity, walls.starting(f"unpacking {image.reference}", ConfigError):
        _own(root, identity)
        confined = launch(
            program,
            Grants(limits=tool_limits(limits.IMAGE_MEMORY_BYTES)),
            identity=identity,
            walls=image.walls,
            stdin=None,
            stdout=None,
            control=None,
            run="image",
        )
        with confined:
            ended = answers.listen(confined, take, limits.INSTALL_TIME_S)
            said = confined.stderr_tail().decode("utf-8", "backslashreplace").strip()
    if ended.code not in (0, _REFUSED):
        kind = LimitExceeded if ended.cause == "memory" else ConfigError
        last = said.splitlines()[-1] if said else None
        raise kind(
            f"unpacking {image.reference} failed: {ended.detail or f'exit status {ended.code}'}",
            Where(plugin=image.reference),
            value=None if last is None else show.foreign(last, max_chars=limits.MAX_VALUE_CHARS),
        )
    return _parse(image, bytes(taken), refused=ended.code == _REFUSED)


def _own(root: Path | None, identity: Identity | None) -> None:
    if root is not None and identity is not None:
        os.chown(root, identity.uid, identity.gid)


def _parse(image: _Image, answer: bytes, *, refused: bool) -> dict[str, Any]:
    where = Where(plugin=image.reference)
    try:
        said = jsontext.loads(answer.decode("utf-8"), "the answer", max_bytes=_ANSWER_BYTES)
        if refused and isinstance(said, dict):
            value = said.get("value")
            raise ConfigError(
                f"the image {image.reference} is refused: {show.foreign(str(said.get('refused')))}",
                where,
                value=show.foreign(str(value), max_chars=limits.MAX_VALUE_CHARS) if value else None,
                blame=Blame.PLUGIN,
            )
        return shapes.UNPACKED(said, ())
    except (shapes.Fault, ProtocolViolation, UnicodeDecodeError) as error:
        raise ConfigError(
            f"what {image.reference} says of itself is malformed: {show.foreign(str(error))}",
            where,
            blame=Blame.PLUGIN,
        ) from error
