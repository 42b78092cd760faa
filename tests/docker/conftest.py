from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docker.engine import Engine, missing


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker Engine of its own, for all tests."""
    if reason := missing():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="dativo-docker-"))
    folder.chmod(0o711)
    try:
        with Engine.start(folder) as started:
            yield started
    finally:
        shutil.rmtree(folder)
