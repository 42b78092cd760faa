"""Partitions and sort orders in control messages (docs/spec/events.md, Layout): what is checked before they are passed on."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from dativo.protocol.errors import ProtocolViolation, shown
from dativo.protocol.fields import Reader

MAX_LAYOUT_FIELDS: Final = 16
"""Fields of one partition spec or of one sort order."""

MAX_TRANSFORM_NUMBER: Final = 2**31 - 1
"""Largest number of buckets, and largest width that values are truncated to."""

MAX_PARTITION_CHARS: Final = 344
"""Of a text in a file's partition: 256 bytes in base64."""

PartitionValue: TypeAlias = str | int | bool | None

_TRANSFORM = re.compile(
    r"identity|year|month|day|hour|(?:bucket|truncate)\[([1-9][0-9]{0,9})\]", re.ASCII
)


def is_transform(name: str) -> bool:
    """Tell whether ``name`` is one of Iceberg's transforms, with a number in its range where it has one."""
    found = _TRANSFORM.fullmatch(name)
    return found is not None and int(found[1] or 1) <= MAX_TRANSFORM_NUMBER


def check_partition_field(value: Any) -> None:
    """Raise ProtocolViolation unless ``value`` is a field of ``stream_plan.partition``."""
    r = Reader(value, "stream_plan.partition")
    r.count("field_id")
    transform = r.text("transform")
    if not is_transform(transform):
        raise ProtocolViolation(
            "stream_plan.partition.transform is none of Iceberg's", value=shown(transform)
        )


def check_sort_field(value: Any) -> None:
    """Raise ProtocolViolation unless ``value`` is a field of ``stream_plan.sort``."""
    r = Reader(value, "stream_plan.sort")
    r.count("field_id")
    r.flag("descending")
    r.flag("nulls_first")


def partition_value(value: Any) -> PartitionValue:
    """Return an item of ``sealed.files[].partition``. Raises ProtocolViolation."""
    match value:
        case None | bool():
            return value
        case int() if -(2**63) <= value < 2**63:
            return value
        case str() if len(value) <= MAX_PARTITION_CHARS:
            return value
    raise ProtocolViolation(
        "sealed.files.partition holds more than null, true, false, 64-bit integers and texts of "
        f"at most {MAX_PARTITION_CHARS} characters",
        value=shown(value),
    )
