"""Public corpora through the real writer: JSON that parsers disagree on, naughty strings, and JSON Schema's own test suite."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.contract.writer_kernel import Event, Writer, opening, play, stream

ANYTHING: Event = {"properties": {"v": {}}}
# What the suite calls valid and no column holds: integers of more than 64 bits that the schema does not announce.
TOO_LARGE = {
    "a bignum is an integer",
    "a negative bignum is an integer",
    "valid if optional overflow handling is implemented",
}
SCALARS = ("integer", "number", "string", "boolean")


def corpus(name: str) -> Path:
    folder = os.environ.get("DATIVO_CORPORA")
    if not folder:
        pytest.skip("DATIVO_CORPORA names no folder of corpora")
    return Path(folder) / name


def record(inner: bytes) -> bytes:
    return b'{"type":"RECORD","record":{"stream":"s","data":{"v":' + inner + b'},"emitted_at":1}}\n'


def values(staging: Path, writer: Writer, name: str = "s") -> list[Any]:
    return [
        row["v"]
        for file in writer.files(name)
        for row in pq.read_table(staging / file["path"]).to_pylist()
    ]


def test_every_json_of_the_parsing_suite_is_taken_or_refused(tmp_path: Path) -> None:
    cases = sorted(corpus("json-parsing").rglob("*.json"))
    assert len(cases) > 300
    taken = Counter[str]()
    accepted = []
    for number, case in enumerate(cases):
        inner = case.read_bytes().strip()
        if b"\n" in inner or not inner:
            continue
        if case.name.startswith("y_"):
            accepted.append(inner)
            continue
        staging = tmp_path / str(number)
        staging.mkdir()
        writer = play(
            opening("airbyte", staging, [stream("s", ANYTHING)], limits={"max_depth": 600}),
            record(inner),
        )
        taken[case.name[:2]] += 1
        if case.name.startswith("n_"):
            code = writer.error()["code"]
            assert (writer.status, code.split(".")[0] in ("json", "framing", "record")) == (
                7,
                True,
            ), (
                case.name,
                code,
            )
        else:
            assert writer.status in (0, 7), case.name
    assert taken["n_"] > 150 and taken["i_"] > 20 and len(accepted) > 80
    (tmp_path / "accepted").mkdir()
    entry = [stream("s", ANYTHING)]
    writer = play(opening("airbyte", tmp_path / "accepted", entry), *map(record, accepted))
    assert (writer.status, writer.of("error")) == (0, [])
    kept = [None if inner == b"null" else inner.decode() for inner in accepted]
    assert values(tmp_path / "accepted", writer) == kept


@pytest.mark.parametrize("ascii_only", [True, False])
def test_naughty_strings_are_kept_as_they_are(tmp_path: Path, ascii_only: bool) -> None:
    strings = json.loads(corpus("naughty-strings.json").read_text())
    schema = {
        "properties": {
            "v": {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "list": {"type": "array", "items": {"type": "string"}},
                    "map": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            }
        }
    }
    lines = [
        record(
            json.dumps({"text": s, "list": [s], "map": {s: s}}, ensure_ascii=ascii_only).encode()
        )
        for s in strings
    ]
    writer = play(opening("airbyte", tmp_path, [stream("s", schema)]), *lines)
    assert (writer.status, writer.of("error")) == (0, [])
    assert values(tmp_path, writer) == [{"text": s, "list": [s], "map": [(s, s)]} for s in strings]


def groups() -> Iterator[tuple[str, Event]]:
    for file in sorted(corpus("json-schema-draft7").rglob("*.json")):
        for group in json.loads(file.read_text()):
            yield file.stem, group


def placed(node: Any) -> Any:
    """Return a schema as it is when it stands as the property ``v``: what refers to its root refers there."""
    if isinstance(node, list):
        return [placed(item) for item in node]
    if not isinstance(node, dict):
        return node
    moved = {key: placed(value) for key, value in node.items()}
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = f"#/properties/v{reference[1:]}"
    return moved


def test_what_json_schemas_suite_calls_valid_is_taken(tmp_path: Path) -> None:
    taken, refused, schemas = 0, 0, Counter[str]()
    for number, (name, group) in enumerate(groups()):
        staging = tmp_path / str(number)
        staging.mkdir()
        schema = {"properties": {"v": placed(group["schema"])}}
        entry = stream("s", schema) | {
            "contract": {"values": "discard_row", "max_rejects": 1000, "keep_text": False}
        }
        lines = [record(json.dumps(test["data"]).encode()) for test in group["tests"]]
        writer = play(opening("airbyte", staging, [entry]), *lines)
        if writer.of("error"):
            code = writer.error()["code"]
            schemas[code] += 1
            # Of references to elsewhere nothing is fetched, and draft 7 has a type or two that is none.
            assert code == "schema.invalid", (name, group["description"], writer.error())
            continue
        schemas["taken"] += 1
        bad = {
            row["line"]
            for file in writer.files("_dativo_rejects")
            for row in pq.read_table(staging / file["path"]).to_pylist()
        }
        for line, test in enumerate(group["tests"], 1):
            told = (name, group["description"], test["description"])
            if test["valid"]:
                taken += 1
                assert (line in bad) == (test["description"] in TOO_LARGE), told
            elif name == "type" and group["schema"]["type"] in SCALARS:
                # Null is always taken; docs/spec/validation.md says what else is not checked.
                assert (line in bad) == (test["data"] is not None), told
            refused += line in bad
    assert schemas == {"taken": 299, "schema.invalid": 22}
    assert taken > 900 and refused > 50, (taken, refused)
