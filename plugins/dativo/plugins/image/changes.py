"""Applies layers to a root, one after the other: what each adds, replaces and takes away (OCI image specification, layer.md).

A whiteout, ``.wh.NAME`` or ``.wh..wh..opq``, takes away what lower layers have there and nothing of its own layer, wherever it
stands in it. What no root of ours may hold (devices, pipes) is left out and counted; set-uid bits are dropped and counted.
"""

from __future__ import annotations

import stat
import tarfile
from dataclasses import dataclass, field
from typing import IO, Final

from dativo.plugins.image.archive import Archive
from dativo.plugins.image.layer import damage, entries
from dativo.plugins.image.manifest import Layer
from dativo.plugins.image.refusal import Bounds, Refused
from dativo.plugins.image.root import Folder, Root

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_PRIVATE: Final = ".wh..wh."


@dataclass(slots=True)
class Changes:
    """The layers that were applied, and what was left out of them."""

    root: Root
    devices: int = 0
    set_uid: int = 0
    _own: set[str] = field(default_factory=set)

    def apply(self, archive: Archive, layer: Layer, bounds: Bounds) -> None:
        """Apply one layer. Raises Refused; the root is worth nothing then."""
        self._own.clear()
        blob = archive.open(layer.name)
        if blob is None:
            raise Refused("a layer is not in the archive", layer.name)
        with blob:
            for entry, content in entries(blob, layer, bounds):
                self._entry(entry, content)

    def _entry(self, entry: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        parts = _parts(entry.name)
        if not parts:
            return
        *folders, name = parts
        if any(part.startswith(_WHITEOUT) for part in folders) or (
            name.startswith(_PRIVATE) and name != _OPAQUE
        ):
            return  # AUFS kept its own there
        if name.startswith(_WHITEOUT):
            self._whiteout(folders, name)
        elif entry.ischr() or entry.isblk() or entry.isfifo():
            self.devices += 1
        else:
            self._make(entry, content, folders, name)

    def _whiteout(self, folders: list[str], name: str) -> None:
        gone = name.removeprefix(_WHITEOUT)
        if name != _OPAQUE and gone in ("", ".", ".."):
            raise Refused("a whiteout of the image names nothing", name)
        try:
            with self.root.folder("/".join(folders)) as parent:
                if name == _OPAQUE:
                    self._clear(parent)
                else:
                    self._take_away(parent, gone)
        except FileNotFoundError:
            return  # nothing of a lower layer is there

    def _take_away(self, parent: Folder, name: str) -> None:
        """Remove what is not of this layer."""
        path = parent.inner(name)
        if path not in self._own:
            self.root.remove(parent, name)
        elif self.root.is_folder(parent, name):
            with self.root.folder(path) as folder:
                self._clear(folder)

    def _clear(self, folder: Folder) -> None:
        for name in self.root.names(folder):
            self._take_away(folder, name)

    def _make(
        self, entry: tarfile.TarInfo, content: IO[bytes] | None, folders: list[str], name: str
    ) -> None:
        root = self.root
        with root.folder("/".join(folders), make=True) as parent:
            if entry.isdir():
                root.make_folder(parent, name)
            elif entry.issym():
                root.make_link(parent, name, entry.linkname)
            elif entry.islnk():
                self._make_hard_link(entry, parent, name)
            elif content is not None and not entry.issparse():
                self.set_uid += bool(entry.mode & (stat.S_ISUID | stat.S_ISGID))
                executable = bool(entry.mode & 0o111)
                with damage():
                    root.make_file(
                        parent, name, content, executable=executable, time_s=float(entry.mtime)
                    )
            else:
                raise Refused("an entry of the image is of a kind that is not known", entry.name)
            self._remember(parent.inner(name))

    def _make_hard_link(self, entry: tarfile.TarInfo, parent: Folder, name: str) -> None:
        *folders, target = _parts(entry.linkname) or [""]
        try:
            with self.root.folder("/".join(folders)) as source:
                if source.inner(target) != parent.inner(name):
                    self.root.copy(source, target, parent, name)
        except FileNotFoundError as error:
            raise Refused("a hard link of the image is to no file of it", entry.name) from error

    def _remember(self, path: str) -> None:
        """The layer's own: the entry and every folder on the way to it."""
        while path and path not in self._own:
            self._own.add(path)
            path = path.rpartition("/")[0]


def _parts(name: str) -> list[str]:
    """Return the components of a name in a layer, from the root on. Raises Refused for one that leads out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise Refused("a path of the image leads out of it", name[:200])
    return parts
