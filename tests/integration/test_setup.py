"""setup.sh names every missing thing with the line to type, all at once, and touches nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.integration.conftest import ROOT

# apt-get is left out: as root setup.sh would install bubblewrap with it.
NEEDED = ("bash", "dirname", "env", "id", "sed")
TOOLS = {"git": "git", "cc": "a C compiler", "python3": "Python >= 3.11", "bwrap": "bubblewrap"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of setup.sh alone, and a PATH beside it on which every tool but cargo is found."""
    shutil.copy(ROOT / "setup.sh", tmp_path)
    bin = tmp_path / "bin"
    bin.mkdir()
    for name in (*NEEDED, *TOOLS):
        found = shutil.which(name, path="/usr/bin:/bin")
        if found is None:
            pytest.skip(f"{name} is not installed here")
        (bin / name).symlink_to(found)
    return tmp_path


def say(checkout: Path, name: str, said: str, status: int = 0) -> None:
    """Put a program onto the PATH that says one thing."""
    path = checkout / "bin" / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\nprintf %s '{said}'\nexit {status}\n")
    path.chmod(0o755)


def setup(checkout: Path) -> str:
    ran = subprocess.run(
        [checkout / "setup.sh"],
        env={"PATH": str(checkout / "bin"), "HOME": str(checkout)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 1 and ran.stdout == ""
    assert {path.name for path in checkout.iterdir()} == {"setup.sh", "bin"}
    return ran.stderr


@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_missing_is_named(checkout: Path, tool: str) -> None:
    (checkout / "bin" / tool).unlink()
    said = setup(checkout)
    assert f"missing: {TOOLS[tool]}\n" in said and "apt-get install -y" in said
    assert "missing: cargo >= 1.85\n" in said
    assert said.count("missing: ") == 2


def test_everything_is_named_at_once(checkout: Path) -> None:
    for tool in TOOLS:
        (checkout / "bin" / tool).unlink()
    said = setup(checkout)
    assert said.count("missing: ") == len(TOOLS) + 1
    # What to type stands below each, by itself.
    lines = said.splitlines()
    assert all(line.startswith("    ") and line.strip() for line in lines[1::2])


def test_a_cargo_that_is_too_old(checkout: Path) -> None:
    say(checkout, "cargo", "cargo 1.80.1 (376290515 2024-07-16)")
    assert "missing: cargo >= 1.85 (found cargo 1.80.1 (376290515 2024-07-16))" in setup(checkout)
    say(checkout, "rustup", "")
    assert "rustup update stable" in setup(checkout)


def test_a_python_that_is_too_old(checkout: Path) -> None:
    say(checkout, "python3", "", status=1)
    assert "missing: Python >= 3.11\n" in setup(checkout)


def test_a_python_without_venv(checkout: Path) -> None:
    path = checkout / "bin/python3"
    path.unlink()
    path.write_text('#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; esac\nexit 0\n')
    path.chmod(0o755)
    said = setup(checkout)
    assert "missing: python3-venv\n" in said and "Python >=" not in said
