"""Whether a file is the wheel that it should be: its name, its tags, its metadata, and every file by RECORD.

What it is asked about came out of a build of foreign code, so that nothing in it is believed: sizes are counted while reading.
Binary distribution format: packaging.python.org/specifications/binary-distribution-format.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import stat
import zipfile
import zlib
from collections.abc import Iterable
from email.parser import BytesParser
from email.policy import compat32
from pathlib import Path
from typing import Final

from packaging import tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from dativo.kernel import limits

_CHUNK_BYTES: Final = 1 << 20
_METADATA_BYTES: Final = 8 << 20
_SIGNATURES: Final = ("RECORD", "RECORD.jws", "RECORD.p7s")

# What zipfile raises on bytes that are no archive, or one of a kind that it does not read.
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)


class BadWheel(Exception):
    """Why a file is not the wheel that was asked for. Its text may hold names of that file: foreign."""


def check(file: Path, package: str, version: str, python: str) -> None:
    """Check that ``file`` is a wheel of ``package`` (normalised) and ``version`` for ``python`` (``3.11``) on this machine.

    Reads all of it, unpacks at most ``limits.WHEEL_BYTES`` of it, and writes nothing. Raises BadWheel.
    """
    _check_name(file.name, package, version, python)
    try:
        with zipfile.ZipFile(file) as archive:
            _check_archive(archive, file.name, package, version)
    except _DAMAGE as error:
        raise BadWheel(f"{file.name} is damaged: {error}") from error


def _check_name(name: str, package: str, version: str, python: str) -> None:
    try:
        found, built, _, found_tags = parse_wheel_filename(name)
    except ValueError as error:  # InvalidWheelFilename is one
        raise BadWheel(f"{name!r} is not the name of a wheel") from error
    if found != package or built != Version(version):
        raise BadWheel(f"{name} is not a wheel of {package} {version}")
    major, minor = map(int, python.split("."))
    fitting = {
        *tags.cpython_tags((major, minor)),
        *tags.compatible_tags((major, minor), f"cp{major}{minor}"),
    }
    if not found_tags & fitting:
        raise BadWheel(f"{name} is not for Python {python} on this machine")


def _check_archive(archive: zipfile.ZipFile, name: str, package: str, version: str) -> None:
    entries = archive.infolist()
    if len(entries) > limits.TREE_FILES:
        raise BadWheel(f"it has more than {limits.TREE_FILES} files")
    files: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        _check_entry(entry)
        if entry.filename in files:
            raise BadWheel(f"{entry.filename!r} is in it twice")
        if not entry.is_dir():
            files[entry.filename] = entry
    info = _info_folder(files, package, version)
    metadata = BytesParser(policy=compat32).parsebytes(_text(archive, files, f"{info}/METADATA"))
    try:
        said = canonicalize_name(str(metadata["Name"])), Version(str(metadata["Version"]))
    except InvalidVersion as error:
        raise BadWheel(f"its METADATA says: {error}") from error
    if said != (package, Version(version)):
        raise BadWheel(f"its METADATA is that of {metadata['Name']} {metadata['Version']}")
    about = BytesParser(policy=compat32).parsebytes(_text(archive, files, f"{info}/WHEEL"))
    if not str(about["Wheel-Version"]).startswith("1."):
        raise BadWheel(f"its Wheel-Version is {about['Wheel-Version']}")
    record = _record(_text(archive, files, f"{info}/RECORD"))
    _check_contents(archive, files, record, {f"{info}/{name}" for name in _SIGNATURES})


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    parts = name.rstrip("/").split("/")
    if (
        not name
        or len(name) > 1024
        or "\\" in name
        or "\0" in name
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise BadWheel(f"{name[:200]!r} is not a path below it")
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadWheel(f"{name!r} is encrypted, or packed in another way than a wheel is")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadWheel(f"{name!r} is neither a file nor a folder")


def _info_folder(files: Iterable[str], package: str, version: str) -> str:
    folders = {name.partition("/")[0] for name in files if name.count("/") == 1}
    found = [folder for folder in folders if folder.endswith(".dist-info")]
    if len(found) != 1:
        raise BadWheel("it does not have exactly one .dist-info folder")
    stem = found[0].removesuffix(".dist-info")
    name, _, said = stem.partition("-")
    try:
        fits = (canonicalize_name(name), Version(said)) == (package, Version(version))
    except InvalidVersion:
        fits = False
    if not fits:
        raise BadWheel(f"{found[0]} is not of {package} {version}")
    return found[0]


def _text(archive: zipfile.ZipFile, files: dict[str, zipfile.ZipInfo], name: str) -> bytes:
    if name not in files:
        raise BadWheel(f"it has no {name}")
    with archive.open(files[name]) as stream:
        data = stream.read(_METADATA_BYTES + 1)
    if len(data) > _METADATA_BYTES:
        raise BadWheel(f"{name} has more than {_METADATA_BYTES} bytes")
    return data


def _record(data: bytes) -> dict[str, tuple[str, str]]:
    """Return hash and size of each path."""
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8"), newline="")))
    except csv.Error as error:
        raise BadWheel(f"its RECORD is malformed: {error}") from error
    found: dict[str, tuple[str, str]] = {}
    for row in filter(None, rows):
        if len(row) != 3 or row[0] in found:
            raise BadWheel("its RECORD is malformed")
        found[row[0]] = (row[1], row[2])
    return found


def _check_contents(
    archive: zipfile.ZipFile,
    files: dict[str, zipfile.ZipInfo],
    record: dict[str, tuple[str, str]],
    unhashed: set[str],
) -> None:
    if missing := record.keys() - files.keys():
        raise BadWheel(f"RECORD lists {min(missing)!r}, which is not there")
    left = int(limits.WHEEL_BYTES)
    for name, entry in files.items():
        if name in unhashed:
            continue
        if name not in record:
            raise BadWheel(f"{name!r} is not in RECORD")
        digest, size = hashlib.sha256(), 0
        with archive.open(entry) as stream:
            while data := stream.read(_CHUNK_BYTES):
                digest.update(data)
                size += len(data)
                left -= len(data)
                if left < 0:
                    raise BadWheel(f"it unpacks to more than {limits.WHEEL_BYTES} bytes")
        said = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
        if record[name] != (f"sha256={said}", str(size)):
            raise BadWheel(f"{name!r} is not what RECORD says")
