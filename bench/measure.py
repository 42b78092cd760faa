"""Measuring: bars, the CPU and peak memory of one command, and medians of alternating runs."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure and the most, or with ``least`` the least, that it may be; without ``bar`` it is for information."""

    what: str
    value: float
    unit: str
    bar: float | None = None
    least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure is no higher, or no lower, than its bar."""
        if self.bar is None:
            return True
        return self.value >= self.bar if self.least else self.value <= self.bar


def table(bars: Sequence[Bar]) -> str:
    """Return the bars as a Markdown table that lines up in a terminal too."""
    rows = [("what", "measured", "bar", "met")]
    for bar in bars:
        limit = "" if bar.bar is None else f"{'≥' if bar.least else '≤'} {_figure(bar.bar)}"
        verdict = "" if bar.bar is None else "yes" if bar.met else "NO"
        rows.append((bar.what, f"{_figure(bar.value)} {bar.unit}".rstrip(), limit, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _figure(value: float) -> str:
    """Return three significant digits, all of those before the point."""
    places = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{places}f}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one command: its own CPU and that of children it reaped; peak RSS of the largest process."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    stdout: str


def command(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: Path = Path(os.devnull),
) -> Sample:
    """Run ``argv`` to its end. Raises RuntimeError when it fails."""
    started = time.perf_counter()
    with stdin.open("rb") as given:
        process = subprocess.Popen(
            argv, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
        )
    assert process.stdout is not None and process.stderr is not None
    with process.stdout, process.stderr:
        stdout = process.stdout.read()
        stderr = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{argv[0]} ended with {process.returncode}: {stderr.decode()[-800:]}")
    return Sample(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, stdout.decode())


def alternate(
    cases: Mapping[str, Callable[[], float]], rounds: int, *, pause_s: float = 0.0
) -> dict[str, list[float]]:
    """Call every case once a round, in turn, so that drift of a shared machine meets all alike."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            time.sleep(pause_s)
            found[name].append(case())
    return found


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)
