"""The report of a run: frozen facts, shown as a table for people or one JSON object for machines.

The summary that goes into the ledger is the same object. Everything that came from a plugin has passed ``show.foreign``.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from dativo.kernel import show, standing
from dativo.kernel.contracts import REJECTS
from dativo.kernel.network_record import NetworkRecord, NetworkReport
from dativo.kernel.tally import Tally
from dativo.protocol.errors import DativoError, ExitStatus
from dativo.sandbox import Confined, Exit


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
    # In rows that were written: values that became null, and values that the source says it nulled or shortened itself.
    discarded: int = 0
    changed: int = 0


@dataclass(frozen=True, slots=True)
class RejectsReport:
    """Where the rejects of a run are kept: ``rows`` of it in ``table``."""

    table: str
    rows: int
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
    pids_peak: int | None = None
    throttled_s: float | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    # What its limits did to it: killed for want of memory, refused forks, held back.
    events: tuple[str, ...] = ()


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
    # States that a foreign target has acknowledged; None for dativo's own, which commit them with the data.
    acknowledged: int | None = None
    # How long the source gave nothing and what comes behind the reader took nothing; ``slowest`` names who was waited for most.
    waited_s: float = 0.0
    slowest: str | None = None
    oddities: dict[str, int] = field(default_factory=dict)
    # Of each process that a broker served.
    network: tuple[NetworkReport, ...] = ()
    # What contracts let the run discard, if anything.
    rejects: RejectsReport | None = None

    def summary(self) -> str:
        """Return the run in a few words."""
        rows = sum(stream.written for stream in self.streams)
        if self.acknowledged is not None:
            return f"{rows:,} rows passed on, {self.acknowledged} states acknowledged"
        skipped = f", {self.text_lines:,} lines of text skipped" if self.text_lines else ""
        return f"{rows:,} rows, {self.commits} commits, epoch {self.epoch}{skipped}"

    def to_json(self) -> str:
        """Return the report as one JSON object on one line."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=True, separators=(",", ":"))


MAX_LINES = 20
"""Lines of a list of the network that people are shown; the JSON report has more."""

READERS = ("writer", "relay")
"""The process that reads the source, by its name in a run."""


@dataclass(slots=True)
class Course:
    """What is known of a run under way; its report can be made at any time. ``warehouse`` is "" for a foreign target."""

    run: str
    pipeline: str
    source: str
    target: str
    warehouse: str = ""
    tally: Tally = field(default_factory=Tally)
    processes: list[Confined] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    network: NetworkRecord | None = None
    began_at: float = field(default_factory=time.monotonic)

    def report(self, error: DativoError | None) -> Report:
        """Return what the run has done so far, and how it ended."""
        tally, stats = self.tally, self.tally.stats
        processes = tuple(
            process_report(each, each.poll_exit(), self.network) for each in self.processes
        )
        waited_s, blocked_s = (stats.waited_s, stats.blocked_s) if stats else (0.0, 0.0)
        return Report(
            run=self.run,
            pipeline=self.pipeline,
            status=int(error.status) if error is not None else 0,
            error=error_facts(error) if error is not None else None,
            seconds=round(time.monotonic() - self.began_at, 3),
            source=self.source,
            target=self.target,
            warehouse=self.warehouse,
            epoch=tally.epoch,
            commits=tally.commits,
            source_bytes=stats.bytes if stats else 0,
            text_lines=stats.text_lines if stats else 0,
            blocked_s=blocked_s,
            streams=stream_reports(tally),
            processes=processes,
            kernel_cpu_s=round(time.process_time(), 3),
            kernel_cpu_to_first_byte_s=tally.first_byte_cpu_s,
            degraded=("cgroup: limits are kept by rlimits and a watchdog",)
            if any(each.attestation.cgroup == "degraded" for each in self.processes)
            else (),
            notices=tuple(self.notices),
            states=len(tally.states),
            acknowledged=None if self.warehouse else tally.acknowledged,
            waited_s=waited_s,
            slowest=slowest(waited_s, blocked_s, processes) if stats else None,
            oddities=dict(stats.oddities) if stats else {},
            network=self.network.reports() if self.network is not None else (),
            rejects=rejects_report(tally),
        )


def slowest(waited_s: float, blocked_s: float, processes: Sequence[ProcessReport]) -> str:
    """Return who held the run up most: the source, the target, or the process between them, which is one of ours.

    The longest of three times: how long the reader waited for the source, how long it waited for what comes behind it, and how
    much CPU it used itself.
    """
    reader = next((each for each in processes if each.name in READERS), None)
    busy_s = (reader.cpu_s or 0.0) if reader is not None else 0.0
    longest = max(waited_s, blocked_s, busy_s)
    if longest == waited_s:
        return "source"
    return "target" if longest == blocked_s or reader is None else reader.name


def stream_reports(tally: Tally) -> tuple[StreamReport, ...]:
    """Return each stream over the committed epochs; rows read beyond them, by a run that failed, show in ``read`` alone.

    Of a foreign target nobody knows what it stored: ``written`` is what it was sent.
    """
    seen = {count.stream: count for count in tally.stats.counts} if tally.stats else {}
    seen |= {count.stream: count for count in tally.passed}
    if tally.opened is None:
        return tuple(
            StreamReport(
                stream=str(stream),
                table=None,
                read=count.read,
                written=count.written,
                rejected=count.rejected,
                filtered=count.filtered,
                bytes=0,
                files=0,
                metadata_location=None,
            )
            for stream, count in seen.items()
        )
    return tuple(
        StreamReport(
            stream=str(stream),
            table=totals.table,
            read=max(totals.read, seen[stream].read if stream in seen else 0),
            written=totals.written,
            rejected=totals.rejected,
            filtered=totals.filtered,
            bytes=totals.bytes,
            files=totals.files,
            metadata_location=totals.metadata_location,
            discarded=totals.discarded,
            changed=totals.changed,
        )
        for stream, totals in tally.streams.items()
    )


def rejects_report(tally: Tally) -> RejectsReport | None:
    """Return where the committed rejects are; None for a run without any."""
    kept = tally.rejects
    if kept is None or kept.table is None or not kept.written:
        return None
    return RejectsReport(kept.table, kept.written, kept.bytes, kept.files, kept.metadata_location)


def process_report(
    confined: Confined, ended: Exit | None, network: NetworkRecord | None = None
) -> ProcessReport:
    """Return what one confined process did and stood under."""
    walls = standing.walls(confined, network)
    if ended is None:
        return ProcessReport(confined.name, standing.ending(None), None, None, walls)
    usage = ended.usage
    return ProcessReport(
        confined.name,
        standing.ending(ended),
        usage.peak_memory_bytes,
        usage.cpu_s,
        walls,
        usage.pids_peak,
        usage.throttled_s,
        usage.read_bytes,
        usage.written_bytes,
        usage.events,
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
        f"  {report.source} → {report.target} {report.warehouse}".rstrip(),
        f"  {_durable(report)}",
        *_streams(report),
        *_rejects(report),
        *_changed(report),
        "",
        f"  {size(report.source_bytes)} from the source, "
        + (_times(report.commits, "commit") if report.acknowledged is None else "passed on")
        + (f", {report.text_lines} lines of text skipped" if report.text_lines else ""),
        *_waits(report),
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
    for each in report.network:
        lines += network_lines(each)
    for process in report.processes:
        lines += [f"  {process.name}: {event}" for event in process.events]
    for wall in report.degraded:
        lines += ["", f"  degraded: {wall}"]
    for notice in report.notices:
        lines += ["", f"  notice: {notice}"]
    if reader:
        lines += ["", "Read it back with DuckDB:", "", reader]
    return "\n".join(lines)


def network_lines(network: NetworkReport) -> list[str]:
    """Return the network of one process as text: what it sent to, what it was refused, what an observed one would have needed."""
    proxied = ", by the proxy: no address was checked" if network.proxied else ""
    lines = [
        "",
        f"  network of {network.process}: {_times(network.connections, 'connection')}, {network.refused} refused; "
        f"{_times(network.names_refused, 'name')} refused; {size(network.up_bytes)} up, {size(network.down_bytes)} down{proxied}",
        *_table(
            ("granted", "reached", "connections", "up", "down"),
            [
                (
                    each.grant,
                    show.foreign(each.place),
                    f"{each.connections:,}",
                    size(each.up_bytes),
                    size(each.down_bytes),
                )
                for each in network.reached[:MAX_LINES]
            ],
            right=(2, 3, 4),
        ),
        *_table(
            ("refused", "reason", "times", "to allow it"),
            [
                (show.foreign(each.place), each.reason, f"{each.count:,}", each.allow or "-")
                for each in network.refusals[:MAX_LINES]
            ],
            right=(2,),
        ),
    ]
    more = network.left_out + sum(
        max(0, len(each) - MAX_LINES) for each in (network.reached, network.refusals)
    )
    if more or network.suppressed:
        lines += ["", f"  not listed: {more} more lines, {network.suppressed} connections"]
    if network.proposed is not None:
        lines += [
            "",
            f"  proposed for {network.process}, most used first; nothing of it is applied:",
        ]
        lines += [f"    {text}" for text in network.proposed] or [
            "    nothing: nothing was refused"
        ]
    return lines


def _durable(report: Report) -> str:
    states = _times(report.states, "state")
    if report.acknowledged is None:
        # A commit of states alone makes an epoch too, and is no commit of data.
        what = "committed" if report.commits else "no new rows"
        return f"{what}: epoch {report.epoch}, {states}"
    return f"acknowledged by the target: {_times(report.acknowledged, 'state')}; kept: {states}"


def _streams(report: Report) -> list[str]:
    rows = [(s.stream, f"{s.read:,}", f"{s.written:,}", f"{s.rejected:,}") for s in report.streams]
    if report.acknowledged is not None:
        head = ("stream", "read", "passed on", "rejected")
        return _table(head, rows, right=(1, 2, 3))
    stored = [(size(s.bytes), str(s.files), s.table or "-") for s in report.streams]
    return _table(
        ("stream", "read", "written", "rejected", "bytes", "files", "table"),
        [(*row, *more) for row, more in zip(rows, stored, strict=True)],
        right=(1, 2, 3, 4, 5),
    )


def _rejects(report: Report) -> list[str]:
    if report.rejects is None:
        return []
    values = sum(stream.discarded for stream in report.streams)
    rows = report.rejects.rows - values
    return [
        "",
        f"  discarded: {_times(rows, 'row')}, {_times(values, 'value')}; kept in {report.rejects.table} "
        f"(dativo files JOB --stream {REJECTS})",
    ]


def _changed(report: Report) -> list[str]:
    counts = [(s.stream, s.changed) for s in report.streams if s.changed]
    if not counts:
        return []
    shown = ", ".join(f"{stream} {_times(count, 'value')}" for stream, count in counts[:10])
    more = f" and {len(counts) - 10} more streams" if len(counts) > 10 else ""
    return ["", f"  changed by the source itself: {shown}{more}"]


def _waits(report: Report) -> list[str]:
    lines = []
    if report.slowest is not None:
        lines.append(
            f"  waited {report.waited_s:.1f} s for the source, {report.blocked_s:.1f} s for the target; "
            f"slowest: {report.slowest}"
        )
    if report.oddities:
        found = ", ".join(f"{name} {count:,}" for name, count in report.oddities.items())
        lines.append(f"  tolerated: {found}")
    return lines


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


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
