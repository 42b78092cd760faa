"""Contracts in the writer: what is discarded, what is fatal all the same, and where the rejects are sealed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.contract.test_writer_checkpoint import airbyte_state, counts, left, singer
from tests.contract.writer_kernel import Event, Writer, opening, plan_for, play, stream

REJECTS = "_dativo_rejects"
SCHEMA = {
    "properties": {
        "id": {"type": "integer"},
        "text": {"type": "string"},
        "day": {"type": "string", "format": "date"},
    }
}


def contract(values: str = "discard_row", most: int = 1000, *, text: bool = False) -> Event:
    return {"values": values, "max_rejects": most, "keep_text": text}


def opened(
    staging: Path,
    *streams: str,
    dialect: str = "airbyte",
    contract: Event | None = None,
    schema: object = SCHEMA,
    **more: Any,
) -> Event:
    entries = [stream(name, schema if dialect == "airbyte" else None) for name in streams]
    for entry in entries:
        entry |= {} if contract is None else {"contract": contract}
    return opening(dialect, staging, entries, **more)


def line(data: object, name: str = "s") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return b'{"type":"RECORD","record":{"stream":"%s","data":%s}}\n' % (
        name.encode(),
        text.encode(),
    )


def rows(staging: Path, sealed: Event, name: str = "s") -> list[dict[str, Any]]:
    """Return a stream's rows of one epoch."""
    return [
        row
        for file in sealed["files"]
        if file["stream"] == {"namespace": None, "name": name}
        for row in pq.read_table(staging / file["path"]).to_pylist()
    ]


def tally(sealed: Event) -> dict[str, tuple[int, int, int, int]]:
    """Return read, written, rejected and discarded of each stream."""
    return {
        c["stream"]["name"]: (c["read"], c["written"], c["rejected"], c.get("discarded", 0))
        for c in sealed["counts"]
    }


# --- rows


def test_a_row_that_does_not_fit_is_kept_as_a_reject(tmp_path: Path) -> None:
    good, bad = line({"id": 1, "text": "a"}), line({"id": "one", "text": "b"})
    before = datetime.now(UTC)
    writer = play(opened(tmp_path, "s", contract=contract()), good, bad, line({"id": 2}))
    assert (writer.status, writer.of("error")) == (0, [])
    (sealed,) = writer.of("sealed")
    assert [row["id"] for row in rows(tmp_path, sealed)] == [1, 2]
    (reject,) = rows(tmp_path, sealed, REJECTS)
    at = reject.pop("rejected_at")
    assert before - timedelta(seconds=1) < at < datetime.now(UTC) + timedelta(seconds=1)
    assert reject == {
        "stream": "s",
        "line": 2,
        "byte": len(good),
        "code": "record.value",
        "field": "id",
        "message": "expected an integer of 64 bits",
        "value": '"one"',
        "text": None,
    }
    assert tally(sealed) == {"s": (3, 2, 1, 0)}
    assert tally(writer.of("stats")[-1]) == {"s": (3, 0, 1, 0)}
    assert sealed["complete"] is True
    left(tmp_path, sealed)


def test_without_rejects_there_is_no_table_of_them(tmp_path: Path) -> None:
    writer = play(opened(tmp_path, "s", contract=contract()), line({"id": 1}))
    assert [event["stream"]["name"] for event in writer.of("stream_schema")] == ["s"]
    (sealed,) = writer.of("sealed")
    assert [file["stream"]["name"] for file in sealed["files"]] == ["s"]


def required(schema: Event) -> Event:
    """A plan in which the column of ``id`` is required."""
    plan = plan_for(schema)
    for column in plan["columns"]:
        column["required"] = column["property"] == "id" and schema["stream"]["name"] == "s"
    return plan


@pytest.mark.parametrize("values", ["discard_row", "discard_value"])
@pytest.mark.parametrize(
    ("data", "code", "field", "value"),
    [
        ('{"text":"b"}', "record.value", "id", "null"),
        ('{"id":null}', "record.value", "id", "null"),
        ('{"id":[1]}', "record.value", "id", "[1]"),
        ("[]", "message.invalid", None, None),
        ("5", "message.invalid", None, None),
        ("null", "message.invalid", None, None),
    ],
)
def test_rows_that_no_null_mends_are_rejected(
    tmp_path: Path, values: str, data: str, code: str, field: str | None, value: str | None
) -> None:
    with Writer(opened(tmp_path, "s", contract=contract(values)), plan=required) as writer:
        writer.feed_all(iter([line(data), line({"id": 7})]))
        writer.finish()
        writer.drain()
    (sealed,) = writer.of("sealed")
    assert [row["id"] for row in rows(tmp_path, sealed)] == [7]
    (reject,) = rows(tmp_path, sealed, REJECTS)
    assert (reject["code"], reject["field"], reject["value"]) == (code, field, value)
    assert tally(sealed) == {"s": (2, 1, 1, 0)}


def test_a_singer_record_without_its_key_is_rejected(tmp_path: Path) -> None:
    data = singer("SCHEMA", stream="s", schema=SCHEMA, key_properties=["id"])
    data += singer("RECORD", stream="s", record={"text": "b"}, version=1)
    data += singer("RECORD", stream="s", record={"id": 3}, version=2)
    writer = play(opened(tmp_path, "s", dialect="singer", contract=contract()), data)
    (sealed,) = writer.of("sealed")
    (reject,) = rows(tmp_path, sealed, REJECTS)
    assert (reject["code"], reject["field"], reject["line"]) == ("record.missing_key", "id", 2)
    versions = {file["stream"]["name"]: file["version"] for file in sealed["files"]}
    assert versions == {"s": 2, REJECTS: None}


@pytest.mark.parametrize("values", ["discard_row", "discard_value"])
@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (line('{"id":01}'), "json.invalid"),
        (line('{"id":"x","text":}'), "json.invalid"),
        (line('{"id":"x"'), "json.invalid"),
        (line('{"id":"x","text":' + "[" * 100 + "]" * 100 + "}"), "json.too_deep"),
        (b'{"type":"RECORD","record":{"stream":"s","data":{"id":"x"}},}\n', "json.invalid"),
        (b'{"type":"RECORD","record":{"stream":"s","data":{"id":"x"}}} 1\n', "json.invalid"),
        (line('{"id":"x","text":"\xff"}').replace(b"\xc3\xbf", b"\xff"), "framing.invalid_utf8"),
        (line({"id": "x"}, "t"), "message.unknown_stream"),
        (b'{"type":"RECORD","record":{"stream":"s"}}\n', "message.invalid"),
        (
            b'{"type":"RECORD","record":{"stream":"s","data":{"id":"x"},"data":{}}}\n',
            "json.duplicate_key",
        ),
        (
            b'{"type":"RECORD","record":{"stream":"s","data":{"id":"x"},"namespace":"n"}}\n',
            "message.unknown_stream",
        ),
        (b'{"type":"RECORD","record":{"stream":"s","da', "framing.half_line"),
    ],
)
def test_what_is_no_json_or_breaks_the_protocol_ends_the_run(
    tmp_path: Path, values: str, bad: bytes, code: str
) -> None:
    writer = play(opened(tmp_path, "s", contract=contract(values)), line({"id": 1}), bad)
    assert (writer.status, writer.error()["code"]) == (7, code)


def test_a_namespace_behind_the_data_tells_whose_reject_it_is(tmp_path: Path) -> None:
    entries = [stream("s", SCHEMA), stream("s", SCHEMA, namespace="n")]
    entries[1]["contract"] = contract()
    bad = b'{"type":"RECORD","record":{"stream":"s","data":{"id":"x"},"namespace":"n"}}\n'
    entries[0]["contract"] = contract(most=0)
    writer = play(opening("airbyte", tmp_path, entries), bad, line({"id": 1}))
    assert writer.of("error") == []
    (sealed,) = writer.of("sealed")
    assert [reject["stream"] for reject in rows(tmp_path, sealed, REJECTS)] == ["n.s"]
    told = {c["stream"]["namespace"]: (c["read"], c["rejected"]) for c in sealed["counts"]}
    assert told == {None: (1, 0), "n": (1, 1)}


# --- values


def test_a_value_that_does_not_fit_becomes_null_and_its_row_is_written(tmp_path: Path) -> None:
    data = [
        line({"id": 1, "text": "a", "day": "2026-02-30"}),
        line({"id": "x", "text": 5, "day": "2026-02-28"}),
        line({"id": 3, "text": "c"}),
    ]
    writer = play(opened(tmp_path, "s", contract=contract("discard_value")), *data)
    assert writer.of("error") == []
    (sealed,) = writer.of("sealed")
    written = [(row["id"], row["text"], str(row["day"])) for row in rows(tmp_path, sealed)]
    assert written == [(1, "a", "None"), (None, None, "2026-02-28"), (3, "c", "None")]
    kept = [(r["line"], r["field"], r["value"]) for r in rows(tmp_path, sealed, REJECTS)]
    assert kept == [(1, "day", '"2026-02-30"'), (2, "id", '"x"'), (2, "text", "5")]
    assert tally(sealed) == {"s": (3, 3, 0, 3)}
    assert tally(writer.of("stats")[-1]) == {"s": (3, 0, 0, 3)}


def test_the_last_of_a_field_that_comes_twice_counts(tmp_path: Path) -> None:
    data = line('{"id":"x","id":"y","id":1}') + line('{"id":2,"id":"x"}')
    writer = play(opened(tmp_path, "s", contract=contract("discard_value")), data)
    (sealed,) = writer.of("sealed")
    assert [row["id"] for row in rows(tmp_path, sealed)] == [1, None]
    assert [r["line"] for r in rows(tmp_path, sealed, REJECTS)] == [2]


@pytest.mark.parametrize("values", ["fail", "discard_row", "discard_value"])
def test_a_misfit_that_another_value_replaces_is_none(tmp_path: Path, values: str) -> None:
    inside = {"type": "object", "properties": {"x": {"type": "integer"}}}
    schema = {"properties": {"id": {"type": "integer"}, "o": inside}}
    data = line('{"id":"x","id":[],"id":1,"o":{"x":"y","x":2}}')
    writer = play(opened(tmp_path, "s", schema=schema, contract=contract(values)), data)
    assert writer.of("error") == []
    (sealed,) = writer.of("sealed")
    assert rows(tmp_path, sealed) == [{"id": 1, "o": {"x": 2}}]
    assert tally(sealed) == {"s": (1, 1, 0, 0)}


def test_values_of_singer_versions_are_kept_once(tmp_path: Path) -> None:
    """A record with another version is decoded twice."""
    data = singer("SCHEMA", stream="s", schema=SCHEMA, key_properties=["id"])
    for version in (1, 2):
        data += singer("RECORD", stream="s", record={"id": 1, "text": 5}, version=version)
    writer = play(opened(tmp_path, "s", dialect="singer", contract=contract("discard_value")), data)
    (sealed,) = writer.of("sealed")
    assert tally(sealed) == {"s": (2, 2, 0, 2)}
    assert len(rows(tmp_path, sealed, REJECTS)) == 2


# --- the line


@pytest.mark.parametrize("size", [10, 64 << 10, 100_000])
def test_the_line_is_kept_where_it_is_asked_for_and_clipped(tmp_path: Path, size: int) -> None:
    bad = line({"id": "x", "text": "ä" * size})
    writer = play(opened(tmp_path, "s", contract=contract(text=True)), bad)
    (sealed,) = writer.of("sealed")
    (reject,) = rows(tmp_path, sealed, REJECTS)
    whole = bad.decode().rstrip("\n")
    kept = reject["text"]
    if len(whole.encode()) <= 64 << 10:
        assert kept == whole
    else:
        assert (64 << 10) - 4 <= len(kept.encode()) <= 64 << 10
        assert kept.endswith("…") and whole.startswith(kept[:-1])


def test_a_value_is_clipped(tmp_path: Path) -> None:
    writer = play(opened(tmp_path, "s", contract=contract()), line({"id": "x" * 1000}))
    (sealed,) = writer.of("sealed")
    (reject,) = rows(tmp_path, sealed, REJECTS)
    assert reject["value"] == '"' + "x" * 198 + "…"


# --- how many


@pytest.mark.parametrize("most", [0, 1, 3])
def test_one_more_than_the_contract_takes_ends_the_run(tmp_path: Path, most: int) -> None:
    bad = line({"id": "x"})
    writer = play(opened(tmp_path, "s", contract=contract(most=most)), bad * most)
    assert writer.of("error") == []
    other = tmp_path / "more"
    other.mkdir()
    writer = play(opened(other, "s", contract=contract(most=most)), bad * (most + 1))
    error = writer.error()
    assert (writer.status, error["code"], error["line"]) == (7, "record.value", most + 1)
    assert error["blame"] == "plugin" and error["value"] == '"x"'
    assert f"takes {most} rejects" in error["hint"] and REJECTS in error["hint"]
    left(other)


def test_rejects_of_all_epochs_of_a_run_count_and_each_stream_has_its_own(tmp_path: Path) -> None:
    data = b""
    for n in range(3):
        data += line({"id": n}) + line({"id": "x"}) + airbyte_state("s", n)
        data += line({"id": "x"}, "t") + airbyte_state("t", n)
    open_ = opened(tmp_path, "s", "t", contract=contract(most=3), epoch={"max_rows": 1})
    writer = play(open_, data)
    assert writer.of("error") == []
    writer = play(opened(tmp_path / ".", "s", contract=contract(most=0)), line({"id": "x"}))
    assert writer.error()["code"] == "record.value"


def test_values_and_rows_count_alike(tmp_path: Path) -> None:
    data = line({"id": "x", "text": 5}) + line("[]")
    writer = play(opened(tmp_path, "s", contract=contract("discard_value", 3)), data)
    assert writer.of("error") == []
    other = tmp_path / "more"
    other.mkdir()
    writer = play(opened(other, "s", contract=contract("discard_value", 2)), data)
    assert (writer.error()["code"], writer.error()["line"]) == ("message.invalid", 2)


# --- epochs


def test_rejects_are_sealed_with_their_own_stream(tmp_path: Path) -> None:
    """A cut seals the streams that stand at their state; rejects of the others wait with their rows."""
    data = line({"id": 1}, "a") + line({"id": "x"}, "a")
    data += line({"id": 1}, "b") + line({"id": "y"}, "b")
    open_ = opened(tmp_path, "a", "b", contract=contract(), epoch={"max_rows": 1})
    with Writer(open_) as writer:
        writer.feed(data + airbyte_state("a", 1))
        first = writer.expect("sealed")
        writer.feed(airbyte_state("b", 1))
        second = writer.expect("sealed")
        writer.close_stdin()
        writer.finish()
        writer.drain()
    assert tally(first) == {"a": (2, 1, 1, 0)} and tally(second) == {"b": (2, 1, 1, 0)}
    assert [r["value"] for r in rows(tmp_path, first, REJECTS)] == ['"x"']
    assert [r["value"] for r in rows(tmp_path, second, REJECTS)] == ['"y"']
    asked = [e["stream"]["name"] for e in writer.of("stream_schema")]
    assert asked == ["a", "b", REJECTS]


def test_streams_sealed_together_share_a_file_of_rejects(tmp_path: Path) -> None:
    names = [f"s{n}" for n in range(20)]
    data = b"".join(line({"id": "x"}, name) for name in names) + airbyte_state(None, 1)
    open_ = opened(tmp_path, *names, contract=contract(), epoch={"max_rows": 1})
    writer = play(open_, data)
    first, last = writer.of("sealed")
    assert len(first["files"]) == 1 and last["files"] == []
    assert [r["stream"] for r in rows(tmp_path, first, REJECTS)] == names


def test_an_epoch_of_rejects_alone_has_a_state_and_no_rows(tmp_path: Path) -> None:
    data = line({"id": "x"}) + airbyte_state("s", 1)
    writer = play(opened(tmp_path, "s", contract=contract()), data)
    (sealed,) = writer.of("sealed")
    assert tally(sealed) == {"s": (1, 0, 1, 0)}
    assert [state["kind"] for state in sealed["states"]] == ["stream"]
    assert [file["stream"]["name"] for file in sealed["files"]] == [REJECTS]


@pytest.mark.parametrize("memory", [64 << 20, 64 << 10])
@pytest.mark.parametrize("values", ["discard_row", "discard_value"])
@pytest.mark.parametrize("behind", [0, 1, 30, 700])
def test_rejects_behind_the_last_state_are_cut_off(
    tmp_path: Path, memory: int, values: str, behind: int
) -> None:
    """They wait in memory or lie in files of their own, as the writer's memory has it."""
    names = ("a", "b")

    def some(first: int, count: int) -> bytes:
        return b"".join(
            line({"id": n, "text": n if n % 3 == 0 else "t"}, name)
            for n in range(first, first + count)
            for name in names
        )

    data = some(0, 500) + airbyte_state("a", 1) + airbyte_state("b", 1) + some(500, behind)
    open_ = opened(
        tmp_path, *names, contract=contract(values, 10_000), limits={"memory_bytes": memory}
    )
    writer = play(open_, data, rest="checkpoint")
    assert writer.of("error") == []
    (sealed,) = writer.of("sealed")
    bad = [n for n in range(500) if n % 3 == 0]
    good = [n for n in range(500) if values == "discard_value" or n % 3]
    for name in names:
        assert [row["id"] for row in rows(tmp_path, sealed, name)] == good
    kept = rows(tmp_path, sealed, REJECTS)
    for name in names:
        assert [int(r["value"]) for r in kept if r["stream"] == name] == bad
    lost = (len(bad), 0) if values == "discard_row" else (0, len(bad))
    assert tally(sealed) == dict.fromkeys(names, (500, len(good), *lost))
    assert sealed["complete"] is (behind == 0)
    files = [file for file in sealed["files"] if file["stream"]["name"] == REJECTS]
    assert (len(files) > 2) == (memory < 1 << 20)
    left(tmp_path, sealed)


def test_a_flood_of_rejects_takes_little_memory(tmp_path: Path) -> None:
    chunk = line({"id": "x" * 150, "text": "y" * 300}) * 2000
    open_ = opened(tmp_path, "s", contract=contract(most=1 << 40, text=True))
    with Writer(open_) as writer:
        writer.feed_all(iter([chunk] * 50))
        writer.finish()
        writer.drain()
    (sealed,) = writer.of("sealed")
    assert tally(sealed) == {"s": (100_000, 0, 100_000, 0)}
    assert sum(f["rows"] for f in writer.files(REJECTS)) == 100_000
    assert writer.peak_bytes < 64 << 20


# --- names


@pytest.mark.parametrize("dialect", ["airbyte", "singer"])
def test_no_source_has_a_stream_of_the_name_of_rejects(tmp_path: Path, dialect: str) -> None:
    writer = play(opened(tmp_path, "s", REJECTS, dialect=dialect))
    error = writer.error()
    assert (writer.status, error["code"]) == (7, "message.reserved_stream")
    assert error["stream"] == {"namespace": None, "name": REJECTS}


def test_no_stream_declares_itself_by_that_name(tmp_path: Path) -> None:
    data = singer("SCHEMA", stream=REJECTS, schema=SCHEMA, key_properties=[])
    writer = play(opening("singer", tmp_path, [], undeclared="accept"), data)
    error = writer.error()
    assert (error["code"], error["line"]) == ("message.reserved_stream", 1)


def test_a_stream_that_declares_itself_hears_of_its_contract_with_its_plan(tmp_path: Path) -> None:
    def plan(schema: Event) -> Event:
        told = {"contract": contract(most=1)} if schema["stream"]["name"] == "s" else {}
        return {**plan_for(schema), **told}

    data = b"".join(
        singer("SCHEMA", stream=name, schema=SCHEMA, key_properties=[])
        + singer("RECORD", stream=name, record={"id": 1})
        for name in ("s", "t")
    )
    bad = singer("RECORD", stream="s", record={"id": "x"})
    with Writer(opening("singer", tmp_path, [], undeclared="accept"), plan=plan) as writer:
        writer.feed_all(iter([data, bad, bad.replace(b'"s"', b'"t"')]))
        writer.finish()
        writer.drain()
    assert (writer.error()["stream"]["name"], writer.error()["line"]) == ("t", 6)


def test_a_plan_that_does_not_hold_the_rejects_is_refused(tmp_path: Path) -> None:
    def plan(schema: Event) -> Event:
        planned = plan_for(schema)
        if schema["stream"]["name"] == REJECTS:
            planned["columns"] = [c for c in planned["columns"] if c["property"] != "text"]
        return planned

    with Writer(opened(tmp_path, "s", contract=contract()), plan=plan) as writer:
        writer.feed_all(iter([line({"id": "x"})]))
        writer.finish()
        writer.drain()
    error = writer.error()
    assert (error["code"], error["field"], writer.status) == ("internal.plan", "text", 1)


def test_without_a_contract_nothing_is_discarded(tmp_path: Path) -> None:
    writer = play(opened(tmp_path, "s"), line({"id": 1}), line({"id": "x"}))
    error = writer.error()
    assert (writer.status, error["code"], error.get("hint")) == (7, "record.value", None)
    (none,) = [writer.of("sealed")]
    assert none == []
    assert counts({"counts": []}) == {}
