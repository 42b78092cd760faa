"""The one way in which foreign text reaches a terminal, a log or a report.

Whatever a connector wrote may hold escape sequences, forged log lines or text that reorders what is read (C0, C1, bidi controls,
line separators; Trojan Source, CVE-2021-42574). They are shown as escapes, so that one line stays one line.
"""

from __future__ import annotations

import sys
from typing import Final

MAX_SHOWN_CHARS: Final = 2000

_BIDI_AND_SEPARATORS = "\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
_ESCAPES: Final[dict[int, str]] = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))},
    **{ord(character): f"\\u{ord(character):04x}" for character in _BIDI_AND_SEPARATORS},
    0x09: "\\t",
    0x0A: "\\n",
    0x0D: "\\r",
}


def foreign(text: str | bytes, *, max_chars: int = MAX_SHOWN_CHARS) -> str:
    """Return ``text`` on one line with every control character escaped, clipped to ``max_chars``."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    clipped = text[:max_chars].translate(_ESCAPES)
    # Surrogates cannot be printed; they are written as they would be escaped in JSON.
    clipped = clipped.encode("utf-8", "backslashreplace").decode("utf-8")
    return clipped + "…" if len(text) > max_chars else clipped


def data(text: str) -> None:
    """Write one line of data to stdout."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Write one line for people to stderr."""
    sys.stderr.write(text + "\n")
