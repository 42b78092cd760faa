"""``dativo jail`` in a pipeline: its wall time over that of the same pipeline without it, and the price of a start.

    cat BIG | cat | cat > /dev/null           cat BIG | dativo jail -- cat | cat > /dev/null
    cat < BIG > /dev/null                     dativo jail -- cat < BIG > /dev/null

Start included. In turn, medians; a bar of 1.25 is a throughput of 0.80. BIG is a sparse file, so that no disk is measured.
"""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.measure import Bar, alternate, median, table

BIG_BYTES = 2 * 10**9
RATIO_BAR = 1.25
START_BAR_MS = 500.0


def dativo_jail() -> str:
    """Return the beginning of the jailed command, for a shell."""
    dativo = Path(sysconfig.get_path("scripts")) / "dativo"
    weaker = [] if os.geteuid() == 0 else ["--cgroup", "degraded"]
    # As many processors as the bare command may have.
    return shlex.join([str(dativo), "jail", *weaker, "--cpus", str(os.cpu_count() or 1), "--"])


def timed(line: str, cpu_s: list[float] | None = None) -> Callable[[], float]:
    """Return a shell line with its wall time as result; its CPU, of all processes, is added to ``cpu_s``."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True)
        wall_s = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if cpu_s is not None:
            cpu_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return wall_s

    return once


def measure(rounds: int = 7) -> list[Bar]:
    """Run all pipelines in turn; medians."""
    jail = dativo_jail()
    bare_cpu_s: list[float] = []
    jail_cpu_s: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        big = Path(folder, "big")
        with big.open("wb") as file:
            file.truncate(BIG_BYTES)
        found = alternate(
            {
                "bare": timed(f"cat {big} | cat | cat > /dev/null", bare_cpu_s),
                "jail": timed(f"cat {big} | {jail} cat | cat > /dev/null", jail_cpu_s),
                "bare file": timed(f"cat < {big} > /dev/null"),
                "piped file": timed(f"cat < {big} | cat > /dev/null"),
                "jail file": timed(f"{jail} cat < {big} > /dev/null"),
                "true": timed("true"),
                "jail true": timed(f"{jail} true"),
            },
            rounds,
        )
    wall_s = {name: median(times) for name, times in found.items()}
    return [
        Bar("cat 2 GB, bare pipeline, wall", wall_s["bare"], "s"),
        Bar("cat 2 GB, the same with a jail, wall", wall_s["jail"], "s"),
        Bar("pipeline with a jail over bare, wall", wall_s["jail"] / wall_s["bare"], "", RATIO_BAR),
        Bar(
            "pipeline with a jail over bare, CPU of all",
            median(jail_cpu_s) / median(bare_cpu_s),
            "",
        ),
        Bar(
            "file through a jail over bare cat, wall", wall_s["jail file"] / wall_s["bare file"], ""
        ),
        Bar(
            "file through a jail over a file through a pipe, wall",
            wall_s["jail file"] / wall_s["piped file"],
            "",
        ),
        Bar(
            "dativo jail true over true, wall",
            (wall_s["jail true"] - wall_s["true"]) * 1e3,
            "ms",
            START_BAR_MS,
        ),
    ]


if __name__ == "__main__":
    print(table(measure()))
