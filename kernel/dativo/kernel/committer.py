"""The committer of one of dativo's own targets: what it may see, what it is told, and a talk with it beside any run.

kernel ──open──▶ committer ──opened, tables…, closed──▶ kernel
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dativo.kernel import registry, show, walls
from dativo.kernel.limits import COMMITTER_MEMORY_BYTES, HELLO_TIMEOUT_S, EpochLimits
from dativo.kernel.processes import Processes, tool_limits
from dativo.protocol import control, events, handshake
from dativo.protocol.errors import ProtocolViolation, TargetFailed, Where, error_for_code
from dativo.protocol.state import Stream
from dativo.sandbox import Grants, Identity, Program


@dataclass(frozen=True, slots=True)
class Target:
    """Where it lands.

    ``overwrites``: streams that overwrite although ``mode`` is append, with the caller's generation; None lets the committer
    number it. ``metadata``: which columns tables have beside those of the source (docs/spec/metadata.md).
    """

    plugin: registry.Installed
    pipeline: str
    warehouse: Path
    namespace: str
    mode: str = "append"
    epoch: EpochLimits = field(default_factory=EpochLimits)
    overwrites: tuple[tuple[Stream, int | None], ...] = ()
    metadata: str = "none"


@dataclass(frozen=True, slots=True)
class Holding:
    """What a target holds of a pipeline; ``tables`` only of one that was opened to be read."""

    opened: events.Opened
    tables: tuple[events.Table, ...]


def committer(target: Target) -> tuple[Program, Grants]:
    """Return the committer of a target: it may write the warehouse, which it sees at its real path, and nothing else."""
    program = Program(name="committer", argv=target.plugin.argv, runtime=target.plugin.runtime)
    return program, Grants(write=(target.warehouse,), limits=tool_limits(COMMITTER_MEMORY_BYTES))


def open_committer(
    target: Target, run_id: str, staging: Path, *, read_only: bool = False
) -> dict[str, object]:
    """Return the committer's ``open`` message (docs/spec/events.md)."""
    return {
        "type": "open",
        "input": "0",
        "run": run_id,
        "pipeline": target.pipeline,
        "partition": "",
        "owner": f"default/{target.pipeline}",
        "warehouse": str(target.warehouse),
        "namespace": target.namespace,
        "staging": str(staging),
        "mode": "read" if read_only else target.mode,
        "overwrites": [
            {"stream": stream.to_event(), "generation": generation}
            for stream, generation in target.overwrites
        ],
    }


def look_into(
    processes: Processes, target: Target, owner: Identity | None, *, file: Path | None = None
) -> Holding:
    """Return what the target holds. Disturbs no run: nothing is fenced or written. ``file`` is named in errors.

    Blocks. Raises what the committer fails with, and TargetFailed when it does not start, does not answer or ends early.
    """
    opening = open_committer(target, processes.run_id, target.warehouse, read_only=True)
    return _talk(processes, target, owner, opening, file)


def try_out(processes: Processes, target: Target, owner: Identity | None, staging: Path) -> None:
    """Open the target as a run does, and let it go. Blocks and raises as ``look_into`` does."""
    opening = open_committer(target, processes.run_id, staging)
    _talk(processes, target, owner, opening, None)


def _talk(
    processes: Processes,
    target: Target,
    owner: Identity | None,
    opening: dict[str, object],
    file: Path | None,
) -> Holding:
    program = f"dativo-{target.plugin.reference}"
    where = Where(file=str(file) if file is not None else None, plugin=program)
    with walls.starting(target.plugin.reference, TargetFailed):
        _, ours = processes.start_tool(*committer(target), owner)
    with ours:
        ours.settimeout(HELLO_TIMEOUT_S)
        try:
            found = _converse(control.Channel(ours), opening, program, where)
        except TimeoutError as error:
            raise TargetFailed(
                f"{program} did not answer within {HELLO_TIMEOUT_S:.0f} s", where
            ) from error
        except ConnectionError:
            found = None
    if found is None:
        raise TargetFailed(f"{program} ended without an answer", where)
    return found


def _converse(
    channel: control.Channel, opening: dict[str, object], program: str, where: Where
) -> Holding | None:
    """Shake hands, open, and hear it out; None when it ends before it has closed."""
    read_only = opening["mode"] == "read"
    opened: events.Opened | None = None
    tables: list[events.Table] = []
    while (event := channel.receive()) is not None:
        message = events.parse(event)
        match message:
            case events.Hello():
                handshake.agree(message, program=program)
                channel.send(opening)
            case events.Opened():
                opened = message
                # One that only reads closes by itself.
                if not read_only:
                    channel.send({"type": "close"})
            case events.Table() if read_only:
                tables.append(message)
            case events.Closed() if opened is not None:
                return Holding(opened, tuple(tables))
            case events.Failure():
                raise error_for_code(message.code)(
                    f"{message.code}: {show.foreign(message.message)}",
                    where,
                    value=show.foreign(message.value) if message.value else None,
                    hint=show.foreign(message.hint) if message.hint else None,
                )
            case _:
                raise ProtocolViolation(f"{program} may not send {event['type']}", where)
    return None
