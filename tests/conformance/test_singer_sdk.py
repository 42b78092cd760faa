"""singer-sdk's target suite over both targets, and every stream of it read back."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.conformance import readback
from tests.conformance.environments import Environment
from tests.conformance.pipes import Target

SUITE = Path(__file__).parent / "singer_sdk_suite.py"
REFUSED = ("invalid_schema", "record_before_schema", "record_missing_key_property")
STORED = (
    "array_data",
    "camelcase",
    "camelcase_complex_schema",
    "duplicate_records",
    "encoded_string_data",
    "multiple_state_messages",
    "no_primary_keys",
    "optional_attributes",
    "pk_updates",
    "record_missing_fields",
    "schema_no_properties",
    "schema_updates",
    "special_chars_in_attributes",
)
# The SDK wants the states that follow from flushing every third row of a stream; ours come from a commit at the first state and
# at the first state after every fourth row.
SETTINGS = {"epoch": {"rows": 4}}


def streams(environment: Environment) -> Path:
    [folder] = environment.folder.glob("lib/python*/site-packages/singer_sdk/testing")
    return folder / "target_test_streams"


def records(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Read a file of messages by json alone; a declared stream without rows has none."""
    sent: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        message = json.loads(line, parse_float=Decimal)
        if message["type"] == "SCHEMA":
            sent[message["stream"]] += []
        if message["type"] == "RECORD":
            sent[message["stream"]].append(message["record"])
    return sent


def test_suite_and_read_back(target: Target, singer_sdk: Environment, tmp_path: Path) -> None:
    told = tmp_path / "told.xml"
    command = [str(target.program), "--config", str(target.config(**SETTINGS))]
    run = subprocess.run(
        [singer_sdk.program("python"), "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider",
         "-c", "/dev/null", "--rootdir", tmp_path, SUITE, f"--junit-xml={told}"],
        cwd=target.folder,
        env={**target.environment(), "DATIVO_TARGET": json.dumps(command), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )  # fmt: skip
    assert told.exists(), run.stdout + run.stderr
    cases = ElementTree.parse(told).findall(".//testcase")
    failed = {case.get("name"): case[0].get("message") for case in cases if len(case)}
    assert failed == {}, run.stdout[-8000:]
    names = {"cli_prints", *REFUSED, *STORED}
    assert {case.get("name") for case in cases} == {f"test_target_{name}" for name in names}

    found = readback.tables(target)
    for name in STORED:
        for stream, sent in records(streams(singer_sdk) / f"{name}.singer").items():
            # A stream without a row has a table in Iceberg and no file in Parquet.
            rows = found[None, stream].rows if sent or (None, stream) in found else []
            assert readback.same_rows(rows, sent) == [], stream
    refused = {s for name in REFUSED for s in records(streams(singer_sdk) / f"{name}.singer")}
    assert not any(found[name].rows for name in found if name[1] in refused)


@pytest.mark.parametrize("eof", ["commit", "checkpoint"])
def test_two_loads_of_the_same_streams(parquet: Target, singer_sdk: Environment, eof: str) -> None:
    sent: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name in ("user_location_data", "user_location_upsert_data"):
        path = streams(singer_sdk) / f"{name}.singer"
        for stream, rows in records(path).items():
            sent[stream] += rows
        ended = parquet.load(path.read_bytes(), eof=eof)
        assert ended.status == 0, ended.stderr
        last = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        assert [json.loads(state) for state in ended.states] == [last["value"]]
    for stream, rows in sent.items():
        assert readback.same_rows(readback.rows(parquet, stream), rows) == []
