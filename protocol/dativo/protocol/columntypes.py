"""Types of columns in control messages (docs/spec/events.md, Types): what the kernel checks before it passes one on.

A type is a primitive's name or a struct, list or map of types, at most MAX_TYPE_DEPTH of them inside one another.
"""

from __future__ import annotations

import re
from typing import Any, Final

from dativo.protocol.errors import ProtocolViolation, shown
from dativo.protocol.fields import MAX_ITEMS, MAX_NAME_CHARS

MAX_TYPE_DEPTH: Final = 16
JSON: Final = "json"

_PRIMITIVE = re.compile(
    r"boolean|int|long|float|double|date|time|timestamp|timestamptz|string|binary|decimal\(\d{1,2},\d{1,2}\)"
)


def check_column(value: Any, depth: int = 0, *, planned: bool) -> None:
    """Raise ProtocolViolation unless ``value`` is a column, or a field below ``depth`` structs, lists and maps."""
    if not isinstance(value, dict):
        raise ProtocolViolation("column is not an object", value=shown(value))
    for key in ("property", "column") if planned else ("property",):
        name = value.get(key)
        if not isinstance(name, str) or len(name) > MAX_NAME_CHARS:
            raise _refused(f"a text of at most {MAX_NAME_CHARS} characters", name, key)
    _check_ids(value, ("field_id",) if planned else ())
    flag = "required" if planned else "metadata"
    if not isinstance(value.get(flag, False), bool):
        raise _refused("true or false", value[flag], flag)
    _check(value.get("type"), depth, planned=planned)


def _check(value: Any, depth: int, *, planned: bool) -> None:
    if isinstance(value, str):
        if not _PRIMITIVE.fullmatch(value) and (planned or value != JSON):
            raise _refused("a primitive's name", value)
        return
    if not isinstance(value, dict):
        raise _refused("a primitive's name, a struct, a list or a map", value)
    if depth == MAX_TYPE_DEPTH:
        raise _refused(f"of at most {MAX_TYPE_DEPTH} structs, lists and maps in one another", value)
    match value.get("type"):
        case "struct":
            fields = value.get("fields")
            if not isinstance(fields, list) or not 0 < len(fields) <= MAX_ITEMS:
                raise _refused(f"a struct of 1 to {MAX_ITEMS} fields", value)
            for field in fields:
                check_column(field, depth + 1, planned=planned)
        case "list":
            _check_ids(value, ("element_id",) if planned else ())
            _check(value.get("element"), depth + 1, planned=planned)
        case "map":
            _check_ids(value, ("key_id", "value_id") if planned else ())
            _check(value.get("value"), depth + 1, planned=planned)
        case _:
            raise _refused("a struct, a list or a map", value)


def _check_ids(value: dict[str, Any], keys: tuple[str, ...]) -> None:
    for key in keys:
        number = value.get(key)
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**63:
            raise _refused("a count", number, key)


def _refused(wanted: str, value: Any, key: str = "type") -> ProtocolViolation:
    return ProtocolViolation(f"column.{key} is not {wanted}", value=shown(value))
