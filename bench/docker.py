"""A confined start with everything, network and broker too, against ``docker run --network none`` of the same program.

Docker Engine is one of its own, as tests/docker starts it; its image holds no more than a root file system, and the host's
programs are bound into it. In turn, medians. Left out, by name, where no engine can be had.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.docker.engine import IMAGE, Engine, missing

from bench.measure import Bar, alternate, median, table
from bench.start import SPACING_S, TRUE, timed_ms, with_network
from dativo.sandbox import WallMissing, Walls

RATIO_BAR = 1 / 15


def measure(rounds: int = 10) -> list[Bar]:
    """Start both in turn, spaced."""
    if reason := missing():
        print(f"docker run: not measured: {reason}", file=sys.stderr)
        return []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dativo.")))
        folder.chmod(0o755)  # the engine's own range of users passes
        engine = stack.enter_context(Engine.start(folder))

        def docker_run() -> None:
            engine.docker("run", "--rm", "--network", "none", "--volume=/usr:/usr:ro", IMAGE, TRUE)

        ours = with_network(stack, Walls())
        try:
            ours()
        except WallMissing as error:
            print(f"docker run: not measured: {error.reason}", file=sys.stderr)
            return []
        found = alternate({"ours": ours, "docker": timed_ms(docker_run)}, rounds, pause_s=SPACING_S)
    docker_ms, ours_ms = median(found["docker"]), median(found["ours"])
    return [
        Bar("docker run, wall", docker_ms, "ms"),
        Bar("confined start with network over docker run", ours_ms / docker_ms, "×", RATIO_BAR),
    ]


if __name__ == "__main__":
    print(table(measure()))
