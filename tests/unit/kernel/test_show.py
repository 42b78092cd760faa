"""Foreign text stays on its line and cannot drive a terminal."""

import ast
import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dativo.kernel import show
from dativo.kernel.show import foreign

KERNEL = Path(show.__file__).parent


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


@given(st.text())
def test_what_forgot_to_be_escaped_steers_no_terminal_either(text: str) -> None:
    written = show._harmless(text)
    assert not {c for c in written if unicodedata.category(c) in {"Cc", "Cs"}} - {"\t", "\n"}
    assert show._harmless("a\tb\nc – “ok”") == "a\tb\nc – “ok”"


def test_a_document_keeps_its_value_on_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a\u009b\u202e": ["\x1b[31m", "\ud800", "Grüße"]}
    show.data(show.document(json.dumps(value, ensure_ascii=False, indent=1)))
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert "\u009b" not in out and "\u202e" not in out


def test_nothing_else_writes_to_the_standard_streams() -> None:
    """States on stdout (stdout.py) are data for a program; ``--version`` answers before all imports."""
    allowed = {"show.py", "stdout.py", "__main__.py", "standalone.py"}
    for file in sorted(set(KERNEL.glob("*.py")) - {KERNEL / name for name in allowed}):
        names = {
            ast.unparse(node)
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Attribute)
        }
        found = names & {"sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer", "click.echo"}
        assert not found, f"{file.name} writes by {found}, not by show"
