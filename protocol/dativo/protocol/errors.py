"""The root of every error of dativo, and the exit status each one ends with.

    DativoError
    ├── ConfigError            3   job, lock, policy, connector configuration
    ├── PluginFailed           4   a source or transformer exited badly (TargetFailed 5 for targets)
    ├── TargetFailed           5
    ├── LimitExceeded          6
    ├── ProtocolViolation      7
    ├── NotPermitted           8
    ├── Conflict              10
    └── InternalError          1

``dativo.sandbox`` knows nobody and keeps its own root, ``SandboxError``; the kernel gives it status 9.
The table of statuses is docs/spec/exit-codes.md.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import ClassVar

MAX_VALUE_CHARS = 200
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = MAX_VALUE_CHARS


def shown(value: object) -> str:
    """Return ``repr(value)`` as an error quotes it: bounded in depth and length. Plain repr() recurses as deeply as the value."""
    return _SHOWN.repr(value)[:MAX_VALUE_CHARS]


class ExitStatus(IntEnum):
    """Exit statuses of every dativo command (docs/spec/exit-codes.md)."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    CONFIGURATION = 3
    SOURCE_FAILED = 4
    TARGET_FAILED = 5
    LIMIT = 6
    PROTOCOL = 7
    NOT_PERMITTED = 8
    WALL_MISSING = 9
    CONFLICT = 10
    JAIL_FAILED = 125
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127
    INTERRUPTED = 130
    TERMINATED = 143


class Blame(StrEnum):
    """Who can mend it."""

    USER = "user"
    PLUGIN = "plugin"
    DATIVO = "dativo"
    MACHINE = "machine"


@dataclass(frozen=True, slots=True)
class Where:
    """The place of an error; every part is optional.

    ``byte`` is an offset in the plugin's output; ``line`` and ``column`` count from 1, in it or in ``file``.
    """

    file: str | None = None
    pointer: str | None = None
    plugin: str | None = None
    stream: str | None = None
    line: int | None = None
    byte: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        parts = [
            f"{name} {value}"
            for name, value in (
                ("file", self.file),
                ("at", self.pointer),
                ("plugin", self.plugin),
                ("stream", self.stream),
                ("line", self.line),
                ("column", self.column),
                ("byte", self.byte),
            )
            if value is not None
        ]
        return ", ".join(parts)


@dataclass(eq=False, slots=True)
class DativoError(Exception):
    """What happened, where, the value seen (clipped), who can mend it and how."""

    message: str
    where: Where = field(default_factory=Where)
    value: str | None = None
    hint: str | None = None
    blame: Blame | None = None

    status: ClassVar[ExitStatus] = ExitStatus.INTERNAL
    default_blame: ClassVar[Blame] = Blame.DATIVO

    def __post_init__(self) -> None:
        Exception.__init__(self, self.message)
        if self.value is not None and len(self.value) > MAX_VALUE_CHARS:
            self.value = self.value[: MAX_VALUE_CHARS - 1] + "…"
        if self.blame is None:
            self.blame = self.default_blame

    def __str__(self) -> str:
        text = self.message
        if place := str(self.where):
            text += f" ({place})"
        if self.value is not None:
            text += f": saw {self.value}"
        if self.hint:
            text += f". {self.hint}"
        return text


class ConfigError(DativoError):
    """Job, lock, policy or connector configuration is wrong."""

    status = ExitStatus.CONFIGURATION
    default_blame = Blame.USER


class PluginFailed(DativoError):
    """A source or transformer exited badly or said that it failed."""

    status = ExitStatus.SOURCE_FAILED
    default_blame = Blame.PLUGIN


class TargetFailed(DativoError):
    """The target failed: warehouse, catalogue or a foreign target."""

    status = ExitStatus.TARGET_FAILED
    default_blame = Blame.MACHINE


class LimitExceeded(DativoError):
    """A limit was hit; the message names it and its setting."""

    status = ExitStatus.LIMIT
    default_blame = Blame.PLUGIN


class ProtocolViolation(DativoError):
    """A plugin wrote what its dialect does not allow."""

    status = ExitStatus.PROTOCOL
    default_blame = Blame.PLUGIN


class NotPermitted(DativoError):
    """Not approved, blocked, or above the ceiling of the policy."""

    status = ExitStatus.NOT_PERMITTED
    default_blame = Blame.USER


class Conflict(DativoError):
    """Another run holds the lock or committed first."""

    status = ExitStatus.CONFLICT
    default_blame = Blame.USER


class InternalError(DativoError):
    """A fault of dativo itself."""


_BY_CODE: dict[str, type[DativoError]] = {
    "config": ConfigError,
    "source": PluginFailed,
    "target": TargetFailed,
    "limit": LimitExceeded,
    "framing": ProtocolViolation,
    "json": ProtocolViolation,
    "message": ProtocolViolation,
    "schema": ProtocolViolation,
    "record": ProtocolViolation,
    "state": ProtocolViolation,
    "protocol": ProtocolViolation,
    "conflict": Conflict,
    "internal": InternalError,
}


def error_for_code(code: str) -> type[DativoError]:
    """Return the error class of an ``error`` event's code (docs/spec/events.md, Errors)."""
    return _BY_CODE.get(code.partition(".")[0], InternalError)
