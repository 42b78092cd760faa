"""The entries of one layer: unpacked as they are read, counted, and held against both digests at the end."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from dativo.plugins.image.archive import DAMAGE, GZIP, ZSTD, Blob
from dativo.plugins.image.manifest import Layer
from dativo.plugins.image.refusal import Bounds, Refused

_CHUNK_BYTES: Final = 1 << 18
_ALWAYS_BYTES: Final = 64 << 20
"""No compression ratio is too high for this little."""


class _Hashed(io.RawIOBase):
    """Passes on what is read and hashes it."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.digest = hashlib.sha256()
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        self.digest.update(data)
        self.count += len(data)
        buffer[: len(data)] = data
        return len(data)


class _Counted(_Hashed):
    """The same for what comes out of ``packed``, which may not grow without end."""

    def __init__(self, source: Any, packed: int, bounds: Bounds) -> None:
        super().__init__(source)
        self._most = max(_ALWAYS_BYTES, packed * bounds.ratio)
        self._ratio = bounds.ratio

    def readinto(self, buffer: Any) -> int:
        try:
            count = super().readinto(buffer)
        except (
            OSError,
            EOFError,
            ValueError,
            zlib.error,
        ) as error:  # pyarrow's are OSError or ValueError
            raise Refused("a layer is damaged", str(error)) from error
        if self.count > self._most:
            raise Refused(f"a layer unpacks to more than {self._ratio} times its size")
        return count


def entries(
    blob: Blob, layer: Layer, bounds: Bounds
) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Yield each entry of a layer, with the content of a file; read it before the next one is asked for.

    Raises Refused for damage, for what grows too much, and at the end for content of another digest: what was written until then
    is worth nothing.
    """
    packed = _Hashed(blob)
    content = _Counted(_unpacked(blob, packed), blob.size, bounds)
    with (
        damage(),
        tarfile.open(
            fileobj=content,
            mode="r|",
            bufsize=_CHUNK_BYTES,
            encoding="utf-8",
            errors="surrogateescape",
        ) as tar,
    ):
        while (entry := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # typeshed does not know it
            yield entry, tar.extractfile(entry) if entry.isreg() else None
    for stream in (content, packed):
        while stream.read(_CHUNK_BYTES):
            continue
    if content.digest.hexdigest() != layer.content:
        raise Refused("a layer's content is not what the configuration says", layer.content)
    if layer.packed is not None and packed.digest.hexdigest() != layer.packed:
        raise Refused("a layer is not what its digest says", layer.packed)


def _unpacked(blob: Blob, packed: _Hashed) -> Any:
    """Return the reader of the layer's tar file; what it is packed with is told by its first bytes."""
    if blob.begins_with(GZIP):
        return gzip.GzipFile(fileobj=io.BufferedReader(packed, _CHUNK_BYTES))
    if blob.begins_with(ZSTD):
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.PythonFile(packed, "r"), "zstd")
    return packed


@contextmanager
def damage() -> Iterator[None]:
    """Turn what ``tarfile`` raises while it reads into Refused."""
    try:
        yield
    except DAMAGE as error:
        raise Refused("a layer is no tar file, or a damaged one", str(error)) from error
