"""Where bubblewrap and dativo-confine are. Neither is ever looked up in PATH."""

from __future__ import annotations

import os
import stat
import sysconfig
from functools import cache
from pathlib import Path
from typing import Final

from dativo.sandbox.errors import WallMissing

# Environment of the launcher: another bubblewrap, and the folder of dativo's own executables.
BWRAP_VARIABLE: Final = "DATIVO_BWRAP"
FOLDER_VARIABLE: Final = "DATIVO_BIN_DIR"

_BWRAP: Final = Path("/usr/bin/bwrap")
_INSTALL: Final = "Install it: apt install bubblewrap (or dnf, apk, pacman)."


def bubblewrap() -> Path:
    """Return the distribution's bubblewrap; raise WallMissing when it is missing, not runnable, or set-uid."""
    path = Path(os.environ.get(BWRAP_VARIABLE) or _BWRAP)
    try:
        status = path.stat()
    except OSError as error:
        raise WallMissing("bubblewrap", f"{path}: {error.strerror}", _INSTALL) from error
    if not stat.S_ISREG(status.st_mode) or not os.access(path, os.X_OK):
        raise WallMissing("bubblewrap", f"{path} cannot be executed", _INSTALL)
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise WallMissing(
            "bubblewrap",
            f"{path} is set-uid, which widens what a fault of it gives away",
            f"Allow unprivileged user namespaces and type: chmod u-s,g-s {path}",
        )
    return path


def confine() -> Path:
    """Return dativo-confine, beside this interpreter's scripts; raise WallMissing when it is not there."""
    folder = os.environ.get(FOLDER_VARIABLE) or _scripts()
    path = Path(folder) / "dativo-confine"
    if not os.access(path, os.X_OK):
        raise WallMissing(
            "bubblewrap",
            f"dativo's own executable {path} is missing",
            "Build it: uv sync (needs cargo).",
        )
    return path


@cache
def _scripts() -> str:
    # Half a millisecond each time; a process has one interpreter.
    return sysconfig.get_path("scripts")
