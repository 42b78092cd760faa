"""`dativo --version` against bare Python: CPU added. Bar: 10 ms."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from bench.measure import alternate, command, median

BAR_MS = 10.0


def measure(rounds: int = 20) -> tuple[str, float, float, bool]:
    """Return name, CPU added in ms (median of paired rounds), the bar and whether it is met."""
    dativo = str(Path(sysconfig.get_path("scripts")) / "dativo")
    found = alternate(
        {
            "python": lambda: command([sys.executable, "-c", "pass"]).cpu_s,
            "dativo": lambda: command([dativo, "--version"]).cpu_s,
        },
        rounds,
    )
    added_ms = (median(found["dativo"]) - median(found["python"])) * 1000
    return "dativo --version, CPU over bare python, ms", added_ms, BAR_MS, added_ms <= BAR_MS


if __name__ == "__main__":
    print(measure())
