"""JSON documents whose numbers and bytes must survive: specs, catalogues, configs, states.

The standard ``json`` reads them with Decimal for every fraction, refuses duplicate keys, NaN and Infinity, and is bounded in
bytes and depth before it starts. ``members`` and ``elements`` cut a document into the source text of its parts, so that a part
can be passed on exactly as the plugin wrote it. orjson is for our own events only: it rounds long numbers silently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

from dativo.protocol.errors import ProtocolViolation, Where

MAX_DOCUMENT_BYTES: Final = 16 * 1024 * 1024
MAX_DEPTH: Final = 64

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | Decimal | bool | None"

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r]*")


def check_bounds(
    text: str, what: str, *, max_bytes: int = MAX_DOCUMENT_BYTES, max_depth: int = MAX_DEPTH
) -> None:
    """Raise ProtocolViolation when ``text`` is longer than ``max_bytes`` or nested deeper than ``max_depth``."""
    if len(text) > max_bytes:
        raise ProtocolViolation(f"{what} has more than {max_bytes} characters")
    depth = 0
    for token in _TOKEN.finditer(text):
        character = text[token.start()]
        if character in "[{":
            depth += 1
            if depth > max_depth:
                raise ProtocolViolation(
                    f"{what} is nested deeper than {max_depth}", Where(byte=token.start())
                )
        elif character in "]}":
            depth -= 1


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"duplicate key {key!r}")
            seen.add(key)
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_no_duplicates
)


def loads(
    text: str, what: str, *, max_bytes: int = MAX_DOCUMENT_BYTES, max_depth: int = MAX_DEPTH
) -> Json:
    """Return the value of ``text``. Raises ProtocolViolation that names ``what`` and the byte."""
    check_bounds(text, what, max_bytes=max_bytes, max_depth=max_depth)
    try:
        value, end = _DECODER.raw_decode(text, _skip(text, 0))
    except json.JSONDecodeError as error:
        raise ProtocolViolation(
            f"{what} is not JSON: {error.msg}",
            Where(byte=error.pos),
            value=text[error.pos : error.pos + 80],
        ) from error
    except ValueError as error:
        raise ProtocolViolation(f"{what} is not JSON: {error}") from error
    if _skip(text, end) != len(text):
        raise ProtocolViolation(
            f"{what} has text after its end", Where(byte=end), value=text[end : end + 80]
        )
    return value  # type: ignore[no-any-return]  # raw_decode is typed Any


def dumps(value: Json) -> str:
    """Return ``value`` as compact JSON; a Decimal keeps its digits and exponent as they were read."""
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts)


def _write(value: Json, parts: list[str]) -> None:
    if isinstance(value, dict):
        parts.append("{")
        for index, (key, item) in enumerate(value.items()):
            if index:
                parts.append(",")
            parts.append(string(key))
            parts.append(":")
            _write(item, parts)
        parts.append("}")
    elif isinstance(value, list):
        parts.append("[")
        for index, item in enumerate(value):
            if index:
                parts.append(",")
            _write(item, parts)
        parts.append("]")
    elif isinstance(value, Decimal):
        parts.append(str(value))
    elif isinstance(value, str):
        parts.append(string(value))
    else:
        parts.append(json.dumps(value))


def string(value: str) -> str:
    """Return ``value`` as a JSON string that is UTF-8 whatever it holds: half a surrogate pair stays escaped."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return json.dumps(value, ensure_ascii=False)


def assemble(members: Mapping[str, str]) -> str:
    """Return the object of ``members``, whose values are source texts: what ``members`` takes apart."""
    return "{" + ",".join(f"{string(key)}:{value}" for key, value in members.items()) + "}"


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def members(text: str, what: str) -> dict[str, str]:
    """Return the members of the object ``text`` as source text, in order. Raises ProtocolViolation."""
    return dict(_parts(text, what, "{", "}"))


def elements(text: str, what: str) -> list[str]:
    """Return the elements of the array ``text`` as source text, in order. Raises ProtocolViolation."""
    return [part for _, part in _parts(text, what, "[", "]")]


def _parts(text: str, what: str, opening: str, closing: str) -> Iterator[tuple[str, str]]:
    loads(text, what)
    at = _skip(text, 0)
    if text[at] != opening:
        kind = "an object" if opening == "{" else "an array"
        raise ProtocolViolation(f"{what} is not {kind}", value=text[:80])
    at = _skip(text, at + 1)
    while text[at] != closing:
        key = ""
        if opening == "{":
            key, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
        _, end = _DECODER.raw_decode(text, at)
        yield key, text[at:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
