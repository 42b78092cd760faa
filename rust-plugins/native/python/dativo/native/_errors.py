"""What can go wrong with lines and with values."""

from __future__ import annotations


class DecodeError(ValueError):
    """A line that is not what it must be. Codes and their meanings are those of docs/spec/wire.md.

    ``line`` counts from 1 and ``byte`` is the offset of that line; both are none when the schema is at fault.
    ``value`` is the text at fault, cut to 200 characters.
    """

    def __init__(
        self,
        message: str,
        code: str = "",
        line: int | None = None,
        byte: int | None = None,
        field: str | None = None,
        value: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, code, line, byte, field, value, hint)
        self.message = message
        self.code = code
        self.line = line
        self.byte = byte
        self.field = field
        self.value = value
        self.hint = hint

    def __str__(self) -> str:
        """The message, where it is, and what stands there."""
        said = self.message
        if self.line is not None:
            said = f"line {self.line} (byte {self.byte}): {said}"
        if self.field is not None:
            said += f"; field {self.field}"
        if self.value:
            said += f"; value {self.value}"
        return f"{said} ({self.hint})" if self.hint else said


class EncodeError(ValueError):
    """A value that JSON cannot hold. ``column`` is a path with dots; ``row`` counts from 0 over the whole table."""

    def __init__(
        self, message: str, code: str = "", column: str | None = None, row: int | None = None
    ) -> None:
        super().__init__(message, code, column, row)
        self.message = message
        self.code = code
        self.column = column
        self.row = row

    def __str__(self) -> str:
        """The message and where it is."""
        where = [] if self.column is None else [f"column {self.column}"]
        if self.row is not None:
            where.append(f"row {self.row}")
        return f"{', '.join(where)}: {self.message}" if where else self.message
