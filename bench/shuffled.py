"""The writer on "orders" whose records hold their keys in another order each, against the same records in one order."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.copies import write
from bench.measure import Bar, alternate, median, table
from bench.streams import shuffled, streams

SHAPE = "orders"
BAR = 2.0


def measure(rounds: int = 3) -> list[Bar]:
    """Let the writer read both files in turn; CPU, the median of the rounds' ratios."""
    ordered, mixed = streams(SHAPE) / f"{SHAPE}.singer.jsonl", shuffled(SHAPE)
    found = alternate(
        {"ordered": lambda: _cpu_s(ordered), "shuffled": lambda: _cpu_s(mixed)}, rounds
    )
    pairs = zip(found["ordered"], found["shuffled"], strict=True)
    return [
        Bar(
            "orders: writer, CPU of shuffled keys over ordered",
            median([b / a for a, b in pairs]),
            "×",
            BAR,
        )
    ]


def _cpu_s(source: Path) -> float:
    with tempfile.TemporaryDirectory() as staging:
        return write(source, SHAPE, "singer", "", Path(staging)).cpu_s


if __name__ == "__main__":
    print(table(measure()))
