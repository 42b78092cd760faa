"""The writer against DuckDB's COPY of the same file to the same Parquet, on one core's work: CPU, output, memory.

"orders" is a million rows of 15 columns and 464 MB in both dialects, "narrow" two million of 5 and 270 MB, "nested" 300,000 with
structs, lists and lists of structs and 358 MB. The first round checks that both wrote the same rows.
"""

from __future__ import annotations

import sys

from bench.copies import Copy, DuckDB, pair
from bench.measure import MB, Bar, median, table
from bench.streams import streams

# Shape, dialect, the most CPU as a share of DuckDB's.
CASES = (
    ("orders", "singer", 0.75),
    ("orders", "airbyte", 0.75),
    ("narrow", "singer", 0.85),
    ("nested", "singer", 0.85),
)
BYTES_BAR = 1.05
ENVELOPE_BAR = 1.05
RSS_BAR_MB = 128.0


def measure(rounds: int = 3) -> list[Bar]:
    """Let both copy each file in turn; medians."""
    duckdb = DuckDB()
    print(f"DuckDB {duckdb.version}", file=sys.stderr, flush=True)
    folders = {shape: streams(shape) for shape, _, _ in CASES}
    found: dict[tuple[str, str], list[tuple[Copy, Copy]]] = {case[:2]: [] for case in CASES}
    for number in range(rounds):
        for (shape, dialect), pairs in found.items():
            pairs.append(pair(duckdb, folders[shape], shape, dialect, compare=number == 0))
    bars = []
    for shape, dialect, cpu_bar in CASES:
        source_mb = (folders[shape] / f"{shape}.{dialect}.jsonl").stat().st_size / MB
        bars += _bars(f"{shape}, {dialect}", source_mb, found[shape, dialect], cpu_bar)
    singer, airbyte = ([one.cpu_s for one, _ in found["orders", d]] for d in ("singer", "airbyte"))
    ratio = median([a / s for s, a in zip(singer, airbyte, strict=True)])
    return [*bars, Bar("orders: writer, CPU of airbyte over singer", ratio, "×", ENVELOPE_BAR)]


def _bars(what: str, source_mb: float, pairs: list[tuple[Copy, Copy]], cpu_bar: float) -> list[Bar]:
    mine, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    cpu_s, peer_s = median([c.cpu_s for c in mine]), median([c.cpu_s for c in theirs])
    rss_mb, peer_mb = (max(c.peak_rss_bytes for c in side) / MB for side in (mine, theirs))
    return [
        Bar(f"{what}: writer, CPU of DuckDB's COPY", cpu_s / peer_s, "×", cpu_bar),
        Bar(f"{what}: writer, bytes of DuckDB's", mine[0].bytes / theirs[0].bytes, "×", BYTES_BAR),
        Bar(f"{what}: writer, peak RSS", rss_mb, "MB", RSS_BAR_MB),
        Bar(f"{what}: rows", mine[0].rows, ""),
        Bar(f"{what}: writer", source_mb / cpu_s, "MB per CPU second"),
        Bar(f"{what}: DuckDB", source_mb / peer_s, "MB per CPU second"),
        Bar(f"{what}: writer, Parquet", mine[0].bytes / MB, "MB"),
        Bar(f"{what}: DuckDB, Parquet", theirs[0].bytes / MB, "MB"),
        Bar(f"{what}: DuckDB, peak RSS", peer_mb, "MB"),
    ]


if __name__ == "__main__":
    print(table(measure()))
