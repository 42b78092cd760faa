"""``cat FILE | dativo-writer`` against DuckDB's COPY with two threads: wall time of "orders" and of "nested".

The writer's time is from before its start to its reaped end, its files synced; DuckDB's is that of the COPY statement alone.
"""

from __future__ import annotations

import os

from bench.copies import Copy, DuckDB, pair
from bench.measure import MB, Bar, median, table
from bench.streams import streams

CASES = (("orders", 0.90), ("nested", None))
THREADS = 2


def measure(rounds: int = 5) -> list[Bar]:
    """Let both copy each file in turn; the median of the rounds' ratios."""
    cores = len(os.sched_getaffinity(0))
    if cores < THREADS:
        raise RuntimeError(f"{cores} core: this is measured on {THREADS}")
    duckdb = DuckDB()
    found: dict[str, list[tuple[Copy, Copy]]] = {shape: [] for shape, _ in CASES}
    for _ in range(rounds):
        for shape, pairs in found.items():
            both = pair(duckdb, streams(shape), shape, "singer", threads=THREADS, compare=False)
            pairs.append(both)
    bars = []
    for shape, bar in CASES:
        source_mb = (streams(shape) / f"{shape}.singer.jsonl").stat().st_size / MB
        ratio = median([mine.wall_s / theirs.wall_s for mine, theirs in found[shape]])
        mine_s, theirs_s = (median([both[side].wall_s for both in found[shape]]) for side in (0, 1))
        bars += [
            Bar(f"{shape}, two cores: cat | writer, wall of DuckDB's COPY", ratio, "×", bar),
            Bar(f"{shape}, two cores: cat | writer", source_mb / mine_s, "MB/s"),
            Bar(f"{shape}, two cores: DuckDB", source_mb / theirs_s, "MB/s"),
        ]
    return bars


if __name__ == "__main__":
    print(table(measure()))
