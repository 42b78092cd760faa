"""The seccomp filter of every confined process: policy.txt, compiled by :mod:`.compile` to one blob per machine.

At run time only the blob is read; bubblewrap loads it (``--seccomp``) after its own work and before stage 2.
"""

from __future__ import annotations

import os
from pathlib import Path

from dativo.sandbox.errors import WallMissing

FOLDER = Path(__file__).parent


def blob_path() -> Path:
    """Return the compiled filter for this machine; raise WallMissing where there is none."""
    machine = os.uname().machine
    path = FOLDER / f"{machine}.bpf"
    if not path.is_file():
        raise WallMissing(
            "seccomp",
            f"there is no filter for {machine}",
            "Run on x86_64 or aarch64 (64-bit).",
        )
    return path
