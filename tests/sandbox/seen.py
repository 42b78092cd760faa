"""What a test sees of a confined process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dativo.sandbox import Attestation, Exit


@dataclass(frozen=True, slots=True)
class Outcome:
    errno: str | None
    value: Any
    end: Exit | None = None
    attestation: Attestation | None = None


def living(pid_namespace: int) -> list[int]:
    """Return the processes of a pid namespace, zombies left out."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and (path / "ns/pid").stat().st_ino == pid_namespace:
                found.append(int(path.name))
        except OSError:
            continue  # ended, or not ours to see
    return found
