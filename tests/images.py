"""Root file systems and images made of a few files of this machine: a shell, what it loads, and a script."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def shell_files() -> dict[str, bytes]:
    """Return /bin/sh and every library that it loads, by path without the leading slash."""
    said = subprocess.run(
        ["ldd", "/bin/sh"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    paths = ["/bin/sh", *re.findall(r"(?:=> )?(/\S+) \(0x", said)]
    return {path[1:]: Path(path).read_bytes() for path in paths}


def write_root(root: Path, files: dict[str, bytes]) -> Path:
    """Write ``files`` below ``root``, executable, and the plain files that /etc must have."""
    from dativo.sandbox.roots import ETC

    for path, data in {**files, **{f"etc/{name}": b"" for name in ETC}}.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(0o755)
    return root


# --- images ----------------------------------------------------------------------------------------------------------------

Entry = tuple[tarfile.TarInfo, bytes]


def entry(path: str, data: bytes = b"", **changes: object) -> Entry:
    """Return an entry of a layer: a file of ``data`` unless ``changes`` to its header say otherwise."""
    info = tarfile.TarInfo(path)
    info.size = len(data)
    info.mode = 0o644
    info.mtime = 1_600_000_000
    for name, value in changes.items():
        setattr(info, name, value)
    return info, data


def link(path: str, target: str) -> Entry:
    return entry(path, type=tarfile.SYMTYPE, linkname=target)


def hard_link(path: str, target: str) -> Entry:
    return entry(path, type=tarfile.LNKTYPE, linkname=target)


def folder(path: str) -> Entry:
    return entry(path, type=tarfile.DIRTYPE, mode=0o755)


def files(contents: dict[str, bytes]) -> list[Entry]:
    """Return executable files."""
    return [entry(path, data, mode=0o755) for path, data in contents.items()]


def layer(*entries: Entry) -> bytes:
    """Return a layer: a tar file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def pack(data: bytes, how: str) -> bytes:
    if how == "gzip":
        return gzip.compress(data, 1, mtime=0)
    if how == "zstd":
        import pyarrow

        return bytes(pyarrow.compress(data, codec="zstd", asbytes=True))
    return data


ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
MEDIA = "application/vnd.oci.image"


@dataclass(frozen=True)
class Built:
    """An image as the blobs and documents that it is made of, each of which a test may spoil before it is written."""

    layers: list[bytes]
    config: dict[str, Any]
    packing: str = "gzip"

    @property
    def config_bytes(self) -> bytes:
        return json.dumps(self.config).encode()

    @property
    def id(self) -> str:
        return hashlib.sha256(self.config_bytes).hexdigest()

    def layout(self) -> dict[str, bytes]:
        """Return the files of an OCI image layout."""
        found: dict[str, bytes] = {}

        def blob(kind: str, data: bytes) -> dict[str, Any]:
            sha256 = hashlib.sha256(data).hexdigest()
            found[f"blobs/sha256/{sha256}"] = data
            return {"mediaType": kind, "digest": f"sha256:{sha256}", "size": len(data)}

        suffix = {"gzip": "+gzip", "zstd": "+zstd", "": ""}[self.packing]
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{MEDIA}.manifest.v1+json",
            "config": blob(f"{MEDIA}.config.v1+json", self.config_bytes),
            "layers": [
                blob(f"{MEDIA}.layer.v1.tar{suffix}", pack(data, self.packing))
                for data in self.layers
            ],
        }
        descriptor = blob(f"{MEDIA}.manifest.v1+json", json.dumps(manifest).encode())
        found["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
        found["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
        return found

    def saved(self) -> dict[str, bytes]:
        """Return the files of what ``docker save`` writes, as it did before version 25."""
        found = {f"{self.id}.json": self.config_bytes}
        names = [f"{number:064x}/layer.tar" for number in range(len(self.layers))]
        found |= dict(zip(names, self.layers, strict=True))
        said = [{"Config": f"{self.id}.json", "RepoTags": ["x:latest"], "Layers": names}]
        return {**found, "manifest.json": json.dumps(said).encode()}


def image(
    *layers: bytes, packing: str = "gzip", config: dict[str, Any] | None = None, **top: Any
) -> Built:
    """Return an image of ``layers`` for this machine; ``config`` is what it says of how it is run."""
    said = {
        "os": "linux",
        "architecture": ARCHITECTURE,
        "config": config or {},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers],
        },
        **top,
    }
    return Built(list(layers), said, packing)


def write_folder(path: Path, contents: dict[str, bytes]) -> Path:
    for name, data in contents.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return path


def write_tar(path: Path, contents: dict[str, bytes]) -> Path:
    path.write_bytes(layer(*(entry(name, data) for name, data in contents.items())))
    return path
