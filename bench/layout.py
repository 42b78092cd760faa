"""The writer on "orders" that are sorted by a key, or partitioned by the day, against the same records as they come."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.contract.writer_kernel import laid_out

from bench.copies import Copy, write
from bench.measure import MB, Bar, median, table
from bench.streams import streams

SHAPE = "orders"
LAYOUTS = {
    "as they come": laid_out(),
    "sorted by a key": laid_out(sort=["customer_id"]),
    "in partitions of a day": laid_out(["day created_at"]),
}


def measure(rounds: int = 3) -> list[Bar]:
    """Let the writer lay the file out in each way in turn; medians, for information."""
    source = streams(SHAPE) / f"{SHAPE}.singer.jsonl"
    size = source.stat().st_size
    found: dict[str, list[Copy]] = {name: [] for name in LAYOUTS}
    for _ in range(rounds):
        for name, copies in found.items():
            copies.append(_copy(source, name))
    bars = []
    for name, copies in found.items():
        speed = median([size / MB / copy.cpu_s for copy in copies])
        peak = max(copy.peak_rss_bytes for copy in copies)
        bars.append(Bar(f"orders, {name}: writer", speed, "MB per CPU second"))
        bars.append(Bar(f"orders, {name}: writer, peak RSS", peak / MB, "MB"))
    return bars


def _copy(source: Path, name: str) -> Copy:
    with tempfile.TemporaryDirectory() as staging:
        return write(source, SHAPE, "singer", "", Path(staging), plan=LAYOUTS[name])


if __name__ == "__main__":
    print(table(measure()))
