"""Patterns of streams, by which a job says what holds for which: the last one that meets a stream holds, as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TypeVar

from dativo.protocol.errors import ConfigError, Where
from dativo.protocol.state import Stream

T = TypeVar("T")


def of(stream: Stream, patterns: tuple[tuple[str, T], ...]) -> T | None:
    """Return what the last pattern that meets ``stream`` says; None where none does."""
    return next((said for pattern, said in reversed(patterns) if meets(pattern, stream)), None)


def check(patterns: Iterable[str], streams: Iterable[Stream], where: Where, what: str) -> None:
    """Raise ConfigError for a pattern that meets none of ``streams``, as a misspelt one would; ``what`` stands behind it."""
    known = tuple(streams)
    for pattern in patterns:
        if not any(meets(pattern, stream) for stream in known):
            offer = ", ".join(str(stream) for stream in known[:20])
            more = ", …" if len(known) > 20 else ""
            raise ConfigError(
                f"the {what} of {pattern!r} meets no stream",
                where,
                hint=f"The source has: {offer}{more}",
            )


def meets(pattern: str, stream: Stream) -> bool:
    """Tell whether ``pattern`` names ``stream``; a dot may be written ``\\.``, as in a rule."""
    name = str(stream)
    return fnmatchcase(name, pattern) or fnmatchcase(name, pattern.replace("\\.", "."))
