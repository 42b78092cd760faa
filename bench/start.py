"""Cost of a confined start: /usr/bin/true plain and confined in turn, wall time to its end, attestation included.

As this user, without a cgroup and with one where one can be written; removal of the cgroup apart.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from unittest import mock

from bench.measure import Bar, alternate, median, table
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
BARS_MS = {"no cgroup": 15.0, "cgroup": 25.0}


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


def without_cgroup(stack: ExitStack) -> Callable[[], None]:
    """Return a confined start on a machine that seems to have no cgroup."""
    patch = mock.patch(
        "dativo.sandbox.cgroup.find_base", side_effect=WallMissing("cgroup", "left out")
    )
    start = confined(stack, Walls("degraded"))

    def once() -> None:
        with patch:
            start()

    return once


def timed_ms(case: Callable[[], None]) -> Callable[[], float]:
    """Return ``case`` with its wall time as result."""

    def once() -> float:
        began = time.perf_counter()
        case()
        return (time.perf_counter() - began) * 1e3

    return once


def measure(rounds: int = 20) -> list[Bar]:
    """Start all cases in turn, spaced; medians over that of the plain start."""
    with ExitStack() as stack:
        cases = {"plain": timed_ms(plain), "no cgroup": timed_ms(without_cgroup(stack))}
        joined = confined(stack, Walls())
        try:
            joined()
            cases["cgroup"] = timed_ms(joined)
        except WallMissing as error:
            print(f"confined start, cgroup: not measured: {error.reason}", file=sys.stderr)
        found = alternate(cases, rounds, pause_s=SPACING_S)
    base_ms = median(found.pop("plain"))
    return [
        Bar(
            f"confined start, {name}, wall over plain", median(times) - base_ms, "ms", BARS_MS[name]
        )
        for name, times in found.items()
    ]


if __name__ == "__main__":
    print(table(measure()))
