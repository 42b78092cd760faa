"""Measuring: CPU and peak memory of one command, and medians of alternating runs."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one command: its own CPU and that of children it reaped; peak RSS of the largest process."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    stdout: str


def command(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout_s: float = 900
) -> Sample:
    """Run ``argv`` to its end. Raises when it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert process.stdout is not None and process.stderr is not None
    stdout = process.stdout.read()
    stderr = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - started
    if process.returncode or wall_s > timeout_s:
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
