"""The report of a run: frozen facts, shown as a table for people or one JSON object for machines.

The summary that goes into the ledger is the same object. Everything that came from a plugin has passed ``show.foreign``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from dativo.kernel.tally import Tally
from dativo.protocol.errors import DativoError, ExitStatus
from dativo.sandbox import Attestation, Confined, Exit


@dataclass(frozen=True, slots=True)
class StreamReport:
    """Rows of one stream: read = written + rejected + filtered for what was committed; ``read`` counts all that was read."""

    stream: str
    table: str | None
    read: int
    written: int
    rejected: int
    filtered: int
    bytes: int
    files: int
    metadata_location: str | None


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """One confined process: how it ended, what it used, and the walls that were attested and in force."""

    name: str
    ended: str
    peak_memory_bytes: int | None
    cpu_s: float | None
    walls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All that is told of one run."""

    run: str
    pipeline: str
    status: int
    error: dict[str, object] | None
    seconds: float
    source: str
    target: str
    warehouse: str
    epoch: int
    commits: int
    source_bytes: int
    text_lines: int
    blocked_s: float
    streams: tuple[StreamReport, ...]
    processes: tuple[ProcessReport, ...]
    kernel_cpu_s: float
    kernel_cpu_to_first_byte_s: float | None
    degraded: tuple[str, ...]
    notices: tuple[str, ...]
    states: int

    def to_json(self) -> str:
        """Return the report as one JSON object on one line."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=True, separators=(",", ":"))


def stream_reports(tally: Tally) -> tuple[StreamReport, ...]:
    """Return each stream over the committed epochs; rows read beyond them, by a run that failed, show in ``read`` alone."""
    seen = {count.stream: count.read for count in tally.stats.counts} if tally.stats else {}
    return tuple(
        StreamReport(
            stream=str(stream),
            table=totals.table,
            read=max(totals.read, seen.get(stream, 0)),
            written=totals.written,
            rejected=totals.rejected,
            filtered=totals.filtered,
            bytes=totals.bytes,
            files=totals.files,
            metadata_location=totals.metadata_location,
        )
        for stream, totals in tally.streams.items()
    )


def process_report(confined: Confined, ended: Exit | None) -> ProcessReport:
    """Return what one confined process did and stood under."""
    walls = _walls(confined.attestation)
    if ended is None:
        return ProcessReport(confined.name, "running", None, None, walls)
    if ended.cause == "exited":
        how = f"exit {ended.code}"
    elif ended.cause == "signaled":
        how = f"signal {ended.signal}"
    else:
        how = ended.cause
    return ProcessReport(
        confined.name, how, ended.usage.peak_memory_bytes, ended.usage.cpu_s, walls
    )


def _walls(found: Attestation) -> tuple[str, ...]:
    """Name the walls that were attested: as found, not as asked."""
    return (
        f"uid {found.uid}",
        f"{len(found.namespaces)} namespaces",
        "no network",
        "seccomp",
        f"landlock {found.landlock_abi}" if found.landlock_abi else "no landlock",
        "cgroup degraded" if found.cgroup == "degraded" else f"cgroup {found.cgroup}",
    )


def error_facts(error: DativoError) -> dict[str, object]:
    """Return an error as the report and ``--output json`` carry it."""
    return {
        "status": error.status.name,
        "message": error.message,
        "where": {k: v for k, v in dataclasses.asdict(error.where).items() if v is not None},
        "value": error.value,
        "blame": str(error.blame) if error.blame else None,
        "hint": error.hint,
    }


# --- for people ------------------------------------------------------------------------------------------------------------


def render(report: Report, *, reader: str | None) -> str:
    """Return the report as text. ``reader`` is the line that reads the tables with DuckDB, where there is one."""
    outcome = (
        "done" if report.status == ExitStatus.DONE else f"FAILED ({ExitStatus(report.status).name})"
    )
    lines = [
        f"{report.pipeline}: {outcome} in {report.seconds:.1f} s   run {report.run}",
        f"  {report.source} → {report.target} {report.warehouse}",
        f"  committed: epoch {report.epoch}, {report.states} state{'s' * (report.states != 1)}",
        *_table(
            ("stream", "read", "written", "rejected", "bytes", "files", "table"),
            [
                (
                    s.stream,
                    f"{s.read:,}",
                    f"{s.written:,}",
                    f"{s.rejected:,}",
                    size(s.bytes),
                    str(s.files),
                    s.table or "-",
                )
                for s in report.streams
            ],
            right=(1, 2, 3, 4, 5),
        ),
        "",
        f"  {size(report.source_bytes)} from the source, {report.commits} commit{'s' * (report.commits != 1)}"
        + (f", {report.text_lines} lines of text skipped" if report.text_lines else ""),
        *_table(
            ("process", "ended", "peak memory", "CPU", "walls"),
            [
                (
                    p.name,
                    p.ended,
                    size(p.peak_memory_bytes) if p.peak_memory_bytes is not None else "-",
                    f"{p.cpu_s:.2f} s" if p.cpu_s is not None else "-",
                    " ".join(p.walls),
                )
                for p in report.processes
            ]
            + [("kernel", "", "", f"{report.kernel_cpu_s:.2f} s", "")],
            right=(2, 3),
        ),
    ]
    for wall in report.degraded:
        lines += ["", f"  degraded: {wall}"]
    for notice in report.notices:
        lines += ["", f"  notice: {notice}"]
    if reader:
        lines += ["", "Read it back with DuckDB:", "", reader]
    return "\n".join(lines)


def _table(
    head: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: tuple[int, ...]
) -> list[str]:
    """Return the lines of a table after an empty one; none where it would have no row."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    shown = [""]
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        shown.append(("  " + "  ".join(cells)).rstrip())
    return shown


def size(count: int) -> str:
    """Return bytes for people: 1023 B, 1.5 MiB."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")
