"""Foreign text stays on its line and cannot drive a terminal."""

import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dativo.kernel.show import foreign


@given(st.text() | st.binary())
def test_nothing_controls_the_terminal(text: str | bytes) -> None:
    shown = foreign(text)
    assert len(shown.splitlines()) <= 1
    for character in shown:
        assert unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}
        assert unicodedata.bidirectional(character) not in {
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        }


def test_plain_text_is_left_alone() -> None:
    assert foreign("Grüße, 東京 – “ok”") == "Grüße, 東京 – “ok”"
    assert foreign("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert foreign("x" * 50, max_chars=10) == "x" * 10 + "…"


def test_naughty_strings() -> None:
    folder = os.environ.get("DATIVO_CORPORA")
    if folder is None:
        pytest.skip("DATIVO_CORPORA is not set: big list of naughty strings")
    for text in json.loads(Path(folder, "naughty-strings.json").read_text()):
        assert len(foreign(text).splitlines()) <= 1
