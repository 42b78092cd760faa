"""The root file system of an image in the place of the host's: which of its entries lie where.

The root inside stays a tmpfs of our own. The image's entries are bound into it one by one, and its links are made anew; a folder
of the image in which a mount of ours must lie is opened up, so that its entries are bound instead. No mount point is ever made in
the image, and none is reached through one of its links.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dativo.sandbox.errors import WallMissing

# Made for each process; what an image has there is not seen.
_OURS: Final = ("/proc", "/dev", "/sys", "/tmp", "/.dativo")  # noqa: S108 - inside
# The files of /etc that are made for each process, over those of the image.
ETC: Final = ("passwd", "group", "nsswitch.conf", "hosts", "resolv.conf")
MAX_ENTRIES: Final = 1000
"""Mounts of one root; the folders that are opened up have as many entries as the image gave them."""


def entries(
    root: Path, targets: Iterable[str]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the links of ``root`` as (target, inside) and what is to be bound as (source, inside).

    ``targets`` are paths inside at which something else will lie. Raises WallMissing for a root that is not there, that has a
    link on the way to a target, or other things than files, folders and links.
    """
    real = os.path.realpath(root)
    wanted = {*_OURS, *targets}
    ancestors = {str(parent) for target in wanted for parent in Path(target).parents}
    links: list[tuple[str, str]] = []
    binds: list[tuple[str, str]] = []
    folders = [""]
    try:
        while folders:
            folder = folders.pop()
            for name, mode in _listing(f"{real}{folder}/"):
                inside = f"{folder}/{name}"
                if inside in wanted:
                    continue
                if inside in ancestors:
                    _check_ancestor(inside, mode)
                    folders.append(inside)
                elif stat.S_ISLNK(mode):
                    links.append((os.readlink(real + inside), inside))  # noqa: PTH115  # spelled as it is
                elif stat.S_ISDIR(mode) or stat.S_ISREG(mode):
                    binds.append((real + inside, inside))
                else:
                    raise _refused(f"{inside} of the image is neither file, folder nor link")
            if len(links) + len(binds) > MAX_ENTRIES:
                raise _refused(
                    f"the image would need more than {MAX_ENTRIES} mounts",
                    "Grant paths that lie in no folder of the image.",
                )
        _check_etc(real)
    except OSError as error:
        raise _refused(f"{error.filename}: {error.strerror}", "Install the image again.") from error
    return sorted(links), sorted(binds, key=lambda pair: pair[1])


def _listing(folder: str) -> list[tuple[str, int]]:
    with os.scandir(folder) as found:
        return [(entry.name, entry.stat(follow_symlinks=False).st_mode) for entry in found]


def _check_ancestor(inside: str, mode: int) -> None:
    if not stat.S_ISDIR(mode):
        raise _refused(
            f"{inside} of the image is no folder, and something is to lie in it",
            "Grant another path, such as the one that a link there leads to.",
        )


def _check_etc(root: str) -> None:
    """The files of /etc are mounted over those of the image, which must be there and plain."""
    if not os.path.lexists(f"{root}/etc"):
        return
    plain = stat.S_ISDIR(os.lstat(f"{root}/etc").st_mode) and all(
        stat.S_ISREG(os.lstat(f"{root}/etc/{name}").st_mode) for name in ETC
    )
    if not plain:
        raise _refused(f"/etc of the image has not the plain files {', '.join(ETC)}")


def _refused(reason: str, hint: str = "") -> WallMissing:
    return WallMissing("mounts", reason, hint)
