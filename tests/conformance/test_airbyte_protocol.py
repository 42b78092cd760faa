"""Every line that we write as an Airbyte source or destination, held against the protocol's own schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import protocol_schema, readback
from tests.conformance.pipes import Target
from tests.integration.conftest import Workspace

STREAM = {
    "name": "users",
    "namespace": "shop",
    "json_schema": {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "name": {"type": "string"}},
    },
    "supported_sync_modes": ["full_refresh"],
}
CATALOG = {
    "streams": [
        {
            "stream": STREAM,
            "sync_mode": "full_refresh",
            "destination_sync_mode": "append",
            "generation_id": 0,
            "minimum_generation_id": 0,
            "sync_id": 1,
        }
    ]
}
DESCRIPTOR = {"name": "users", "namespace": "shop"}


def line(**message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


def record(number: int) -> bytes:
    data = {"id": number, "name": f"n{number}"}
    return line(
        type="RECORD",
        record={"stream": "users", "namespace": "shop", "data": data, "emitted_at": 1},
    )


def state(number: int) -> bytes:
    stream = {"stream_descriptor": DESCRIPTOR, "stream_state": {"n": number}}
    return line(
        type="STATE",
        state={
            "type": "STREAM",
            "stream": stream,
            "sourceStats": {"recordCount": 2.0},
            "id": number,
        },
    )


def status(word: str) -> bytes:
    told = {"stream_descriptor": DESCRIPTOR, "status": word}
    trace = {"type": "STREAM_STATUS", "emitted_at": 1.5, "stream_status": told}
    return line(type="TRACE", trace=trace)


@pytest.mark.parametrize("verb", ["spec", "check"])
def test_answers(target: Target, verb: str) -> None:
    more = ("--config", str(target.config())) if verb == "check" else ()
    ended = target.feed(b"", verb, *more)
    assert ended.status == 0, ended.stderr
    told = protocol_schema.check(ended.states)
    if verb == "spec":
        [spec] = told["SPEC"]
        assert {"append", "overwrite"} <= set(spec["supported_destination_sync_modes"])
    else:
        assert [answer["status"] for answer in told["CONNECTION_STATUS"]] == ["SUCCEEDED"]
        assert not target.warehouse.exists() or readback.tables(target) == {}


def test_states_come_back_unchanged_and_in_order(target: Target) -> None:
    states = [state(number) for number in range(5)]
    sent = [
        part
        for number in range(5)
        for part in (record(number), record(number + 100), states[number])
    ]
    ended = target.write(
        b"".join([status("STARTED"), *sent, status("COMPLETE")]), CATALOG, epoch={"rows": 4}
    )
    assert ended.status == 0, ended.stderr
    told = protocol_schema.check(ended.states)
    assert told["STATE"] == [json.loads(text)["state"] for text in states]
    assert len(readback.rows(target, "users", "shop")) == 10


def test_what_a_write_that_fails_says(target: Target) -> None:
    bad = line(
        type="RECORD",
        record={"stream": "users", "namespace": "shop", "data": {"id": "x"}, "emitted_at": 1},
    )
    ended = target.write(
        b"".join([record(1), state(1), record(2), bad]), CATALOG, epoch={"rows": 1}
    )
    assert ended.status == 7
    told = protocol_schema.check(ended.states)
    [error] = [trace["error"] for trace in told["TRACE"] if trace["type"] == "ERROR"]
    assert "record.value" in error["internal_message"] + error["message"] + ended.stderr
    assert told["STATE"] == [json.loads(state(1))["state"]]
    assert [row["id"] for row in readback.rows(target, "users", "shop")] == [1]


READS: dict[str, dict[str, Any]] = {
    "airbyte:source-hardcoded-records": {"count": 20},
    "airbyte:source-faker": {"count": 60, "seed": 7, "parallelism": 1, "records_per_slice": 20},
}


@pytest.mark.parametrize("plugin", READS)
def test_read(shelf: Workspace, plugin: str) -> None:
    (shelf.folder / "read.json").write_text(json.dumps(READS[plugin]))
    read = shelf.dativo("read", plugin, "--as", "airbyte", "--config", "read.json", *shelf.flags)
    assert read.status == 0, read.stderr
    told = protocol_schema.check(read.stdout.splitlines())
    assert read.stdout.endswith("\n") and len(told["RECORD"]) >= 60 and told["STATE"]
    assert told.keys() <= {"RECORD", "STATE", "TRACE"}


def test_read_of_a_tap_with_every_type_of_value(shelf: Workspace, tmp_path: Path) -> None:
    capture = [
        {
            "id": 1,
            "big": 12345678901234567890123,
            "text": "\u0000“ü”\U0001f600",
            "deep": {"a": [None, 1.50]},
        }
    ]
    (shelf.folder / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in capture))
    (shelf.folder / "odd.json").write_text(json.dumps({"path": str(shelf.folder / "odd.jsonl")}))
    read = shelf.dativo("read", "singer:tap-jsonl", "--as", "airbyte", "--config", "odd.json",
                        "--ro", "odd.jsonl", *shelf.flags)  # fmt: skip
    assert read.status == 0, read.stderr
    told = protocol_schema.check(read.stdout.splitlines())
    got = [own(found["data"]) for found in told["RECORD"]]
    assert readback.same_rows(got, capture) == []


def own(record: dict[str, Any]) -> dict[str, Any]:
    """Return what the file says: the tap adds three fields of its own."""
    return {name: value for name, value in record.items() if not name.startswith("_sdc_")}
