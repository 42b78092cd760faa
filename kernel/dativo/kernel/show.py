"""The one way in which text reaches a terminal, and foreign text a log or a report.

Whatever a connector wrote may hold escape sequences, forged log lines or text that reorders what is read (C0, C1, bidi controls,
line separators; Trojan Source, CVE-2021-42574). They are shown as escapes, so that one line stays one line.
"""

from __future__ import annotations

import os
import sys
from typing import Final, TextIO

from dativo.protocol.errors import Blame, DativoError

MAX_SHOWN_CHARS: Final = 2000

_BIDI_AND_SEPARATORS = "\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
_ESCAPES: Final[dict[int, str]] = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))},
    **{ord(character): f"\\u{ord(character):04x}" for character in _BIDI_AND_SEPARATORS},
    0x09: "\\t",
    0x0A: "\\n",
    0x0D: "\\r",
}
_STEERING: Final = {code: text for code, text in _ESCAPES.items() if code not in (0x09, 0x0A)}
_ERASE_LINE: Final = "\r\x1b[K"
# Space between the parts of a document may hold tab and line ends; its strings may not.
_JSON_ESCAPES: Final[dict[int, str]] = {
    code: f"\\u{code:04x}" for code in (0x7F, *range(0x80, 0xA0), *map(ord, _BIDI_AND_SEPARATORS))
}


def foreign(text: str | bytes, *, max_chars: int = MAX_SHOWN_CHARS) -> str:
    """Return ``text`` on one line with every control character escaped, clipped to ``max_chars``."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    clipped = text[:max_chars].translate(_ESCAPES)
    # Surrogates cannot be printed; they are written as they would be escaped in JSON.
    clipped = clipped.encode("utf-8", "backslashreplace").decode("utf-8")
    return clipped + "…" if len(text) > max_chars else clipped


def document(text: str) -> str:
    """Return a JSON document with every control character that may stand in its strings escaped, which changes no value."""
    return text.translate(_JSON_ESCAPES)


def data(text: str) -> None:
    """Write data to stdout, and a line end. Raises DativoError when it cannot be written."""
    try:
        sys.stdout.write(_harmless(text) + "\n")
    except OSError as error:
        _lost(error)


def flush() -> None:
    """Write out what stdout still holds. Raises DativoError when it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _lost(error)


def note(text: str) -> None:
    """Write a line for people to stderr; nobody may be left to read it."""
    _to_stderr(_harmless(text) + "\n")


def progress(text: str) -> None:
    """Write ``text`` over the terminal's current line; the empty text takes it away."""
    _to_stderr(_ERASE_LINE + foreign(text))


def _harmless(text: str) -> str:
    """Return ``text`` with nothing in it that steers a terminal, whoever forgot ``foreign``; lines and tabs stay."""
    return text.translate(_STEERING).encode("utf-8", "backslashreplace").decode("utf-8")


def _to_stderr(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)


def open_standard_streams() -> None:
    """Put /dev/null where this process was started without stdin, stdout or stderr, so that no file takes their place."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")


def _lost(error: OSError) -> None:
    """Go on without a reader (`dativo … | head`): what a command does and how it ends is not his to decide."""
    _silence(sys.stdout)
    if not isinstance(error, BrokenPipeError):
        raise DativoError(
            f"cannot write to stdout: {error.strerror}", blame=Blame.MACHINE
        ) from error


def _silence(stream: TextIO) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
