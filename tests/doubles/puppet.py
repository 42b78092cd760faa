"""Executables that stand in the place of dativo's own and do what a script says (puppet.c)."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.integration.conftest import Workspace

_MARK = b"\n#SCRIPT\n"
_SOURCE = Path(__file__).with_name("puppet.c")


def say(**event: Any) -> str:
    """The act of telling the kernel one event."""
    return "say " + json.dumps(event)


def stand_in(workspace: Workspace, program: str, acts: Iterable[str]) -> None:
    """Let ``dativo`` of ``workspace`` start a puppet where it means its own ``program``."""
    real = Path(workspace.environment().get("DATIVO_BIN_DIR") or sysconfig.get_path("scripts"))
    folder = workspace.home / "bin"
    folder.mkdir()
    folder.chmod(0o755)
    for path in real.glob("dativo-*"):
        shutil.copy(path, folder / path.name)
    puppet = folder / program
    puppet.write_bytes(_binary() + _MARK + "\n".join(acts).encode())
    puppet.chmod(0o755)
    workspace.env["DATIVO_BIN_DIR"] = str(folder)


@functools.cache
def _binary() -> bytes:
    # Statically linked: there is no loader where it runs.
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "puppet"
        command = [
            "cc",
            "-static",
            "-O1",
            "-Wall",
            "-Werror",
            "-s",
            "-o",
            str(binary),
            str(_SOURCE),
        ]
        subprocess.run(command, check=True, timeout=120)
        return binary.read_bytes()
