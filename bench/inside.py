"""What the walls cost a program that runs: CPU-bound work, and bytes written to a stdout that was handed over.

The same interpreter and the same script, outside and behind the walls in turn; the script measures its own work, so no start
is in it. Each figure is the median of the pairs' ratios: 1.05 is a speed of 0.95.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.measure import Bar, alternate, median, table
from bench.start import own_identity
from dativo.sandbox import Grants, Identity, Limits, Program, WallMissing, Walls, cgroup, launch

PYTHON: Final = Path(sys.executable).resolve()
RATIO_BAR: Final = 1.053
STDOUT_BYTES: Final = 10**9
# As many processors as outside, and time enough.
LIMITS: Final = Limits(cpus=float(os.cpu_count() or 1), wall_time_s=120)
# Interpreter, memory, system library: half a second of it. The time goes to stderr.
WORK: Final = """\
import hashlib, os, sys, time
began = time.perf_counter()
block, table = bytes(65536), {}
for n in range(600_000):
    table[n & 4095] = str(n)
for _ in range(2_000):
    hashlib.blake2b(block).digest()
os.write(2, str(time.perf_counter() - began).encode())
"""
WRITE: Final = f"""\
import os
block, left = bytes(65536), {STDOUT_BYTES}
while left > 0:
    left -= os.write(1, block)
"""


def walls() -> Walls:
    """Return the strongest walls of this machine."""
    try:
        cgroup.find_base()
    except WallMissing:
        return Walls("degraded")
    return Walls()


def outside(script: str, stdout: int | None) -> str:
    """Run the script as it is; return what it says on stderr."""
    done = subprocess.run(
        [PYTHON, "-I", "-c", script], stdout=stdout, stderr=subprocess.PIPE, check=True, text=True
    )
    return done.stderr


def behind_walls(identity: Identity | None) -> Callable[[str, int | None], str]:
    """Return the same behind walls."""
    strongest = walls()
    program = Path(sys.base_prefix)

    def run(script: str, stdout: int | None) -> str:
        confined = launch(
            Program("bench", (str(PYTHON), "-I", "-c", script), runtime=(program,)),
            Grants(limits=LIMITS),
            identity=identity,
            walls=strongest,
            stdin=None,
            stdout=stdout,
            control=None,
            run="bench",
        )
        with confined:
            if not confined.wait(120).succeeded:
                raise RuntimeError(confined.stderr_tail().decode("utf-8", "replace"))
            return confined.stderr_tail().decode()

    return run


Run = Callable[[str, int | None], str]


def work(run: Run) -> Callable[[], float]:
    """Return the seconds of CPU-bound work, as the program itself tells."""
    return lambda: float(run(WORK, None))


def write(run: Run) -> Callable[[], float]:
    """Return the seconds from the first to the last byte of stdout, read by a process of its own."""

    def once() -> float:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        told, tell = os.pipe2(os.O_CLOEXEC)
        reader = os.fork()
        if reader == 0:
            os.close(write_end)
            os.write(tell, str(_drain(read_end)).encode())
            os._exit(0)
        os.close(read_end)
        os.close(tell)
        try:
            run(WRITE, write_end)
        finally:
            os.close(write_end)
            os.waitpid(reader, 0)
        with os.fdopen(told) as said:
            return float(said.read())

    return once


def _drain(fd: int) -> float:
    began, seen = 0.0, 0
    while block := os.read(fd, 65536):
        began = began or time.perf_counter()
        seen += len(block)
    if seen < STDOUT_BYTES:
        raise RuntimeError(f"{seen} bytes of {STDOUT_BYTES} arrived")
    return time.perf_counter() - began


def measure(rounds: int = 21) -> list[Bar]:
    """Run both in turn, outside and inside."""
    with ExitStack() as stack:
        inside = behind_walls(own_identity(stack))
        found = alternate(
            {
                "work outside": work(outside),
                "work inside": work(inside),
                "stdout outside": write(outside),
                "stdout inside": write(inside),
            },
            rounds,
        )
    bars = []
    for what, name in (("CPU-bound work", "work"), ("a source's stdout", "stdout")):
        pairs = zip(found[f"{name} inside"], found[f"{name} outside"], strict=True)
        ratio = median([inside_s / outside_s for inside_s, outside_s in pairs])
        bars.append(Bar(f"{what}, time inside over outside", ratio, "×", RATIO_BAR))
    speed = STDOUT_BYTES / median(found["stdout inside"]) / 1e6
    bars.append(Bar("a source's stdout inside", speed, "MB/s"))
    return bars


if __name__ == "__main__":
    print(table(measure()))
