"""What files say of the partition that all their rows are of (docs/spec/events.md, Layout), held against the table's."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any, Final

from dativo.plugins.commit.faults import protocol_fault
from dativo.plugins.commit.layouts import Layout, Placement
from dativo.plugins.commit.types import decimal_parts
from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.layouts import MAX_LAYOUT_FIELDS, PartitionValue, partition_value

MAX_VALUE_BYTES: Final = 256
"""Of a text; of a binary: before base64."""

_DAY_US: Final = 24 * 3600 * 1_000_000
_UNSCALED = re.compile(r"0|-?[1-9][0-9]{0,38}", re.ASCII)


def partition_from(value: Any) -> tuple[PartitionValue, ...] | None:
    """Read ``sealed.files[].partition``, None where there is none. Raises CommitFault."""
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_LAYOUT_FIELDS:
        raise protocol_fault("a file's partition is no list of values", value=repr(value))
    try:
        return tuple(partition_value(item) for item in value)
    except ProtocolViolation as error:
        raise protocol_fault(error.message, code="staged_file", value=error.value) from error


def placed(
    layout: Layout, sources: Sequence[str], partition: tuple[PartitionValue, ...] | None, name: str
) -> Placement:
    """Return where the staged file ``name`` belongs in a table of ``layout``; ``sources`` are the types of the columns that
    it is partitioned by. Raises CommitFault where the file says something else."""
    values = partition or ()
    if len(values) != len(layout.partition):
        raise protocol_fault(
            f"the writer's staged file {name} has a partition of {len(values)} values, "
            f"the table one of {len(layout.partition)}",
            code="staged_file",
            value=repr(partition),
        )
    for value, field, of in zip(values, layout.partition, sources, strict=True):
        if not fits(value, field.transform, of):
            raise protocol_fault(
                f"the writer's staged file {name} has a partition that is no {field.transform} of field {field.field_id}, {of}",
                code="staged_file",
                value=repr(value),
            )
    return Placement(values, layout.spec_id, layout.sort_id if layout.sort else None)


def fits(value: PartitionValue, transform: str, of: str) -> bool:
    """Tell whether ``value`` may be a result of ``transform`` for a column of the primitive ``of``, which it takes."""
    function, _, number = transform.rstrip("]").partition("[")
    if value is None:
        return True
    if function == "bucket":
        return _is_between(value, 0, int(number) - 1)
    if function in ("year", "month", "day", "hour"):
        return _is_int(value, 32)
    match of:
        case "boolean":
            return isinstance(value, bool)
        case "int" | "date":
            return _is_int(value, 32)
        case "long" | "timestamp" | "timestamptz":
            return _is_int(value, 64)
        case "time":
            return _is_between(value, 0, _DAY_US - 1)
        case "string":
            return isinstance(value, str) and _is_text(value)
        case "binary":
            return isinstance(value, str) and _is_base64(value)
        case _:
            return isinstance(value, str) and _is_unscaled(value, of)


def _is_int(value: PartitionValue, bits: int) -> bool:
    return _is_between(value, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _is_between(value: PartitionValue, least: int, greatest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= greatest


def _is_text(value: str) -> bool:
    try:
        return len(value.encode()) <= MAX_VALUE_BYTES
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair, which no text holds
        return False


def _is_base64(value: str) -> bool:
    try:
        decoded = base64.b64decode(value, validate=True)
    except ValueError:
        return False
    return len(decoded) <= MAX_VALUE_BYTES and base64.b64encode(decoded).decode() == value


def _is_unscaled(value: str, of: str) -> bool:
    """Tell whether the number has no more digits than the type: readers and writers of Iceberg refuse a longer one.

    A truncated one may have: -999 by 10 is -1000, which a table of decimal(3,0) cannot be partitioned by.
    """
    precision, _ = decimal_parts(of) or (0, 0)
    return _UNSCALED.fullmatch(value) is not None and len(value.lstrip("-")) <= precision
