"""Which image an archive holds: its configuration and its layers, each by digest.

OCI image layout and image specification 1.1 (index.json, blobs/sha256), and what ``docker save`` writes (manifest.json, image
specification 1.2 of Docker). An image's identity is the SHA-256 of its configuration, which names the digest of every layer's
content: it is the same however the layers are packed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from dativo.plugins.image.archive import Archive, Blob
from dativo.plugins.image.refusal import Refused
from dativo.protocol import jsontext
from dativo.protocol.errors import ProtocolViolation

_DOCUMENT_BYTES: Final = 4 << 20
_INDEX_DEPTH: Final = 3
_MAX_CANDIDATES: Final = 200
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
# GOARCH values, of the platforms that dativo runs on.
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: the file of the archive, the SHA-256 of its bytes as they are (None where nothing names it) and unpacked."""

    name: str
    packed: str | None
    content: str


@dataclass(frozen=True, slots=True)
class Image:
    """One image. ``id``: SHA-256 (hex) of its configuration, whose ``config`` part is ``said``. All of it is foreign."""

    id: str
    said: dict[str, Any]
    layers: tuple[Layer, ...]


def find(archive: Archive, machine: str, max_layers: int) -> Image:
    """Return the image of ``archive`` for ``machine`` (as uname(2) says it). Raises Refused, also when there are several."""
    index = archive.open("index.json")
    if index is not None:
        image = _of_layout(archive, _document(index, "index.json"), machine)
    elif (saved := archive.open("manifest.json")) is not None:
        image = _saved(archive, _document(saved, "manifest.json"), machine)
    else:
        raise Refused(
            "it holds neither index.json (an OCI image layout) nor manifest.json (docker save)"
        )
    if not 0 < len(image.layers) <= max_layers:
        raise Refused(f"it has {len(image.layers)} layers; 1 to {max_layers} are permitted")
    return image


# --- OCI image layout ------------------------------------------------------------------------------------------------------


def _of_layout(archive: Archive, index: Any, machine: str) -> Image:
    found = {_sha256(entry): entry for entry in _manifests(archive, index, machine, _INDEX_DEPTH)}
    if len(found) != 1:
        held = f"{len(found)} images" if found else "no image"
        raise Refused(f"it holds {held} for linux/{ARCHITECTURES[machine]}; one is needed")
    (descriptor,) = found.values()
    manifest = _blob_document(archive, descriptor, "the manifest")
    config_bytes = _blob(archive, _part(manifest, "config", dict), "the configuration")
    packed = []
    for entry in _part(manifest, "layers", list):
        kind = _part(entry, "mediaType", str)
        if ".tar" not in kind or "encrypted" in kind or "foreign" in kind:
            raise Refused("a layer is of a kind that is not known", kind)
        packed.append((f"blobs/sha256/{_sha256(entry)}", _sha256(entry)))
    return _image(config_bytes, packed, machine)


def _manifests(archive: Archive, index: Any, machine: str, depth: int) -> list[dict[str, Any]]:
    """Return the descriptors of the manifests for this machine, those of nested indexes too."""
    found = []
    for entry in _part(index, "manifests", list):
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if platform is not None:
            named = (_part(platform, "os", str), _part(platform, "architecture", str))
            if named != ("linux", ARCHITECTURES[machine]):
                continue
        # A nested index has manifests of its own; the media type is not always there.
        document = _blob_document(archive, entry, "a manifest")
        if "manifests" in document:
            if depth == 0:
                raise Refused("its indexes are nested too deep")
            found += _manifests(archive, document, machine, depth - 1)
        else:
            found.append(entry)
        if len(found) > _MAX_CANDIDATES:
            raise Refused(f"it holds more than {_MAX_CANDIDATES} images")
    return found


def _blob_document(archive: Archive, descriptor: Any, what: str) -> dict[str, Any]:
    document = _parse(_blob(archive, descriptor, what), what)
    if not isinstance(document, dict):
        raise Refused(f"{what} is no object")
    return document


def _blob(archive: Archive, descriptor: Any, what: str) -> bytes:
    """Return the small blob that a descriptor names, held against its digest."""
    sha256 = _sha256(descriptor)
    blob = archive.open(f"blobs/sha256/{sha256}")
    if blob is None:
        raise Refused(f"{what} is not in the archive", sha256)
    data = _read(blob, what)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Refused(f"{what} is not what its digest says", sha256)
    return data


def _sha256(descriptor: Any) -> str:
    digest = _part(descriptor, "digest", str)
    if (known := _DIGEST.fullmatch(digest)) is None:
        raise Refused("a digest is not of SHA-256", digest)
    return known[1]


# --- docker save -----------------------------------------------------------------------------------------------------------


def _saved(archive: Archive, manifest: Any, machine: str) -> Image:
    if not isinstance(manifest, list) or len(manifest) != 1:
        held = len(manifest) if isinstance(manifest, list) else "no"
        raise Refused(f"manifest.json holds {held} images; one is needed")
    name = _part(manifest[0], "Config", str)
    blob = archive.open(name)
    if blob is None:
        raise Refused("the configuration is not in the archive", name)
    data = _read(blob, "the configuration")
    named = re.search(r"([0-9a-f]{64})(\.json)?$", name)
    if named is not None and named[1] != hashlib.sha256(data).hexdigest():
        raise Refused("the configuration is not what its name says", name)
    layers = [(_as_text(layer, "a layer"), None) for layer in _part(manifest[0], "Layers", list)]
    return _image(data, layers, machine)


# --- both ------------------------------------------------------------------------------------------------------------------


def _image(config_bytes: bytes, packed: Sequence[tuple[str, str | None]], machine: str) -> Image:
    config = _parse(config_bytes, "the configuration")
    platform = (_part(config, "os", str), _part(config, "architecture", str))
    if platform != ("linux", ARCHITECTURES[machine]):
        raise Refused(f"it is not for linux/{ARCHITECTURES[machine]}", "/".join(platform))
    diffs = _part(_part(config, "rootfs", dict), "diff_ids", list)
    if len(diffs) != len(packed):
        raise Refused(f"its configuration names {len(diffs)} layers, its manifest {len(packed)}")
    layers = [
        Layer(name, sha256, _sha256({"digest": diff}))
        for (name, sha256), diff in zip(packed, diffs, strict=True)
    ]
    said = config.get("config")
    if said is not None and not isinstance(said, dict):
        raise Refused("its configuration is malformed")
    return Image(hashlib.sha256(config_bytes).hexdigest(), said or {}, tuple(layers))


def _document(blob: Blob, what: str) -> Any:
    return _parse(_read(blob, what), what)


def _read(blob: Blob, what: str) -> bytes:
    with blob:
        if blob.size > _DOCUMENT_BYTES:
            raise Refused(f"{what} has more than {_DOCUMENT_BYTES} bytes")
        data = b""
        while len(data) < blob.size:
            data += blob.read(blob.size - len(data)) or b""
        return data


def _parse(data: bytes, what: str) -> Any:
    try:
        return jsontext.loads(data.decode("utf-8"), what, max_bytes=_DOCUMENT_BYTES)
    except UnicodeDecodeError as error:
        raise Refused(f"{what} is not UTF-8") from error
    except ProtocolViolation as error:
        raise Refused(error.message, error.value) from error


def _part(value: Any, key: str, kind: type) -> Any:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        raise Refused(f"`{key}` is missing or malformed")
    return found


def _as_text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise Refused(f"{what} is malformed")
    return value
