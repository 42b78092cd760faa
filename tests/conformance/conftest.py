"""Things nobody here wrote, run against the installed commands: their environments, connectors, and our targets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.environments import Environment, kept
from tests.conformance.pipes import Target
from tests.integration.conftest import Workspace, nothing_left, plain_flags

__all__ = ["nothing_left"]

NIGHTLY = bool(os.environ.get("DATIVO_NIGHTLY"))
CONNECTORS = (
    "airbyte:source-faker==7.2.1",
    "airbyte:source-hardcoded-records==0.0.48",
    "singer:tap-jsonl==0.3.1",
)


@pytest.fixture(scope="session")
def singer_tools(pytestconfig: pytest.Config) -> Environment:
    """singer-check-tap."""
    return kept("singer-tools", pytestconfig)


@pytest.fixture(scope="session")
def target_jsonl(pytestconfig: pytest.Config) -> Environment:
    """A target built on singer-python."""
    return kept("target-jsonl", pytestconfig)


@pytest.fixture(scope="session")
def singer_sdk(pytestconfig: pytest.Config) -> Environment:
    """Meltano's SDK with its test suites."""
    return kept("singer-sdk", pytestconfig)


@pytest.fixture(scope="session")
def pyairbyte(pytestconfig: pytest.Config) -> Environment:
    """PyAirbyte and Airbyte's connector development kit."""
    return kept("pyairbyte", pytestconfig)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with the connectors installed, once."""
    folder = tmp_path_factory.mktemp("shelf")
    made = Workspace(folder / "workspace", folder / "home", flags=plain_flags())
    made.folder.mkdir()
    made.home.mkdir(mode=0o700)
    for reference in CONNECTORS:
        added = made.dativo("plugin", "add", reference, *made.flags, timeout_s=900)
        assert added.status == 0, added.stderr
    return made


@pytest.fixture(params=["parquet", "iceberg"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    """One of our standalone targets with a warehouse of its own."""
    made = Target(request.param, tmp_path / "pipe")
    made.folder.mkdir()
    yield made
    shutil.rmtree(made.warehouse, ignore_errors=True)


@pytest.fixture
def parquet(tmp_path: Path) -> Iterator[Target]:
    """The Parquet target, where both would say the same."""
    made = Target("parquet", tmp_path / "pipe")
    made.folder.mkdir()
    yield made
    shutil.rmtree(made.warehouse, ignore_errors=True)


def replayed(shelf: Workspace, protocol: str, discover: bytes, read: bytes, status: int = 0) -> str:
    """Make a plugin that says ``discover`` and ``read`` and exits with ``status``; return its reference."""
    folder = shelf.folder / "plugins/replay"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(Path(__file__).parent / "replay", folder, ignore=shutil.ignore_patterns("__*"))
    (folder / "plugin.yaml").write_text(
        f"name: replay\nversion: 0.1.0\ntype: reader\nlanguage: python\nprotocol: {protocol}\n"
        'entry_point: {file: source.py}\napi_version: "1"\n'
    )
    (folder / "discover.out").write_bytes(discover)
    (folder / "read.out").write_bytes(read)
    (folder / "status").write_text(str(status))
    (shelf.folder / "replay.json").write_text("{}")
    return "./plugins/replay"
