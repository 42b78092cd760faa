"""``python -m bench.run``: every figure that has a bar, in one table. Status 1 when a bar is not met."""

from __future__ import annotations

import os
import platform
import sys
from typing import Final

from bench import (
    broker,
    docker,
    files,
    first_byte,
    inside,
    jail,
    layout,
    many_streams,
    native,
    pipe,
    relay,
    shuffled,
    start,
    target_csv,
    two_cores,
    version,
    writer,
)
from bench.measure import table

PARTS: Final = (
    version,
    start,
    docker,
    inside,
    first_byte,
    relay,
    jail,
    pipe,
    broker,
    writer,
    two_cores,
    shuffled,
    layout,
    target_csv,
    many_streams,
    files,
    native,
)


def main() -> int:
    """Measure all, print the table, tell whether every bar is met."""
    load = os.getloadavg()[0]
    print(
        f"{os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}, kernel {platform.release()}",
        file=sys.stderr,
    )
    bars = []
    for part in PARTS:
        print(f"{part.__name__} …", file=sys.stderr, flush=True)
        bars += part.measure()
    print(table(bars))
    missed = [bar.what for bar in bars if not bar.met]
    if missed:
        print(f"not met: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
