"""Virtual environments of programs that nobody here wrote: one per lock in ``requirements/``, made once and kept.

They live in a folder of the caller's under the digest of their lock.
A lock is made from the ``.in`` file of the same name by ``uv pip compile --generate-hashes --emit-build-options --no-header
--no-annotate --python-version 3.11``. Wheels only; the sdists that have none stand in the ``.in`` file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

LOCKS = Path(__file__).parent / "requirements"
UV = Path(sysconfig.get_path("scripts")) / "uv"
UNREACHABLE = ("error sending request", "dns error", "Connection refused", "Network is unreachable")
"""What uv says when there is no index to be had; anything else that fails is a failure."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A folder with ``bin/``."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    def program(self, name: str) -> Path:
        path = self.bin / name
        assert path.exists(), f"the lock has no program {name}"
        return path


class Unreachable(Exception):
    """No package index can be reached from here."""


def environment(name: str, folder: Path) -> Environment:
    """Return a lock's environment, made below ``folder`` if need be. Raises Unreachable; AssertionError with uv's words."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = LOCKS / f"{name}.txt"
    build = LOCKS / "build.txt"
    text = lock.read_bytes() + build.read_bytes() + sys.version.encode()
    made = folder / f"{name}-{hashlib.sha256(text).hexdigest()[:16]}"
    with (folder / f"{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (made / "complete").exists():
            shutil.rmtree(made, ignore_errors=True)
            _uv("venv", "--python", sys.executable, str(made))
            _uv(
                *("pip", "install", "--python", str(made / "bin/python"), "--require-hashes"),
                *("--build-constraint", str(build), "--compile-bytecode", "-r", str(lock)),
            )
            (made / "complete").touch()
    return Environment(made)


def kept(name: str, config: pytest.Config) -> Environment:
    """Make it in the folder that DATIVO_CONFORMANCE_ENVIRONMENTS names, else in pytest's cache."""
    named = os.environ.get("DATIVO_CONFORMANCE_ENVIRONMENTS")
    if named:
        folder = Path(named)
    else:
        assert config.cache is not None
        folder = Path(config.cache.mkdir("dativo-conformance"))
    try:
        return environment(name, folder)
    except Unreachable as error:
        pytest.skip(f"{name}: no package index can be reached: {error}")


def _uv(*arguments: str) -> None:
    done = subprocess.run(
        [UV, "--no-config", "--quiet", *arguments], capture_output=True, text=True, timeout=900
    )
    if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
        raise Unreachable(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
