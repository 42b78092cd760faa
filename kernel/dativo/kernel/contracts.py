"""Contracts: what becomes of a stream whose schema changes, and of values that do not fit (docs/guide/contracts.md).

Patterns name streams as the rules of ``source.streams`` do. The last one that meets a stream holds, as a whole; a stream that
none meets has the default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

from dativo.kernel import patterns
from dativo.kernel.limits import MAX_REJECTS
from dativo.protocol.errors import Where
from dativo.protocol.state import Stream

Values: TypeAlias = Literal["fail", "discard_row", "discard_value"]

REJECTS: Final = Stream("", "_dativo_rejects")
"""What is rejected is committed as this stream; no source may have one of that name."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What holds for one stream. ``rename`` pairs the old name of a property with its new one.

    ``max_rejects``: records and values that a run may discard; ``keep_text``: the line that they stood in is kept with them.
    """

    schema: Literal["evolve", "freeze"] = "evolve"
    conflict: Literal["new_column", "fail"] = "new_column"
    values: Values = "fail"
    max_rejects: int = 0
    keep_text: bool = False
    rename: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Contract:
        """Return the contract of a parsed ``shapes.CONTRACT``."""
        most = 0 if said.get("values", "fail") == "fail" else int(MAX_REJECTS)
        rename = tuple(said.get("rename", {}).items())
        return replace(cls(), **{"max_rejects": most, **said, "rename": rename})

    @property
    def may_reject(self) -> bool:
        """Whether anything may be discarded."""
        return self.values != "fail"

    def to_writer(self) -> dict[str, object]:
        """Return it as the writer is told it."""
        return {
            "values": self.values,
            "max_rejects": self.max_rejects,
            "keep_text": self.keep_text,
        }

    def to_committer(self) -> dict[str, object]:
        """Return it as the committer is told it."""
        return {"schema": self.schema, "conflict": self.conflict, "rename": dict(self.rename)}

    def document(self) -> dict[str, object]:
        """Return it as a plan shows it."""
        return {**self.to_committer(), **self.to_writer()}


@dataclass(frozen=True, slots=True)
class Contracts:
    """The contracts of a job, by pattern, in their order."""

    patterns: tuple[tuple[str, Contract], ...] = ()

    @classmethod
    def read(cls, said: Mapping[str, Mapping[str, Any]]) -> Contracts:
        """Return the contracts of a parsed ``shapes.CONTRACTS``."""
        return cls(tuple((pattern, Contract.read(one)) for pattern, one in said.items()))

    def of(self, stream: Stream) -> Contract:
        """Return what holds for ``stream``."""
        return patterns.of(stream, self.patterns) or Contract()

    def check(self, streams: Iterable[Stream], where: Where) -> None:
        """Raise ConfigError for a pattern that meets none of ``streams``."""
        patterns.check((pattern for pattern, _ in self.patterns), streams, where, "contract")
