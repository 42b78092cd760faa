"""Cost of a confined start: ``python bench/start.py [RUNS]``.

Starts /usr/bin/true plain and confined in turn, 0.5 s apart, and prints the median wall time of each in milliseconds: as
this user, without a cgroup and with one where one can be written. Attestation included, removal of the cgroup apart.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from unittest import mock

from dativo.sandbox import (
    Confined,
    Grants,
    Limits,
    Program,
    SandboxError,
    WallMissing,
    Walls,
    allocate_identity,
    launch,
)

TRUE = "/usr/bin/true"
SPACING_S = 0.5


def plain() -> None:
    """Start and wait, as cheaply as Python can."""
    os.waitpid(os.posix_spawn(TRUE, [TRUE], {}), 0)


def confined(stack: ExitStack, walls: Walls) -> Callable[[], None]:
    """Return one confined start and its end."""
    identity = None
    if os.geteuid() == 0:
        lease = stack.enter_context(allocate_identity())
        identity = lease.identity

    def once() -> None:
        process: Confined = launch(
            Program("bench", (TRUE,)),
            Grants(limits=Limits(wall_time_s=10)),
            identity=identity,
            walls=walls,
            stdin=None,
            stdout=None,
            control=None,
            run="bench",
        )
        with process:
            if not process.wait(10).succeeded:
                raise SandboxError("true failed")

    return once


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with ExitStack() as stack:
        none = mock.patch(
            "dativo.sandbox.cgroup.find_base", side_effect=WallMissing("cgroup", "left out")
        )
        without = confined(stack, Walls("degraded"))
        cases: dict[str, Callable[[], None]] = {
            "plain": plain,
            "confined, no cgroup": lambda: _within(none, without),
        }
        try:
            joined = confined(stack, Walls())
            joined()
            cases["confined, cgroup"] = joined
        except WallMissing as error:
            print(f"no cgroup case: {error.reason}")
        times: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(runs):
            for name, case in cases.items():
                time.sleep(SPACING_S)
                began = time.perf_counter()
                case()
                times[name].append((time.perf_counter() - began) * 1e3)
    base = statistics.median(times["plain"])
    for name, found in times.items():
        middle = statistics.median(found)
        print(
            f"{name:22} median {middle:6.1f} ms  min {min(found):6.1f}  max {max(found):6.1f}  over plain {middle - base:5.1f}"
        )


def _within(patch: mock._patch[mock.MagicMock], case: Callable[[], None]) -> None:
    with patch:
        case()


if __name__ == "__main__":
    main()
