"""`dativo --version` against bare Python: CPU added."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from bench.measure import Bar, alternate, command, median, table

BAR_MS = 10.0


def measure(rounds: int = 20) -> list[Bar]:
    """Run both in turn; medians of their CPU, which is user and system time of the whole process."""
    dativo = str(Path(sysconfig.get_path("scripts")) / "dativo")
    found = alternate(
        {
            "python": lambda: command([sys.executable, "-c", "pass"]).cpu_s,
            "dativo": lambda: command([dativo, "--version"]).cpu_s,
        },
        rounds,
    )
    added_ms = (median(found["dativo"]) - median(found["python"])) * 1e3
    return [Bar("dativo --version, CPU over bare Python", added_ms, "ms", BAR_MS)]


if __name__ == "__main__":
    print(table(measure()))
