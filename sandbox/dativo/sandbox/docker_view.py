"""What a program may do beneath the folders of a container: Landlock's rules, from what the engine has put there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from dativo.sandbox.errors import WallMissing
from dativo.sandbox.mounts import DEVICES, Access, View

# Never executed from, whatever the image has there.
_NOT_OF_IMAGE: Final = frozenset(("proc", "sys", "dev", "tmp", ".dativo"))
_ENGINES: Final = frozenset(("proc", "sys", "dev"))
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
_MAX_ENTRIES: Final = 256


def view_with_image(view: View, pid: int) -> View:
    """Return the rules of the container: what the image has at its root is executed, unless something writable lies in it. Of the
    engine's /dev, which has terminals too, the devices that every process has.
    """
    fd = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(fd) as found:
            entries = [
                entry.name
                for entry in found
                if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)
            ]
        if len(entries) > _MAX_ENTRIES:
            raise WallMissing("docker", f"the image has over {_MAX_ENTRIES} files at its root")
        volumes = in_memory(Path(f"/proc/{pid}/mountinfo").read_text("utf-8", "strict"))
        for path in volumes:
            _open_to_all(fd, path)
    finally:
        os.close(fd)
    written = [*volumes, *(mount.inside for mount in view.given if mount.writable)]
    rules: list[tuple[Access, str]] = [
        rule for rule in view.rules if rule[0] != "device" and not rule[1].startswith("/etc/")
    ]
    rules.append(("list", "/dev"))
    rules.extend(("device", f"/dev/{name}") for name in DEVICES)
    rules.extend(("write", path) for path in volumes)
    for name in sorted(set(entries) - _NOT_OF_IMAGE):
        above = any(path == f"/{name}" or path.startswith(f"/{name}/") for path in written)
        rules.append(("read" if above else "execute", f"/{name}"))
    return View((), view.given, tuple(dict.fromkeys(rules)), (), view.files, view.has_run)


def in_memory(mountinfo: str) -> list[str]:
    """Return where the engine has mounted a tmpfs for us: /tmp, and over the image's volumes (proc_pid_mountinfo(5))."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, place = before.split(" ")[3:5]
        first = place.split("/")[1]
        if after.startswith("tmpfs ") and root == "/" and first not in _ENGINES:
            found.append(_ESCAPED.sub(lambda match: chr(int(match[1], 8)), place))
    return found


def _open_to_all(root: int, path: str) -> None:
    """Give a tmpfs the mode that was asked for: runc puts the mode of the image's folder there instead."""
    fd = os.dup(root)
    try:
        for name in path.strip("/").split("/"):
            inner = os.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd
            )
            os.close(fd)
            fd = inner
        os.fchmod(fd, 0o1777)
    finally:
        os.close(fd)
