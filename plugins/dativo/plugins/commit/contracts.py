"""What the operator lets a stream's schema do to its table (docs/spec/commit.md, Tables and columns)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dativo.plugins.commit.faults import config_fault, protocol_fault

MAX_RENAMES = 10_000


@dataclass(frozen=True, slots=True)
class Contract:
    """What holds for one stream. ``frozen``: a table that is there does not change. ``new_columns``: what fits no column gets one
    of its own, instead of ending the run. ``rename``: new names of properties by old ones; the column stays."""

    frozen: bool = False
    new_columns: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_event(cls, event: Any) -> Contract:
        """Read a contract of ``open`` or ``stream_schema``. Raises CommitFault."""
        if not isinstance(event, Mapping):
            raise protocol_fault("a contract is no object", value=repr(event))
        rename = event.get("rename", {})
        if not isinstance(rename, Mapping) or len(rename) > MAX_RENAMES:
            raise protocol_fault("contract: rename is no object of names", value=repr(rename))
        if not all(isinstance(name, str) for name in rename.values()):
            raise protocol_fault("contract: rename has a value that is no name", value=repr(rename))
        if len({*rename, *rename.values()}) != 2 * len(rename):
            raise config_fault(
                "rename",
                "a contract's rename names a property twice",
                value=repr(dict(rename)),
                hint="Two columns cannot become one, and none is renamed twice: name each property once.",
            )
        return cls(
            _is(event, "schema", "freeze", "evolve"),
            _is(event, "conflict", "new_column", "fail"),
            dict(rename),
        )


def _is(event: Mapping[str, Any], key: str, yes: str, no: str) -> bool:
    value = event.get(key, no)
    if value not in (yes, no):
        raise protocol_fault(f"contract: {key} is neither {yes} nor {no}", value=repr(value))
    return bool(value == yes)
