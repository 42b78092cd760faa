"""How a bare pipe ends and what is then stored, printed and returned: DESIGN 2.5."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import readback
from tests.conformance.conftest import replayed
from tests.conformance.pipes import Target
from tests.integration.conftest import Workspace

SCHEMA = {
    "type": "SCHEMA",
    "stream": "rows",
    "key_properties": ["id"],
    "schema": {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "text": {"type": ["null", "string"]}},
    },
}


def line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def row(number: int) -> bytes:
    return line({"type": "RECORD", "stream": "rows", "record": {"id": number, "text": "x"}})


def state(number: int) -> bytes:
    return line({"type": "STATE", "value": {"n": number}})


COVERED = b"".join([line(SCHEMA), row(1), row(2), state(2), row(3), row(4), state(4)])
WHOLE = COVERED + row(5)
HALF = WHOLE + row(6)[:20]
# A whole message without the end of its line: nobody knows whether more was to come.
UNENDED = WHOLE + row(6)[:-1]
OUTCOMES = [
    ("complete", None, WHOLE, 5, 0),
    ("complete", "commit", WHOLE, 5, 0),
    ("complete", "checkpoint", WHOLE, 4, 0),
    ("at a state", "checkpoint", COVERED, 4, 0),
    ("inside a line", None, HALF, 4, 7),
    ("inside a line", "commit", HALF, 4, 7),
    ("inside a line", "checkpoint", HALF, 4, 7),
    ("before the line's end", None, UNENDED, 4, 7),
]


def stored(target: Target, stream: str = "rows", namespace: str | None = None) -> list[int]:
    found = readback.tables(target)
    return sorted(row["id"] for row in found[namespace, stream].rows) if found else []


@pytest.mark.parametrize(("ending", "eof", "sent", "rows", "status"), OUTCOMES)
def test_singer(
    parquet: Target, ending: str, eof: str | None, sent: bytes, rows: int, status: int
) -> None:
    ends(parquet, eof, sent, rows, status)


@pytest.mark.parametrize(("ending", "eof", "sent", "rows", "status"), OUTCOMES[1:6:2])
def test_singer_on_iceberg(
    tmp_path: Path, ending: str, eof: str | None, sent: bytes, rows: int, status: int
) -> None:
    ends(Target("iceberg", tmp_path), eof, sent, rows, status)


def ends(target: Target, eof: str | None, sent: bytes, rows: int, status: int) -> None:
    ended = target.load(sent, eof=eof)
    assert ended.status == status, ended.stderr
    assert stored(target) == list(range(1, rows + 1))
    assert [json.loads(text)["n"] for text in ended.states] in ([4], [2, 4])
    assert ("framing.half_line" in ended.stderr) == (status == 7)


def test_nothing_at_all(target: Target) -> None:
    ended = target.load(b"")
    assert (ended.status, ended.stdout) == (0, "")
    assert stored(target) == []


def test_a_load_goes_on_after_one_that_ended_inside_a_line(parquet: Target) -> None:
    assert parquet.load(HALF).status == 7
    again = parquet.load(b"".join([line(SCHEMA), row(5), row(6), state(6)]))
    assert again.status == 0, again.stderr
    assert stored(parquet) == [1, 2, 3, 4, 5, 6]


# --- Airbyte: a replaced stream waits for proof ----------------------------------------------------------------------------

DESCRIPTOR = {"name": "rows"}


def record(number: int) -> bytes:
    data = {"id": number, "text": "x"}
    return line({"type": "RECORD", "record": {"stream": "rows", "data": data, "emitted_at": 1}})


def trace(**told: Any) -> bytes:
    return line({"type": "TRACE", "trace": {"emitted_at": 1, **told}})


def status(word: str) -> bytes:
    return trace(
        type="STREAM_STATUS", stream_status={"stream_descriptor": DESCRIPTOR, "status": word}
    )


ERROR = trace(type="ERROR", error={"message": "the API said 500"})
AIRBYTE_ENDS = [
    ("complete", None, status("COMPLETE"), True),
    ("silent", None, b"", False),
    ("silent", "commit", b"", True),
    ("failed", None, ERROR, False),
    ("failed", "checkpoint", ERROR, False),
    ("failed", "commit", ERROR, False),
    ("incomplete", "commit", status("INCOMPLETE"), False),
    ("incomplete", None, status("INCOMPLETE"), False),
]


def catalog(mode: str, generation: int) -> dict[str, Any]:
    stream = {
        "name": "rows",
        "json_schema": SCHEMA["schema"],
        "supported_sync_modes": ["full_refresh"],
    }
    entry = {"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": mode,
             "generation_id": generation, "minimum_generation_id": generation, "sync_id": 1}  # fmt: skip
    return {"streams": [entry]}


@pytest.mark.parametrize(("ending", "eof", "last", "swapped"), AIRBYTE_ENDS)
def test_airbyte(parquet: Target, ending: str, eof: str | None, last: bytes, swapped: bool) -> None:
    first = parquet.write(record(1) + status("COMPLETE"), catalog("overwrite", 1))
    assert first.status == 0, first.stderr
    assert stored(parquet) == [1]
    second = parquet.write(record(2) + record(3) + last, catalog("overwrite", 2), eof=eof)
    assert second.status == 0, second.stderr
    assert stored(parquet) == ([2, 3] if swapped else [1])


@pytest.mark.parametrize("ending", [status("COMPLETE"), b""])
def test_airbyte_on_iceberg(tmp_path: Path, ending: bytes) -> None:
    target = Target("iceberg", tmp_path)
    for generation in (1, 2):
        sent = record(generation) + (status("COMPLETE") if generation == 1 else ending)
        ended = target.write(sent, catalog("overwrite", generation))
        assert ended.status == 0, ended.stderr
    assert stored(target) == ([2] if ending else [1])


# --- dativo on both ends ---------------------------------------------------------------------------------------------------

DATA = b"".join(
    [
        record(1),
        record(2),
        line({"type": "STATE", "state": {"type": "LEGACY", "data": {"n": 2}}}),
        record(3),
    ]
)
READS = [
    ("done", DATA, 0, 0, 0, 3),
    ("failed", DATA + ERROR, 3, 4, 7, 2),
    ("inside a line", DATA + record(4)[:30], 0, 7, 7, 2),
]


@pytest.mark.parametrize(("ending", "sent", "exits", "read_status", "target_status", "rows"), READS)
@pytest.mark.parametrize("dialect", ["singer", "airbyte"])
def test_read_into_a_target(
    shelf: Workspace,
    parquet: Target,
    ending: str,
    sent: bytes,
    exits: int,
    read_status: int,
    target_status: int,
    rows: int,
    dialect: str,
) -> None:
    """A read that fails ends inside a line, so that who reads it knows."""
    stream = catalog("append", 0)["streams"][0]["stream"]
    discover = line({"type": "CATALOG", "catalog": {"streams": [stream]}})
    reference = replayed(shelf, "airbyte", discover, sent, exits)
    arguments = ["--config", str(parquet.config())]
    if dialect == "airbyte":
        (parquet.folder / "catalog.json").write_text(json.dumps(catalog("append", 0)))
        arguments = ["write", *arguments, "--catalog", str(parquet.folder / "catalog.json")]
    read = shelf.start("read", reference, "--as", dialect, "--config", "replay.json",
                       *shelf.flags, text=False)  # fmt: skip
    loading = parquet.start(*arguments, stdin=read.stdout)
    assert read.stdout is not None and read.stderr is not None
    with read.stdout, read.stderr:
        read.stdout.close()
        _, words = loading.communicate(timeout=120)
        said = read.stderr.read()
    read.wait(60)
    assert (read.returncode, loading.returncode) == (read_status, target_status), (said, words)
    assert len(stored(parquet)) == rows
