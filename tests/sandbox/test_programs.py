"""What a process may execute beside its own program (`Grants.execute`): not there without the grant, started with it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dativo.sandbox import Confined, Grants

Launch = Callable[..., Confined]
WITHIN_S = 60.0
PREFIX = Path(sys.base_prefix)
# The distribution's Python lies where the machine's programs do.
RUNTIME = () if PREFIX.is_relative_to("/usr") else (PREFIX,)
PYTHON = str(Path(sys.executable).resolve())
CODE = """
import json, subprocess, sys
found = {}
for path in sys.argv[1:]:
    try:
        found[path] = subprocess.run([path], stdin=subprocess.DEVNULL, capture_output=True, timeout=20).returncode
    except OSError as error:
        found[path] = type(error).__name__
print(json.dumps(found))
"""
GONE = "FileNotFoundError"


def executed(start: Launch, *paths: str, execute: tuple[Path, ...] | None = None) -> dict[str, Any]:
    """What became of each of ``paths``, started by a Python of its own runtime; None is the default."""
    grants = Grants() if execute is None else Grants(execute=execute)
    confined = start(PYTHON, "-I", "-c", CODE, *paths, grants=grants, runtime=RUNTIME)
    end = confined.wait(WITHIN_S)
    assert end.succeeded, confined.stderr_tail()
    found: dict[str, Any] = json.loads(os.read(confined.stdout, 65536))
    return found


def hidden_program() -> str:
    """A program that lies among the libraries, where it is read and not executed."""
    for folder, _, names in os.walk("/usr/lib"):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.islink(path) or ".so" in name or not os.access(path, os.X_OK):
                continue
            with open(path, "rb") as file:
                if file.read(4) == b"\x7fELF":
                    return path
    pytest.skip("no program lies below /usr/lib here")


def test_the_machines_programs_unless_less_is_granted(start: Launch) -> None:
    paths = ("/bin/sh", "/usr/bin/true")
    assert executed(start, *paths) == dict.fromkeys(paths, 0)
    assert executed(start, *paths, execute=()) == dict.fromkeys(paths, GONE)


def test_its_own_interpreter_is_its_own_program(start: Launch) -> None:
    assert executed(start, PYTHON, execute=()) == {PYTHON: 0}


def test_one_program_by_name(start: Launch) -> None:
    only = (Path("/usr/bin/true"),)
    assert executed(start, "/usr/bin/true", "/bin/sh", execute=only) == {
        "/usr/bin/true": 0,
        "/bin/sh": GONE,
    }


def test_a_link_of_the_machines_leads_where_it_leads_outside(start: Launch) -> None:
    real = os.path.realpath("/usr/bin/sh")
    found = executed(start, "/bin/sh", real, "/usr/bin/true", execute=(Path("/usr/bin/sh"),))
    assert found == {"/bin/sh": 0, real: 0, "/usr/bin/true": GONE}


def test_a_program_of_the_operators(start: Launch, folder: Path) -> None:
    """Seen and executed where it lies, and nothing beside it; a read grant alone executes nothing."""
    tool, other = folder / "tool", folder / "other"
    for file in (tool, other):
        file.write_text("#!/bin/sh\nexit 3\n")
        file.chmod(0o755)
    usr = Path("/usr")
    assert executed(start, str(tool), execute=(usr,)) == {str(tool): GONE}
    assert executed(start, str(tool), str(other), execute=(usr, tool)) == {
        str(tool): 3,
        str(other): GONE,
    }
    # Its interpreter is not its own: it has to be granted too.
    assert executed(start, str(tool), execute=(tool,)) == {str(tool): GONE}
    assert executed(start, str(tool), execute=(tool, Path("/usr/bin/sh"))) == {str(tool): 3}


def test_programs_among_the_libraries_are_not_executed(start: Launch) -> None:
    path = hidden_program()
    confined = start("/usr/bin/true", grants=Grants())
    confined.wait(WITHIN_S)
    if not confined.attestation.landlock_abi:
        pytest.skip("no Landlock: it is the layer that refuses this")
    assert executed(start, path, execute=()) == {path: "PermissionError"}
    assert executed(start, path)[path] != "PermissionError"


@pytest.mark.parametrize("first", ["#!/bin/sh", "#!/usr/bin/env sh"])
def test_a_script_has_its_interpreter(start: Launch, folder: Path, first: str) -> None:
    script = folder / "script"
    script.write_text(f"{first}\necho up; ls /\n")
    script.chmod(0o755)
    confined = start(str(script), grants=Grants(execute=()), runtime=(folder,))
    end = confined.wait(WITHIN_S)
    assert os.read(confined.stdout, 100) == b"up\n" and end.code == 127
    assert b"ls: not found" in confined.stderr_tail()


def test_a_system_interpreter_by_its_own_name(start: Launch) -> None:
    confined = start("/bin/sh", "-c", "echo $0; ls", grants=Grants(execute=()))
    assert confined.wait(WITHIN_S).code == 127
    assert os.read(confined.stdout, 100) == b"/bin/sh\n"
