"""Cost of a confined start: /usr/bin/true plain and confined in turn, wall time to its end, attestation included.

As this user, without a cgroup and with one where one can be written; removal of the cgroup apart. With a network the broker of
the run starts beside it: both launches are begun together, and the broker has understood its orders before the program starts.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final
from unittest import mock

from bench.measure import Bar, alternate, median, table
from dativo.kernel import registry
from dativo.kernel.peer import await_message, greet
from dativo.protocol import control
from dativo.sandbox import (
    Confined,
    Grants,
    Identity,
    Launching,
    Limits,
    Network,
    Program,
    SandboxError,
    WallMissing,
    Walls,
    allocate_identity,
    begin_launch,
)

TRUE = "/usr/bin/true"
BROKER = "dativo-broker"
SPACING_S = 0.5
LIMITS = Limits(wall_time_s=10)
BARS_MS: Final[dict[str, float | None]] = {
    "no cgroup": 15.0,
    "cgroup": 25.0,
    "network and broker, no cgroup": 18.0,
    "network and broker, cgroups": None,  # two joins, counted apart
}
ORDERS = {
    "type": "open",
    "clients": [
        {
            "name": "source",
            "grants": [
                {
                    "host": "example.com",
                    "ports": [[443, 443]],
                    "private": False,
                    "upload_bytes": None,
                    "sni": True,
                }
            ],
        }
    ],
    "blocked_hosts": [],
    "blocked": [],
    "permit_special": [],
    "own": [],
    "resolvers": ["127.0.0.1:53"],
    "hosts": [],
    "proxy": None,
    "proxy_authorization": None,
    "observe": False,
    "limits": {
        "max_connections": 1024,
        "max_rate": 500,
        "max_names": 10000,
        "connect_timeout_s": 30,
        "max_events_per_s": 100,
    },
}


def plain() -> None:
    """Start and wait, as cheaply as Python can."""
    os.waitpid(os.posix_spawn(TRUE, [TRUE], {}), 0)


def begin(
    program: Program,
    grants: Grants,
    walls: Walls,
    identity: Identity | None,
    *,
    stdin: int | None = None,
    control: int | None = None,
    sockets: int | None = None,
) -> Launching:
    """Begin one launch."""
    return begin_launch(
        program,
        grants,
        identity=identity,
        walls=walls,
        stdin=stdin,
        stdout=None,
        control=control,
        run="bench",
        sockets=sockets,
        client="" if sockets is None else "source",
    )


def own_identity(stack: ExitStack) -> Identity | None:
    """As root, one for each process."""
    return stack.enter_context(allocate_identity()).identity if os.geteuid() == 0 else None


def end_well(process: Confined) -> None:
    """Wait for the end."""
    if not process.wait(10).succeeded:
        raise SandboxError(f"{process.name} failed")


def confined(stack: ExitStack, walls: Walls) -> Callable[[], None]:
    """Return one confined start and its end."""
    identity = own_identity(stack)

    def once() -> None:
        with begin(
            Program("bench", (TRUE,)), Grants(limits=LIMITS), walls, identity
        ).finish() as process:
            end_well(process)

    return once


def with_network(stack: ExitStack, walls: Walls) -> Callable[[], float]:
    """Return a start with a network, its broker beside it; its result is the wall time to the end of the program, in ms.

    The broker's own end is the run's, and not counted.
    """
    broker, source = own_identity(stack), own_identity(stack)
    binary = registry.executable(BROKER, os.environ)
    network = Grants(network=Network(((443, 443),)), limits=LIMITS)

    def once() -> float:
        began = time.perf_counter()
        with ExitStack() as ends:
            orders, far = socket.socketpair()
            way, out = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for end in (orders, far, way, out):
                ends.enter_context(end)
            first = ends.enter_context(
                begin(
                    Program("broker", (str(binary),), runtime=(binary,), bare=True),
                    Grants(host_network=True, limits=LIMITS),
                    walls,
                    broker,
                    stdin=out.fileno(),
                    control=far.fileno(),
                )
            )
            program = Program("source", (TRUE,))
            second = ends.enter_context(
                begin(program, network, walls, source, sockets=way.fileno())
            )
            serving = ends.enter_context(first.finish())
            far.close()
            greet(BROKER, serving, orders)
            orders.sendall(control.encode(ORDERS))
            await_message(BROKER, serving, orders, "opened")
            with second.finish() as process:
                end_well(process)
            took_ms = (time.perf_counter() - began) * 1e3
            orders.sendall(control.encode({"type": "finish"}))
            end_well(serving)
            return took_ms

    return once


def without_cgroup(start: Callable[[], Any]) -> Callable[[], Any]:
    """Return a start on a machine that seems to have no cgroup."""
    patch = mock.patch(
        "dativo.sandbox.cgroup.find_base", side_effect=WallMissing("cgroup", "left out")
    )

    def once() -> Any:
        with patch:
            return start()

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
        degraded = Walls("degraded")
        cases = {
            "plain": timed_ms(plain),
            "no cgroup": timed_ms(without_cgroup(confined(stack, degraded))),
            "network and broker, no cgroup": without_cgroup(with_network(stack, degraded)),
        }
        joined = confined(stack, Walls())
        try:
            joined()
            cases["cgroup"] = timed_ms(joined)
            cases["network and broker, cgroups"] = with_network(stack, Walls())
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
