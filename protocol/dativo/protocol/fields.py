"""The fields of one event, each checked for type and bound where it is taken out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from dativo.protocol.errors import ProtocolViolation, shown
from dativo.protocol.state import StateEntry, Stream

T = TypeVar("T")

MAX_NAME_CHARS: Final = 1024
MAX_ITEMS: Final = 100_000

_ODDITY = re.compile(r"[a-z_]{1,32}")


class Reader:
    """Take typed fields out of one event. Raises ProtocolViolation that names event and field."""

    def __init__(self, event: Any, what: str) -> None:
        if not isinstance(event, dict):
            raise ProtocolViolation(f"{what} is not an object", value=shown(event))
        self._event = event
        self._what = what

    def _fail(self, key: str, wanted: str) -> ProtocolViolation:
        seen = shown(self._event.get(key, "nothing"))
        return ProtocolViolation(f"{self._what}.{key} is not {wanted}", value=seen)

    def text(
        self, key: str, *, max_chars: int = MAX_NAME_CHARS, pattern: re.Pattern[str] | None = None
    ) -> str:
        """Return a text of at most ``max_chars``, of the form ``pattern``."""
        value = self._event.get(key)
        if not isinstance(value, str) or len(value) > max_chars:
            raise self._fail(key, f"a text of at most {max_chars} characters")
        if pattern is not None and not pattern.fullmatch(value):
            raise self._fail(key, f"of the form {pattern.pattern}")
        return value

    def optional_text(
        self, key: str, *, max_chars: int = MAX_NAME_CHARS, pattern: re.Pattern[str] | None = None
    ) -> str | None:
        """Return a text, None for null or none."""
        if self._event.get(key) is None:
            return None
        return self.text(key, max_chars=max_chars, pattern=pattern)

    def count(self, key: str) -> int:
        """Return a whole number from 0 on."""
        value = self._event.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise self._fail(key, "a count")
        return value

    def port(self, key: str) -> int:
        """Return a TCP port."""
        value = self.count(key)
        if not 0 < value < 65536:
            raise self._fail(key, "a port")
        return value

    def optional_count(self, key: str) -> int | None:
        """Return a count, None for null or none."""
        return None if self._event.get(key) is None else self.count(key)

    def seconds(self, key: str) -> float:
        """Return a number of seconds."""
        value = self._event.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
            raise self._fail(key, "a number of seconds")
        return float(value)

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self._event.get(key)
        if not isinstance(value, bool):
            raise self._fail(key, "true or false")
        return value

    def has(self, key: str) -> bool:
        """Tell whether the field is there, null or not."""
        return key in self._event

    def present(self, key: str) -> None:
        """Refuse an event without the field."""
        if key not in self._event:
            raise self._fail(key, "there")

    def optional_flag(self, key: str) -> bool:
        """Return true or false, false for none."""
        return self.flag(key) if key in self._event else False

    def optional_items(
        self, key: str, read: Callable[[Any], T], *, max_items: int = MAX_ITEMS
    ) -> tuple[T, ...]:
        """Return a list, an empty one for none."""
        return self.items(key, read, max_items=max_items) if key in self._event else ()

    def is_null(self, key: str) -> bool:
        """Tell whether the field is null or not there."""
        return self._event.get(key) is None

    def state(self) -> StateEntry:
        """Return the event itself as a state: kind, stream and text."""
        self.optional_stream()
        return StateEntry.from_event(self._event)

    def state_text(self, key: str) -> str:
        """Return a state's text; the line's own bound (max_event_bytes) is the bound."""
        value = self._event.get(key)
        if not isinstance(value, str):
            raise self._fail(key, "a text")
        return value

    def oddities(self) -> tuple[tuple[str, int], ...]:
        """Return the counts of ``oddities`` by their names."""
        value = self._event.get("oddities")
        if not isinstance(value, dict) or len(value) > 64:
            raise self._fail("oddities", "an object of at most 64 counts")
        counts = Reader(value, "stats.oddities")
        if not all(_ODDITY.fullmatch(name) for name in value):
            raise self._fail("oddities", "an object with short names")
        return tuple((name, counts.count(name)) for name in value)

    def items(
        self, key: str, read: Callable[[Any], T], *, max_items: int = MAX_ITEMS
    ) -> tuple[T, ...]:
        """Return a list, each item as ``read`` takes it."""
        value = self._event.get(key)
        if not isinstance(value, list) or len(value) > max_items:
            raise self._fail(key, f"a list of at most {max_items}")
        return tuple(read(item) for item in value)

    def stream(self) -> Stream:
        """Return the stream."""
        stream = Stream.from_event(self._event.get("stream"))
        if len(stream.name) > MAX_NAME_CHARS or len(stream.namespace) > MAX_NAME_CHARS:
            raise self._fail(
                "stream", f"a stream with names of at most {MAX_NAME_CHARS} characters"
            )
        return stream

    def optional_stream(self) -> Stream | None:
        """Return the stream, None for null or none."""
        return None if self._event.get("stream") is None else self.stream()
