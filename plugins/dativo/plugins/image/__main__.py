"""``python -I -m dativo.plugins.image describe|unpack ARCHIVE MACHINE BOUNDS [ROOT ID]``: one JSON object on stdout.

    describe   {"id", "config": {…}}: which image it is and how it wants to be run; nothing is written
    unpack     writes its root into the empty folder ROOT: {"id", "config", "program", "files", "bytes", "devices", "set_uid"}

An image that is refused: {"refused", "value"}, exit status 3.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import stat
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from dativo.plugins.image.archive import Archive, open_archive
from dativo.plugins.image.changes import Changes
from dativo.plugins.image.manifest import Image, find
from dativo.plugins.image.refusal import Bounds, Budget, Refused
from dativo.plugins.image.root import Root

REFUSED: Final = 3
# Mounted over the image's own when it runs (docs/spec/sandbox.md), so they must be plain files.
_ETC: Final = ("passwd", "group", "nsswitch.conf", "hosts", "resolv.conf")
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main(step: str, archive_path: str, machine: str, bounds_text: str, *more: str) -> int:
    """Run one step and return the exit status."""
    bounds = Bounds(**json.loads(bounds_text))
    os.umask(0o022)
    try:
        with closing(open_archive(Path(archive_path))) as archive:
            image = find(archive, machine, bounds.layers)
            answer: dict[str, Any] = {"id": image.id, "config": _config(image)}
            if step == "unpack":
                root, expected = more
                if image.id != expected:
                    raise Refused("the image changed while it was read", image.id)
                answer |= _unpack(archive, image, Path(root), answer["config"], bounds)
        status = 0
    except Refused as refused:
        answer = {"refused": refused.reason, "value": refused.value}
        status = REFUSED
    sys.stdout.write(json.dumps(answer) + "\n")
    return status


def _config(image: Image) -> dict[str, Any]:
    """Return how the image wants to be run, each part in its type; what is missing is empty."""
    said = image.said
    variables = _texts(said, "Env")
    if any("=" not in entry.lstrip("=") or entry.startswith("=") for entry in variables):
        raise Refused("`Env` of its configuration is malformed")
    labels = said.get("Labels") or {}
    if not isinstance(labels, dict) or not all(isinstance(text, str) for text in labels.values()):
        raise Refused("`Labels` of its configuration is malformed")
    folder, user = said.get("WorkingDir") or "/", said.get("User") or ""
    if not isinstance(folder, str) or not isinstance(user, str):
        raise Refused("`WorkingDir` or `User` of its configuration is malformed")
    parts = [part for part in folder.split("/") if part not in ("", ".")]
    if ".." in parts or not folder.startswith("/"):
        raise Refused("`WorkingDir` of its configuration is no plain path", folder)
    environment = dict(entry.split("=", 1) for entry in variables)
    return {
        "entrypoint": _entrypoint(_texts(said, "Entrypoint"), environment),
        "command": _texts(said, "Cmd"),
        "environment": environment,
        "folder": "/" + "/".join(parts),
        "user": user,
        "labels": labels,
    }


def _entrypoint(said: list[str], environment: dict[str, str]) -> list[str]:
    """Return the command that verbs are added to. Airbyte's platform reads the variable, Docker the field; they say the same."""
    if said:
        return said
    try:
        return shlex.split(environment.get("AIRBYTE_ENTRYPOINT", ""))
    except ValueError as error:
        raise Refused("its AIRBYTE_ENTRYPOINT is malformed", str(error)) from error


def _texts(said: dict[str, Any], key: str) -> list[str]:
    found = said.get(key) or []
    if not isinstance(found, list) or not all(
        isinstance(text, str) and "\0" not in text for text in found
    ):
        raise Refused(f"`{key}` of its configuration is malformed")
    return found


def _unpack(
    archive: Archive, image: Image, folder: Path, config: dict[str, Any], bounds: Bounds
) -> dict[str, Any]:
    budget = Budget(bounds)
    with closing(Root(folder, budget)) as root:
        changes = Changes(root)
        for layer in image.layers:
            changes.apply(archive, layer, bounds)
        with root.folder(config["folder"], make=True):
            pass  # as Docker makes it
        _make_etc(root)
        return {
            "program": _program(root, config),
            "files": budget.files,
            "bytes": budget.bytes,
            "devices": changes.devices,
            "set_uid": changes.set_uid,
        }


def _make_etc(root: Root) -> None:
    """Make the files of /etc that ours are mounted over. What the image has there stays, unless it is no file."""
    with root.folder("") as top:
        root.make_folder(top, "etc")
    with root.folder("etc") as etc:
        for name in _ETC:
            found = _mode(etc.fd, name)
            if found is None or not stat.S_ISREG(found):
                root.make_file(etc, name, io.BytesIO(), executable=False, time_s=0)


def _mode(folder: int, name: str) -> int | None:
    try:
        return os.lstat(name, dir_fd=folder).st_mode
    except FileNotFoundError:
        return None


def _program(root: Root, config: dict[str, Any]) -> str | None:
    """Return the path in the root of the entrypoint's program, by PATH as execvp(3) would; None when there is none."""
    if not config["entrypoint"]:
        return None
    name = config["entrypoint"][0]
    if "/" in name:
        tried = [name if name.startswith("/") else f"{config['folder'].rstrip('/')}/{name}"]
    else:
        path = config["environment"].get("PATH") or _DEFAULT_PATH
        tried = [f"{folder.rstrip('/')}/{name}" for folder in path.split(":") if folder[:1] == "/"]
    return next((each for each in tried if root.is_program(each)), None)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
