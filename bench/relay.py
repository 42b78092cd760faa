"""The relay on "orders" at full scale, a million rows and 464 MB: both translations and both dialects as they are.

The real dativo-relay stands between ``cat FILE`` and ``cat > /dev/null`` while this process plays the kernel. What is measured is
the CPU of all three (wait4), from their start to their end: a hop between two plugins costs the writing and the reading end too.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.contract.relay_kernel import Event, Relay, opening, stream

from bench.copies import PIPE_BYTES
from bench.measure import MB, Bar, median, table
from bench.streams import DIALECTS, streams

SHAPE = "orders"
CPU_BAR_MS = 1.5
RSS_BAR_MB = 16.0


@dataclass(frozen=True, slots=True)
class Hop:
    """One pass over the file."""

    cpu_s: float
    relay_cpu_s: float
    peak_rss_bytes: int
    rows: int


@contextmanager
def _cat(stdin: int, stdout: int) -> Iterator[list[float]]:
    """Run cat between two descriptors; the list holds its CPU seconds at the end."""
    taken: list[float] = []
    process = subprocess.Popen(["cat"], stdin=stdin, stdout=stdout)
    try:
        yield taken
    finally:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        taken.append(usage.ru_utime + usage.ru_stime)
    if process.returncode:
        raise RuntimeError(f"cat ended with {process.returncode}")


def hop(source: Path, open_: Event) -> Hop:
    """Pass ``source`` through a relay that is opened with ``open_``."""
    with (
        source.open("rb") as file,
        Path(os.devnull).open("wb") as null,
        Relay(open_, read=False) as relay,
    ):
        for pipe in (relay.stdin, relay.stdout):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with _cat(relay.stdout, null.fileno()) as reading:
            relay.close_stdout()
            with _cat(file.fileno(), relay.stdin) as writing:
                relay.close_stdin()
                relay.finish()
                relay.drain()
    if relay.status or relay.usage is None:
        raise RuntimeError(f"the relay failed: {relay.of('error')} {relay.stderr()}")
    cpu_s = relay.usage.ru_utime + relay.usage.ru_stime
    (counts,) = relay.of("passed")[0]["counts"]
    return Hop(cpu_s + sum(reading) + sum(writing), cpu_s, relay.peak_bytes, counts["written"])


def measure(rounds: int = 3) -> list[Bar]:
    """Let each dialect become each; medians."""
    folder = streams(SHAPE)
    schema = (folder / f"{SHAPE}.schema.json").read_text()
    found: dict[tuple[str, str], list[Hop]] = {(a, b): [] for a in DIALECTS for b in DIALECTS}
    for _ in range(rounds):
        for (dialect, to), hops in found.items():
            declared = stream(SHAPE) | {"schema": schema.replace("\n", " ")}
            hops.append(hop(folder / f"{SHAPE}.{dialect}.jsonl", opening(dialect, to, [declared])))
    bars = []
    for (dialect, to), hops in found.items():
        source_mb = (folder / f"{SHAPE}.{dialect}.jsonl").stat().st_size / MB
        bars += _bars(f"{SHAPE}, {dialect} to {to}", source_mb, hops)
    return bars


def _bars(what: str, source_mb: float, hops: list[Hop]) -> list[Bar]:
    all_ms = median([one.cpu_s for one in hops]) * 1000 / source_mb
    relay_ms = median([one.relay_cpu_s for one in hops]) * 1000 / source_mb
    peak_mb = max(one.peak_rss_bytes for one in hops) / MB
    return [
        Bar(f"{what}: relay and both ends, CPU per MB", all_ms, "ms", CPU_BAR_MS),
        Bar(f"{what}: relay, peak RSS", peak_mb, "MB", RSS_BAR_MB),
        Bar(f"{what}: relay alone, CPU per MB", relay_ms, "ms"),
        Bar(f"{what}: rows", hops[0].rows, ""),
    ]


if __name__ == "__main__":
    print(table(measure()))
