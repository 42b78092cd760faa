"""How one wall, or one property of the machine, was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# ``note``: worth knowing, and no wall is weaker for it.
State = Literal["up", "degraded", "missing", "note"]


@dataclass(frozen=True, slots=True)
class WallStatus:
    """``name`` as in docs/spec/sandbox.md, how it stands, what that means, and what to type (empty: nothing is to be mended)."""

    name: str
    state: State
    meaning: str
    remedy: str = ""
