"""The transcript of docs/guide/native.md is what happens."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

pytest.importorskip("dativo.native", reason="dativo.native is not built: uv sync")

GUIDE = Path(__file__).parents[3] / "docs/guide/native.md"


def test_the_transcript_of_the_guide() -> None:
    found = doctest.testfile(str(GUIDE), module_relative=False)
    assert found.failed == 0
    assert found.attempted == GUIDE.read_text().count(">>> ")
