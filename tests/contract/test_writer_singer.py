"""Singer as taps and suites speak it: streams that declare themselves, versions, echoed states, strict mode."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.conformance.environments import kept
from tests.contract.test_writer_checkpoint import SCHEMA as ROW_SCHEMA
from tests.contract.test_writer_checkpoint import (
    airbyte_rows,
    airbyte_state,
    ids,
    singer,
    singer_rows,
    singer_schema,
)
from tests.contract.writer_kernel import Event, Writer, opening, plan_for, play, stream


def accept(staging: Path, **more: Any) -> Event:
    return opening("singer", staging, [], undeclared="accept", **more)


def tables(staging: Path, writer: Writer) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each stream, nulls left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    for sealed in writer.of("sealed"):
        for file in sealed["files"]:
            rows = pq.read_table(staging / file["path"]).to_pylist()
            found.setdefault(file["stream"]["name"], []).extend(map(without_nulls, rows))
    return found


def without_nulls(value: Any) -> Any:
    """Return an object without its members that are null, at every depth."""
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


# --- streams that declare themselves


def test_a_schema_declares_its_stream(tmp_path: Path) -> None:
    data = singer("STATE", value={}) + b"".join(
        singer_schema(name) + singer_rows(n, 2, name) for n, name in enumerate(["b", "a", "ü"])
    )
    writer = play(accept(tmp_path), data)
    assert (writer.status, writer.of("error")) == (0, [])
    assert [e["stream"]["name"] for e in writer.of("stream_schema")] == ["b", "a", "ü"]
    assert tables(tmp_path, writer) == {
        "b": [{"id": 0}, {"id": 1}],
        "a": [{"id": 1}, {"id": 2}],
        "ü": [{"id": 2}, {"id": 3}],
    }


@pytest.mark.parametrize(
    ("lines", "code", "more"),
    [
        (singer_rows(0, 1), "message.record_before_schema", {"stream": {"namespace": None, "name": "s"}}),
        (singer_schema("a") + singer_rows(0, 1, "b"), "message.record_before_schema", {"line": 2}),
        (singer("ACTIVATE_VERSION", stream="s", version=1) + singer_rows(0, 1), "message.record_before_schema", {"line": 2}),
        (singer_schema(""), "message.invalid", {}),
        (singer_schema("x" * 1025), "message.invalid", {}),
        (singer("ACTIVATE_VERSION", stream="x" * 1025, version=1), "message.invalid", {}),
        (b"".join(singer_schema(f"s{n}") for n in range(4)), "limit.streams", {"line": 4}),
        (b"".join(singer("ACTIVATE_VERSION", stream=f"s{n}", version=1) for n in range(4)), "limit.streams", {"line": 4}),
    ],
)  # fmt: skip
def test_what_cannot_be_declared(
    tmp_path: Path, lines: bytes, code: str, more: dict[str, Any]
) -> None:
    writer = play(accept(tmp_path, limits={"max_streams": 3}), lines)
    error = writer.error()
    assert (error["code"], error["blame"]) == (code, "plugin")
    assert error.items() >= more.items()
    assert len(error.get("stream", {"name": ""})["name"]) <= 200
    assert writer.status == (6 if code.startswith("limit.") else 7)


def test_a_name_of_a_thousand_bytes_passes(tmp_path: Path) -> None:
    name = "é" * 512
    writer = play(accept(tmp_path), singer_schema(name) + singer_rows(0, 1, name))
    assert tables(tmp_path, writer) == {name: [{"id": 0}]}


def test_an_airbyte_source_declares_nothing(tmp_path: Path) -> None:
    writer = Writer(opening("airbyte", tmp_path, [stream("s", ROW_SCHEMA)], undeclared="accept"))
    with writer:
        writer.drain()
    assert (writer.error()["code"], writer.status) == ("internal.control", 1)


def test_columns_that_the_plan_leaves_out_are_dropped(tmp_path: Path) -> None:
    """Whatever the source sends in them, keys too."""

    def plan(schema: Event) -> Event:
        answer = plan_for(schema)
        kept = [column for column in answer["columns"] if column["property"] == "text"]
        return answer | {"columns": kept}

    with Writer(accept(tmp_path), plan=plan) as writer:
        writer.feed(singer_schema() + singer("RECORD", stream="s", record={"id": "secret"}))
        writer.feed(singer("RECORD", stream="s", record={"id": 1, "text": "x"}))
        writer.close_stdin()
        writer.finish()
        writer.drain()
    assert writer.of("error") == []
    (file,) = writer.files("s")
    table = pq.read_table(tmp_path / file["path"])
    assert (table.column_names, table["text"].to_pylist()) == (["text"], [None, "x"])


def test_a_thousand_streams_of_their_own(tmp_path: Path) -> None:
    names = [f"s{n}" for n in range(1000)]
    data = b"".join(singer_schema(name) + singer_rows(0, 1, name) for name in names)
    writer = play(accept(tmp_path), data)
    assert {name: len(rows) for name, rows in tables(tmp_path, writer).items()} == dict.fromkeys(
        names, 1
    )


# --- versions


def test_a_file_holds_rows_of_one_version(tmp_path: Path) -> None:
    data = (
        singer("ACTIVATE_VERSION", stream="s", version=1)
        + singer_schema()
        + singer_rows(0, 2, version=1)
        + singer_schema("t")
        + singer_rows(0, 1, "t")
        + singer_rows(2, 2, version=1)
        + singer_rows(4, 1, version=2)
        + singer_rows(5, 1)
        + singer_rows(6, 1, version=None)
        + b'{"version":3,"type":"RECORD","record":{"id":7},"stream":"s"}\n'
        + singer("ACTIVATE_VERSION", stream="s", version=2)
        + singer("ACTIVATE_VERSION", stream="s", version=3)
        + singer("ACTIVATE_VERSION", stream="unheard of", version=3)
    )
    (sealed,) = play(accept(tmp_path), data).of("sealed")
    assert ids(tmp_path, sealed) == list(range(8))
    versions = {"s": [], "t": []}  # type: dict[str, list[tuple[int | None, int]]]
    for file in sealed["files"]:
        versions[file["stream"]["name"]].append((file["version"], file["rows"]))
    assert versions == {"s": [(1, 4), (2, 1), (None, 2), (3, 1)], "t": [(None, 1)]}
    assert sealed["activations"] == [{"stream": {"namespace": None, "name": "s"}, "version": 3}]


def test_activations_wait_for_the_last_epoch(tmp_path: Path) -> None:
    data = (
        singer_schema()
        + singer("ACTIVATE_VERSION", stream="s", version=9)
        + singer_rows(0, 2, version=9)
        + singer("STATE", value=1)
        + singer_rows(2, 1, version=9)
    )
    first, last = play(accept(tmp_path, epoch={"max_rows": 2}), data).of("sealed")
    assert (first["activations"], [a["version"] for a in last["activations"]]) == ([], [9])
    assert [file["version"] for one in (first, last) for file in one["files"]] == [9, 9]


def test_a_shortened_file_keeps_its_version(tmp_path: Path) -> None:
    data = singer_schema() + singer_rows(0, 9000, version=5) + singer("STATE", value=1)
    data += singer_rows(9000, 10_000, version=5) + singer_rows(19_000, 1, version=6)
    (sealed,) = play(accept(tmp_path), data, rest="checkpoint").of("sealed")
    assert [(file["version"], file["rows"]) for file in sealed["files"]] == [(5, 9000)]


# --- echo


def test_every_state_is_echoed_once_it_is_durable(tmp_path: Path) -> None:
    states = ['{"n": 0}', "1.50", '"é\\u00e9"', "{}", '{"n": 0}']
    lines = [f'{{"type":"STATE","value":{text}}}\n'.encode() for text in states]
    data = lines[0] + singer_schema() + singer_rows(0, 3) + lines[1] + singer_rows(3, 1)
    data += lines[2] + lines[3] + singer_rows(4, 1) + lines[4] + singer_rows(5, 1)
    writer = play(accept(tmp_path, echo=True, epoch={"max_rows": 3}), data, rest="checkpoint")
    sealed = writer.of("sealed")
    assert [[(e["number"], e["text"]) for e in one["echo"]] for one in sealed] == [
        [(1, states[0]), (2, states[1])],
        [(3, states[2]), (4, states[3]), (5, states[4])],
    ]
    assert [one["states"][-1]["text"] for one in sealed] == [states[1], states[4]]


def test_echoes_of_open_streams_stay_open(tmp_path: Path) -> None:
    data = (
        airbyte_rows(0, 5, "a")
        + airbyte_rows(0, 1, "b")
        + airbyte_state("b", 1)
        + airbyte_rows(1, 1, "b")
        + airbyte_state("a", 5)
        + airbyte_state("b", 2)
    )
    streams = [stream("a", ROW_SCHEMA), stream("b", ROW_SCHEMA)]
    open_ = opening("airbyte", tmp_path, streams, echo=True, epoch={"max_rows": 5})
    sealed = play(open_, data).of("sealed")
    assert [[e["number"] for e in one["echo"]] for one in sealed] == [[2], [1, 3]]
    assert json.loads(sealed[0]["echo"][0]["text"])["stream"]["stream_state"] == {"n": 5}


def test_nothing_is_echoed_unless_asked_for(tmp_path: Path) -> None:
    (sealed,) = play(accept(tmp_path), singer("STATE", value=1)).of("sealed")
    assert (sealed["echo"], len(sealed["states"])) == ([], 1)


def test_an_epoch_is_cut_before_its_echo_fills_a_message(tmp_path: Path) -> None:
    """Quotes take two bytes in a message: the largest that are allowed must fit."""
    value = '"' * 200_000
    data = singer_schema() + singer_rows(0, 1)
    writer = play(accept(tmp_path, echo=True), data, *[singer("STATE", value=value)] * 40)
    assert writer.of("error") == []
    sealed = writer.of("sealed")
    assert len(sealed) > 5
    assert [e["number"] for one in sealed for e in one["echo"]] == list(range(1, 41))
    assert max(len(json.dumps(one)) for one in sealed) < 6 << 20


@pytest.mark.parametrize("head", [b"", singer_schema()])
def test_many_small_states_are_cut_too(tmp_path: Path, head: bytes) -> None:
    writer = play(accept(tmp_path, echo=True), head + singer("STATE", value=1) * 100_000)
    sealed = writer.of("sealed")
    assert len(sealed) > 1
    assert sum(len(one["echo"]) for one in sealed) == 100_000


def test_states_that_no_cut_can_take_are_bounded(tmp_path: Path) -> None:
    """A state of the whole source, a row past it, then states of one stream for ever."""
    data = airbyte_state(None, 1) + airbyte_rows(0, 1, "a")
    big = json.dumps(
        {
            "type": "STATE",
            "state": {
                "type": "STREAM",
                "stream": {"stream_descriptor": {"name": "b"}, "stream_state": "x" * 1_000_000},
            },
        }
    ).encode()
    streams = [stream("a", ROW_SCHEMA), stream("b", ROW_SCHEMA)]
    writer = play(opening("airbyte", tmp_path, streams, echo=True), data, *[big + b"\n"] * 10)
    assert (writer.error()["code"], writer.error()["line"], writer.status) == (
        "limit.state_bytes",
        8,
        6,
    )


# --- tolerant and strict

GOOD = singer_schema() + singer_rows(0, 1)
ODDITIES = [
    (b"\n", "blank_line", "framing.blank_line"),
    (b"  \t\n", "blank_line", "framing.blank_line"),
    (b"plain text\n", "text_line", "framing.text_line"),
    (b'{"type":"STATE","value":1}\r\n', "crlf", "framing.crlf"),
    (b'{"type":"RECORD","stream":"s","record":{"id":1,"x":NaN}}\n', "nan", "json.nan"),
    (b'{"type":"RECORD","stream":"s","record":{"id":1,"text":"a\\u0000"}}\n', "nul", "json.nul"),
    (b'{"type":"RECORD","stream":"s","record":{"id":1,"id":2}}\n', "duplicate_key", "json.duplicate_key"),
    (b'{"type":"RECORD","stream":"s","record":{"id":1,"x":"\\ud800"}}\n', "lone_surrogate", "json.lone_surrogate"),
    (b'{"type":"HELLO","x":1}\n', "unknown_type", "message.unknown_type"),
    (b'{"type":"Record","stream":"s","record":{"id":1}}\n', "type_case", "message.type_case"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "name", "code"), ODDITIES)
def test_oddities_are_counted_or_refused(tmp_path: Path, line: bytes, name: str, code: str) -> None:
    for strict in (False, True):
        folder = tmp_path / str(strict)
        folder.mkdir()
        writer = play(accept(folder, strict=strict), GOOD + line * 3)
        if strict:
            error = writer.error()
            assert (error["code"], error["line"], writer.status) == (code, 3, 7)
            assert error["byte"] == len(GOOD)
        else:
            assert (writer.status, writer.of("error")) == (0, [])
            assert writer.of("stats")[-1]["oddities"] == {name: 3}


def test_a_byte_order_mark(tmp_path: Path) -> None:
    bom = "\ufeff".encode()
    assert play(accept(tmp_path), bom + GOOD).of("stats")[-1]["oddities"] == {"bom": 1}
    assert play(accept(tmp_path, strict=True), bom + GOOD).error()["code"] == "framing.bom"


def test_a_source_as_it_should_be_passes_strictly(tmp_path: Path) -> None:
    data = singer("STATE", value={}) + GOOD + singer("ACTIVATE_VERSION", stream="s", version=1)
    writer = play(accept(tmp_path, strict=True), data + singer("STATE", value=1))
    assert (writer.status, writer.of("stats")[-1]["oddities"]) == (0, {})


def test_waiting_is_told_in_all(tmp_path: Path) -> None:
    with Writer(accept(tmp_path)) as writer:
        waited = 0.0
        for _ in range(3):
            stats = writer.expect("stats")
            writer.feed(singer("STATE", value=1))
            assert stats["waited_s"] >= max(waited, stats["idle_s"])
            waited = stats["waited_s"]
        assert waited > 1.0
        writer.close_stdin()
        writer.finish()
        writer.drain()
        assert writer.of("stats")[-1]["waited_s"] >= waited


# --- the streams of singer-sdk's target suite


@pytest.fixture(scope="session")
def sdk(pytestconfig: pytest.Config) -> Callable[[str], bytes]:
    """What gives one of the suite's inputs; they are not ours to keep a copy of."""
    folder = kept("singer-sdk", pytestconfig).folder
    (streams,) = folder.glob("lib/python*/site-packages/singer_sdk/testing/target_test_streams")
    return lambda name: (streams / f"{name}.singer").read_bytes()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("invalid_schema", "schema.invalid"),
        ("record_before_schema", "message.record_before_schema"),
        ("record_missing_key_property", "record.missing_key"),
    ],
)
def test_what_the_sdks_suite_wants_refused(
    tmp_path: Path, name: str, code: str, sdk: Callable[[str], bytes]
) -> None:
    writer = play(accept(tmp_path), sdk(name))
    assert (writer.error()["code"], writer.error()["blame"], writer.status) == (code, "plugin", 7)


def _as_rows(data: bytes) -> dict[str, list[dict[str, Any]]]:
    """Return the records of a stream file as the writer keeps them, without nulls."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for line in data.splitlines():
        message = json.loads(line)
        if message["type"] == "RECORD":
            rows.setdefault(message["stream"], []).append(without_nulls(message["record"]))
    return rows


@pytest.mark.parametrize(
    "name",
    [
        "array_data", "camelcase", "camelcase_complex_schema", "duplicate_records", "encoded_string_data",
        "multiple_state_messages", "no_primary_keys", "no_primary_keys_append", "optional_attributes", "pk_updates",
        "record_missing_fields", "record_missing_required_property", "schema_no_properties", "schema_updates",
        "special_chars_in_attributes", "user_location_data", "user_location_upsert_data",
    ],
)  # fmt: skip
def test_what_the_sdks_suite_wants_taken(
    tmp_path: Path, name: str, sdk: Callable[[str], bytes]
) -> None:
    data = sdk(name)
    writer = play(accept(tmp_path, echo=True), data)
    assert (writer.status, writer.of("error")) == (0, [])
    nested = {
        (event["stream"]["name"], column["property"])
        for event in writer.of("stream_schema")
        for column in event["columns"]
        if column["type"] == "json"
    }
    found = tables(tmp_path, writer)
    for stream_name, rows in found.items():
        for row in rows:
            for key in row:
                if (stream_name, key) in nested:
                    row[key] = json.loads(row[key])
                elif hasattr(row[key], "isoformat"):
                    row[key] = row[key].isoformat()
    expected = _as_rows(data)
    assert {n: [sorted(r) for r in rows] for n, rows in found.items()} == {
        n: [sorted(r) for r in rows] for n, rows in expected.items()
    }
    if name not in {
        "user_location_data",
        "user_location_upsert_data",
        "camelcase",
    }:  # times change their form
        assert found == expected
    states = [json.loads(line) for line in data.splitlines() if b'"STATE"' in line]
    echoed = [json.loads(e["text"]) for one in writer.of("sealed") for e in one["echo"]]
    assert echoed == [state["value"] for state in states]
    (last,) = writer.of("sealed")
    assert [json.loads(s["text"]) for s in last["states"]] == [s["value"] for s in states[-1:]]


def test_a_datetime_or_any_text_is_text(tmp_path: Path, sdk: Callable[[str], bytes]) -> None:
    writer = play(accept(tmp_path), sdk("camelcase_complex_schema"))
    first, second = writer.of("stream_schema")
    kinds = {c["property"]: c["type"] for c in first["columns"]}
    assert kinds["CreatedDate"] == "string"
    assert [len(first["columns"]), len(second["columns"]), second["revision"]] == [12, 15, 2]


def test_columns_come_step_by_step(tmp_path: Path, sdk: Callable[[str], bytes]) -> None:
    writer = play(accept(tmp_path), sdk("schema_updates"))
    assert [len(e["columns"]) for e in writer.of("stream_schema")] == [3, 4, 6, 7]
    assert [(f["revision"], f["rows"]) for f in writer.files("test_schema_updates")] == [
        (1, 1), (2, 1), (3, 2), (4, 2),
    ]  # fmt: skip


def test_a_checkpoint_of_states_in_between(tmp_path: Path, sdk: Callable[[str], bytes]) -> None:
    """Both streams end at the last state, which speaks for both: a6 came behind it."""
    writer = play(accept(tmp_path, echo=True), sdk("multiple_state_messages"), rest="checkpoint")
    rows = tables(tmp_path, writer)
    assert [row["id"] for row in rows["test_multiple_state_messages_a"]] == [1, 2, 3, 4, 5]
    assert [row["id"] for row in rows["test_multiple_state_messages_b"]] == [1, 2, 3, 4, 5, 6]


def test_what_was_not_chosen_is_not_written(tmp_path: Path) -> None:
    schema = {"properties": {"id": {"type": "integer"}, "ssn": {"type": "string"}, "o": {}}}
    asked = accept(tmp_path) | {
        "deselected": [
            {"stream": {"namespace": None, "name": "a"}, "properties": ["ssn", "unknown"]},
            {"stream": {"namespace": None, "name": "b"}, "properties": ["id"]},
        ]
    }
    lines = [
        singer("SCHEMA", stream="a", schema=schema, key_properties=["id"]),
        singer("RECORD", stream="a", record={"ssn": "078-05-1120", "id": 1, "o": None}),
        singer("RECORD", stream="a", record={"ssn": 7, "id": 2}),
    ]
    writer = play(asked, *lines)
    assert (writer.status, writer.of("error")) == (0, [])
    (told,) = writer.of("stream_schema")
    assert [column["property"] for column in told["columns"]] == ["id", "o"]
    assert tables(tmp_path, writer) == {"a": [{"id": 1}, {"id": 2}]}
