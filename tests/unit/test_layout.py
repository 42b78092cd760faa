"""What the layout promises: rooms, version, size of files, documented statuses."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dativo.kernel._version import VERSION
from dativo.protocol.errors import ExitStatus

ROOT = Path(__file__).parents[2]
ROOMS = ["kernel", "protocol", "sandbox", "schemas", "plugins", "connectors"]


def test_the_namespace_package_has_no_init() -> None:
    for room in ROOMS:
        assert not (ROOT / room / "dativo" / "__init__.py").exists(), (
            "it would hide every other room"
        )
        assert (ROOT / room / "dativo" / room / "__init__.py").exists()
    assert not (ROOT / "rust-plugins/native/python/dativo/__init__.py").exists()


def test_the_version_is_one() -> None:
    for folder in (".", "rust-plugins", "rust-plugins/native"):
        project = f"{folder}/pyproject.toml"
        assert tomllib.loads((ROOT / project).read_text())["project"]["version"] == VERSION
    cargo = tomllib.loads((ROOT / "rust-plugins/Cargo.toml").read_text())
    assert cargo["package"]["version"] == VERSION == cargo["workspace"]["package"]["version"]


def test_no_file_is_too_long_to_read() -> None:
    sources = [
        *ROOT.glob("*/dativo/**/*.py"),
        *ROOT.glob("rust-plugins/*/src/**/*.rs"),
        *ROOT.glob("tests/**/*.py"),
    ]
    assert len(sources) > 30
    long = {
        str(path.relative_to(ROOT)): n
        for path in sources
        if (n := len(path.read_text().splitlines())) > 800
    }
    assert not long


def test_every_exit_status_is_documented_and_nothing_else() -> None:
    text = (ROOT / "docs/spec/exit-codes.md").read_text()
    documented = {
        int(number): name
        for number, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)
    }
    assert documented == {int(status): status.name for status in ExitStatus}


def test_the_command_line_imports_nothing_heavy() -> None:
    code = (
        "import sys; from dativo.kernel import cli; "
        "print([m for m in ('pydantic', 'pyarrow', 'pyiceberg', 'docker', 'yaml', 'jsonschema', 'sqlite3') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"


def test_the_version_imports_nothing_at_all() -> None:
    code = (
        "import sys; sys.argv = ['dativo', '--version']; from dativo.kernel.__main__ import main; main(); "
        "print(sorted(m for m in sys.modules if m.startswith(('dativo.', 'click'))))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    version, modules = run.stdout.splitlines()
    assert version == f"dativo {VERSION}"
    assert modules == "['dativo.kernel', 'dativo.kernel.__main__', 'dativo.kernel._version']"


def test_no_tracked_file_names_the_place_of_this_checkout() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    place = re.compile(rf"(?<![\w./-]){re.escape(str(ROOT))}/")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix not in {".bpf", ".parquet"} and path.is_file():
            assert not place.search(path.read_text(errors="replace")), name
