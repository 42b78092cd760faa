"""Waivers: the operator's word that one plugin may have more than the ceilings, for a reason and until a day.

A waiver grants nothing: what it lets through is asked for by a job and approved like anything else. After its last day it is as
if it were not there, but for the hint that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from dativo.kernel.blocks import Block
from dativo.protocol.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Waiver:
    """``ceilings`` that hold for ``plugin`` instead of lower ones, up to and with the day ``until`` (UTC)."""

    plugin: Block
    ceilings: Mapping[str, float]
    reason: str
    until: date

    def holds(self, today: date) -> bool:
        """Whether it is in force."""
        return today <= self.until

    def __str__(self) -> str:
        return f"waiver for {self.plugin} until {self.until}: {self.reason}"


def today() -> date:
    """Return the day that waivers are held against."""
    return datetime.now(UTC).date()


def read_day(text: str) -> date:
    """Read ``2027-01-31``. Raises ConfigError."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.isoformat() != text:
        raise ConfigError("expected a day such as 2027-01-31")
    return found


def raised(ceilings: Mapping[str, float], waivers: tuple[Waiver, ...]) -> dict[str, float]:
    """Return ``ceilings`` with the highest that any of ``waivers`` says; one where there is no ceiling stays away."""
    return {
        key: max(ceiling, *(waiver.ceilings.get(key, ceiling) for waiver in waivers), ceiling)
        for key, ceiling in ceilings.items()
    }
