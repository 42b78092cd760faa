"""Memory of the writer, and its row groups, with many streams whose rows take turns.

The rows are those of "orders", dealt out to 10 or 200 streams one by one, the hardest case, from 100 MB to 10 GB of input. With
10 streams a STATE comes after every 20 MB and epochs are cut as they are by default. With 200 the only STATE is the last line,
so that every stream's rows wait for it: what is asked for then is that row groups do not become small.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from tests.contract.played import Event
from tests.contract.writer_kernel import PARQUET, Writer, opening, stream

from bench.measure import MB, Bar, table
from bench.streams import streams
from dativo.kernel.limits import SILENCE_S

SHAPE = "orders"
BLOCK_ROWS = 43_000
RSS_BARS_MB = {10: 64.0, 200: 128.0}
SIZES = {10: (100 * MB, 10_000 * MB), 200: (100 * MB, 10_000 * MB)}
GROUP_BYTES = 16 << 20
STATE = b'{"type":"STATE","value":{}}\n'


@dataclass
class Landing(Writer):
    """A writer whose sealed files are looked at and removed, as a committer takes them away."""

    staging: Path = field(default_factory=Path)
    # Of each row group: its rows, its bytes before compression, and whether it is all that its stream has in the epoch.
    groups: list[tuple[int, int, bool]] = field(default_factory=list)

    def next(self, timeout_s: float = SILENCE_S) -> Event | None:
        """Wait as long as the kernel does: at the end all streams' last row groups are encoded."""
        return super().next(timeout_s)

    def answer(self, event: Event) -> None:
        """Commit as a kernel does."""
        if event["type"] == "sealed":
            of_stream = itertools.groupby(
                sorted(event["files"], key=lambda file: file["stream"]["name"]),
                key=lambda file: file["stream"]["name"],
            )
            for _, files in of_stream:
                self._take([self.staging / file["path"] for file in files])
        super().answer(event)

    def _take(self, paths: list[Path]) -> None:
        groups = []
        for path in paths:
            metadata = pq.read_metadata(path)
            for index in range(metadata.num_row_groups):
                group = metadata.row_group(index)
                groups.append((group.num_rows, group.total_byte_size))
            path.unlink()
        self.groups += [(rows, size, len(groups) == 1) for rows, size in groups]


def measure() -> list[Bar]:
    """Run once for each number of streams and each size."""
    bars = []
    for count, sizes in SIZES.items():
        for size in sizes:
            writer = run(count, size, states=count == 10)
            what = f"{count} streams, {size / MB:,.0f} MB"
            peak_mb = writer.peak_bytes / MB
            usage = writer.usage
            assert usage is not None
            speed = size / MB / (usage.ru_utime + usage.ru_stime)
            bars.append(Bar(f"{what}: writer, peak RSS", peak_mb, "MB", RSS_BARS_MB[count]))
            bars.append(Bar(f"{what}: writer", speed, "MB per CPU second"))
            if count == max(SIZES):
                bars.append(fullness(what, writer.groups))
                rows = statistics.median(rows for rows, _, _ in writer.groups)
                bars.append(Bar(f"{what}: rows of a row group, median", rows, ""))
    return bars


def fullness(what: str, groups: list[tuple[int, int, bool]]) -> Bar:
    """Return how full the median row group is: 1 at 122,880 rows, at 16 MB before compression, or with all rows of its stream."""
    full = statistics.median(
        1.0 if is_whole else max(rows / PARQUET["row_group_rows"], size / GROUP_BYTES)
        for rows, size, is_whole in groups
    )
    return Bar(f"{what}: fullness of a row group, median", full, "", 1.0, least=True)


def run(count: int, size: int, *, states: bool) -> Landing:
    """Give the writer about ``size`` bytes, dealt out to ``count`` streams; with ``states`` one after each block of 20 MB."""
    with (streams(SHAPE) / f"{SHAPE}.singer.jsonl").open("rb") as lines:
        block, schemas = deal(lines, count)
    blocks = itertools.repeat(block + STATE * states, max(1, size // len(block)))
    epoch = {} if states else {"max_bytes": 1 << 40, "max_rows": 1 << 40, "max_seconds": 86_400}
    with tempfile.TemporaryDirectory() as folder:
        declared = [stream(_name(index)) for index in range(count)]
        open_ = opening("singer", Path(folder), declared, epoch=epoch)
        with Landing(open_, staging=Path(folder)) as writer:
            writer.feed_all(itertools.chain([schemas], blocks, [STATE]))
            writer.finish()
            writer.drain()
            if writer.status:
                raise RuntimeError(f"the writer failed: {writer.of('error')} {writer.stderr()}")
    return writer


def deal(lines: Iterator[bytes], count: int) -> tuple[bytes, bytes]:
    """Return the first rows of a SCHEMA and its RECORDs, dealt out to ``count`` streams, and the SCHEMAs of these."""
    schema = next(lines)
    rows = itertools.islice(_records(lines), BLOCK_ROWS)
    dealt = zip(rows, itertools.cycle(range(count)), strict=False)
    block = b"".join(_renamed(line, index) for line, index in dealt)
    return block, b"".join(_renamed(schema, index) for index in range(count))


def _records(lines: Iterator[bytes]) -> Iterator[bytes]:
    return (line for line in lines if line.startswith(b'{"type":"RECORD"'))


def _renamed(line: bytes, index: int) -> bytes:
    return line.replace(
        b'"stream":"%b"' % SHAPE.encode(), b'"stream":"%b"' % _name(index).encode(), 1
    )


def _name(index: int) -> str:
    return f"s{index:03d}"


if __name__ == "__main__":
    print(table(measure()))
