"""Why an image is refused, and what it may at most be."""

from __future__ import annotations

from dataclasses import dataclass


class Refused(Exception):
    """The image is damaged, hostile, for another machine, or larger than permitted. ``value``: what was seen."""

    def __init__(self, reason: str, value: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.value = value


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one image may have: ``files`` and ``bytes`` of its root, links and folders counted as files; ``ratio`` of the
    bytes that come out of a layer to those that go in; ``path_bytes`` of a path in it.
    """

    layers: int
    files: int
    bytes: int
    ratio: int
    path_bytes: int


class Budget:
    """What is left of ``Bounds`` while a root is written. What a later layer takes away again stays counted."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.files = 0
        self.bytes = 0

    def file(self, path: str) -> None:
        """Count one entry. Raises Refused."""
        self.files += 1
        if self.files > self._bounds.files:
            raise Refused(f"it has more than {self._bounds.files} files, links and folders")
        if len(path.encode(errors="surrogateescape")) > self._bounds.path_bytes:
            raise Refused(f"it has a path of more than {self._bounds.path_bytes} bytes", path[:80])

    def data(self, count: int) -> None:
        """Count bytes, before they are written. Raises Refused."""
        self.bytes += count
        if self.bytes > self._bounds.bytes:
            raise Refused(f"it unpacks to more than {self._bounds.bytes} bytes")
