"""dativo-source-files: what it infers, that lines and batches make the same tables, and where it goes on."""

from __future__ import annotations

import csv
import json
import math
import random
import subprocess
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.contract.files_source import (
    arguments,
    config,
    discovered,
    land,
    read,
    schema_of,
    touch,
    verb,
)

TEXTS = ["plain", 'quo"te', "a,b;c", "two\nlines", "é漢🎉", " spaces ", "NULL", "\\", "x" * 3000]
MONEY = {"type": ["null", "number"], "format": "x-singer.decimal", "precision": 12, "scale": 2}


def row(rng: random.Random, index: int) -> dict[str, Any]:
    """A row of every type that a CSV file can have; about a sixth of its values are missing."""
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(10**9), microseconds=7)
    values: dict[str, Any] = {
        "flag": rng.random() < 0.5,
        "count": rng.choice([0, -1, 2**63 - 1, -(2**63), rng.randrange(10**6)]),
        "ratio": rng.choice([0.1, -2.5e-7, 1e300, rng.random()]),
        "money": Decimal(rng.randrange(-(10**11), 10**11)).scaleb(-2),
        "day": at.date(),
        "clock": time(rng.randrange(24), 5, 6, rng.choice([0, 123456])),
        "moment": at,
        "local": at.replace(tzinfo=None),
        "text": rng.choice(TEXTS),
    }
    return {"id": index, **{k: None if rng.random() < 1 / 6 else v for k, v in values.items()}}


def text_of(value: Any) -> str:
    """Write a value as a CSV file does."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, date | time | datetime):
        return value.isoformat()
    return str(value)


ARROW = pa.schema(
    [
        ("id", pa.int64()),
        ("flag", pa.bool_()),
        ("count", pa.int64()),
        ("ratio", pa.float64()),
        ("money", pa.decimal128(12, 2)),
        ("day", pa.date32()),
        ("clock", pa.time64("us")),
        ("moment", pa.timestamp("us", tz="UTC")),
        ("local", pa.timestamp("us")),
        ("text", pa.string()),
    ]
)


def write_csv(path: Path, rows: list[dict[str, Any]], **options: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, **options)
        writer.writerow(ARROW.names)
        writer.writerows([text_of(row[name]) for name in ARROW.names] for row in rows)


@pytest.mark.parametrize("seed", range(3))
def test_lines_and_batches_make_the_same_tables(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    rows = [row(rng, index) for index in range(rng.randrange(1, 3000))]
    table = pa.Table.from_pylist(rows, ARROW)
    write_csv(tmp_path / "rows.csv", rows)
    pq.write_table(
        table,
        tmp_path / "rows.parquet",
        row_group_size=500,
        compression=["snappy", "gzip", "zstd"][seed],
    )
    with (tmp_path / "rows.jsonl").open("w") as lines:
        for each in rows:
            lines.write(
                json.dumps({k: v for k, v in each.items() if k in ("id", "text", "ratio")}) + "\n"
            )
    files = config(
        tmp_path,
        {"name": "c", "path": f"{tmp_path}/*.csv", "format": "csv", "schema": {"money": MONEY}, "key": ["id"]},
        {"name": "p", "path": f"{tmp_path}/*.parquet", "format": "parquet"},
        {"name": "j", "path": f"{tmp_path}/*.jsonl", "format": "jsonl"},
    )  # fmt: skip
    streams = discovered(files)
    lined, by_lines = land(tmp_path, files, streams, batches=False)
    batched, by_batches = land(tmp_path, files, streams, batches=True)
    # The empty text of a CSV file is null: there is no other way to say it without quotes.
    for name in ("c", "p"):
        assert by_lines[name].cast(ARROW).equals(table), name
        assert by_batches[name].cast(ARROW).equals(table), name
    wanted = table.select(["id", "text", "ratio"])
    assert by_batches["j"].select(wanted.column_names).cast(wanted.schema).equals(wanted)
    assert by_batches["j"].equals(by_lines["j"])
    counts = [event["counts"] for event in batched.of("sealed")]
    assert counts == [event["counts"] for event in lined.of("sealed")]
    # Its lines say that the one came in batches and the other did not.
    assert batched.of("stats")[-1]["lines"] < lined.of("stats")[-1]["lines"]


def test_nested_rows_go_as_lines_whatever_the_reader_takes(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "tags": ["a", None], "owner": {"name": "x", "since": date(2026, 1, 2)}, "by": [("k", 1.5)]},
        {"id": 2, "tags": None, "owner": None, "by": []},
    ]  # fmt: skip
    schema = pa.schema(
        [
            ("id", pa.int32()),
            ("tags", pa.list_(pa.string())),
            ("owner", pa.struct([("name", pa.string()), ("since", pa.date32())])),
            ("by", pa.map_(pa.string(), pa.float64())),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "n.parquet")
    files = config(tmp_path, {"name": "n", "path": f"{tmp_path}/n.parquet", "format": "parquet"})
    streams = discovered(files)
    _, tables = land(tmp_path, files, streams, batches=True)
    assert tables["n"].to_pylist() == rows


def test_numbers_keep_their_digits_where_lines_carry_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n\n0.12345678901234567890\n1.10\n")
    files = config(tmp_path, {"name": "a", "path": f"{tmp_path}/a.csv", "format": "csv"})
    argv = arguments(tmp_path, files, discovered(files), [])
    done = subprocess.run(argv, env={}, check=True, capture_output=True, text=True)
    assert '"data":{"n":0.12345678901234567890}' in done.stdout
    assert '"data":{"n":1.10}' in done.stdout


def test_types_are_inferred(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,at,code,none\n1,2026-01-01T00:00:00Z,007,\n2,,010,\n")
    (tmp_path / "b.csv").write_text("id,more\n2.5,true\n")
    files = config(
        tmp_path,
        {"name": "c", "path": f"{tmp_path}/*.csv", "format": "csv", "key": ["id"]},
        {"name": "o", "path": f"{tmp_path}/*.csv", "format": "csv", "schema": {"code": {"type": "integer"}}},
    )  # fmt: skip
    streams = discovered(files)
    assert streams[0]["source_defined_primary_key"] == [["id"]]
    properties = schema_of(streams, "c")
    assert list(properties) == ["id", "at", "code", "none", "more"]
    assert properties["id"] == {"type": ["null", "number"]}
    assert properties["at"]["airbyte_type"] == "timestamp_with_timezone"
    assert properties["code"] == properties["none"] == {"type": ["null", "string"]}
    assert properties["more"] == {"type": ["null", "boolean"]}
    assert schema_of(streams, "o")["code"] == {"type": "integer"}


def records(messages: list[dict[str, Any]]) -> list[Any]:
    return [message["record"]["data"] for message in messages if message["type"] == "RECORD"]


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    data = tmp_path / "in"
    data.mkdir()
    for name in ("2", "1"):
        (data / f"{name}.csv").write_text(f"id\n{name}\n")
    files = config(tmp_path, {"name": "s", "path": f"{data}/*.csv", "format": "csv"})
    streams = discovered(files)
    first, states = read(tmp_path, files, streams)
    assert records(first) == [{"id": 1}, {"id": 2}]

    again, same = read(tmp_path, files, streams, states)
    assert records(again) == [] and same == []

    (data / "3.csv").write_text("id\n3\n")
    with (data / "1.csv").open("a") as file:
        file.write("11\n")
    touch(data / "2.csv", 1_000_000_000)
    third, states = read(tmp_path, files, streams, states)
    assert records(third) == [{"id": 11}, {"id": 3}]

    (data / "2.csv").write_text("id\n22\n")
    fourth, states = read(tmp_path, files, streams, states)
    assert records(fourth) == [{"id": 22}]
    warnings = [m["log"]["message"] for m in fourth if m["type"] == "LOG"]
    assert warnings == [f"{data}/2.csv has changed and is read anew"]
    assert read(tmp_path, files, streams, states)[1] == []


def test_a_state_inside_a_large_file_is_gone_on_from(tmp_path: Path) -> None:
    """Every state of a read is one that the next may begin with: what comes behind it is exactly the rest."""
    count = 100_000
    text = "id,filler\n" + "".join(f"{i},{'x' * 900}\n" for i in range(count))
    (tmp_path / "big.csv").write_text(text)
    files = config(tmp_path, {"name": "s", "path": f"{tmp_path}/big.csv", "format": "csv"})
    streams = discovered(files)
    argv = arguments(tmp_path, files, streams, [])
    rows, resumed = 0, []
    with subprocess.Popen(argv, env={}, stdout=subprocess.PIPE) as source:
        assert source.stdout is not None
        for line in source.stdout:
            if line.startswith(b'{"type":"RECORD"'):
                rows += 1
            elif line.startswith(b'{"type":"STATE"'):
                resumed.append((rows, json.loads(line)["state"]))
    assert rows == count and len(resumed) == 2
    before, state = resumed[0]
    assert 0 < before < count
    rest, _ = read(tmp_path, files, streams, [state])
    ids = [data["id"] for data in records(rest)]
    assert ids == list(range(before, count))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "id\n1\nx\n", "a.csv: record 2 at byte 5: column \"id\": expected a 64-bit integer, not \"x\""),
        ("a.csv", "id\n1,2\n", "a.csv: record 1 at byte 3: 2 fields, its header has 1"),
        ("a.jsonl", '{"id":1}\n{"id":1}},"stream":"t"\n', "a.jsonl: record 2 at byte 17"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_with_its_place(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(
        text.splitlines(keepends=True)[0] + ("1\n" if name == "a.csv" else "")
    )
    files = config(
        tmp_path, {"name": "s", "path": f"{tmp_path}/{name}", "format": name.partition(".")[2]}
    )
    streams = discovered(files)
    (tmp_path / name).write_text(text)
    argv = arguments(tmp_path, files, streams, [])
    done = subprocess.run(argv, env={}, capture_output=True, text=True)
    assert done.returncode == 1
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["trace"]["type"] == "ERROR"
    assert said in last["trace"]["error"]["message"]
    assert last["trace"]["error"]["message"] in done.stderr


def test_spec_and_check(tmp_path: Path) -> None:
    [spec] = verb("spec")
    assert spec["spec"]["connectionSpecification"]["required"] == ["streams"]
    (tmp_path / "a.csv").write_text("id\n1\n")
    good = config(tmp_path, {"name": "s", "path": f"{tmp_path}/a.csv", "format": "csv"})
    [status] = verb("check", "--config", str(good))
    assert status["connectionStatus"] == {"status": "SUCCEEDED"}
    for path, said in [
        (f"{tmp_path}/none/*.csv", "source.grants.read must hold it"),
        (f"{tmp_path}/*.tsv", "no file fits"),
        ("data/*.csv", "${JOB_DIR}"),
    ]:
        bad = config(tmp_path, {"name": "s", "path": path, "format": "csv"})
        [status] = verb("check", "--config", str(bad))
        assert status["connectionStatus"]["status"] == "FAILED"
        assert said in status["connectionStatus"]["message"]


def test_rows_that_are_too_large_for_one_batch(tmp_path: Path) -> None:
    """A batch has at most 16 MiB: more rows are more of them, and one such row is a line."""
    texts = ["x" * 17_000_000, "short", *["y" * 9_000] * 6_000]
    (tmp_path / "big.csv").write_text("text\n" + "".join(f"{text}\n" for text in texts))
    pq.write_table(pa.table({"text": texts[1:]}), tmp_path / "big.parquet")
    files = config(
        tmp_path,
        {"name": "c", "path": f"{tmp_path}/big.csv", "format": "csv"},
        {"name": "p", "path": f"{tmp_path}/big.parquet", "format": "parquet"},
    )
    _, tables = land(tmp_path, files, discovered(files), batches=True)
    assert tables["c"]["text"].to_pylist() == texts
    assert tables["p"]["text"].to_pylist() == texts[1:]


def test_special_doubles_of_parquet(tmp_path: Path) -> None:
    table = pa.table({"x": [math.nan, math.inf, -math.inf, 0.0]})
    pq.write_table(table, tmp_path / "x.parquet")
    files = config(tmp_path, {"name": "x", "path": f"{tmp_path}/x.parquet", "format": "parquet"})
    streams = discovered(files)
    for batches in (False, True):
        _, found = land(tmp_path, files, streams, batches=batches)
        assert str(found["x"]["x"].to_pylist()) == "[nan, inf, -inf, 0.0]"
