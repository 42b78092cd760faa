"""The standalone targets as Airbyte destinations: spec, check, write."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.integration.conftest import Workspace
from tests.integration.standalone_target import (
    Target,
    airbyte_record,
    airbyte_state,
    airbyte_status,
    configured,
    lines,
    messages,
    wait_for,
)

WITHOUT = (sys.executable, "-I", str(Path(__file__).with_name("without.py")))
pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(params=["parquet", "iceberg"])
def target(request: pytest.FixtureRequest, workspace: Workspace) -> Target:
    found = Target(workspace, request.param)
    found.configure()
    return found


@pytest.fixture
def parquet(workspace: Workspace) -> Target:
    found = Target(workspace, "parquet")
    found.configure()
    return found


# --- spec and check --------------------------------------------------------------------------------------------------------


def test_spec_is_one_message_with_a_schema_that_the_configuration_fits(target: Target) -> None:
    result = target.command("spec")
    assert result.status == 0
    [spec] = messages(result, "SPEC")
    assert spec["supported_destination_sync_modes"] == ["append", "overwrite"]
    assert spec["protocol_version"].startswith("0.")
    config = json.loads((target.workspace.folder / "c.json").read_text())
    jsonschema.validate(config, spec["connectionSpecification"])


def check(target: Target) -> dict[str, Any]:
    result = target.command("check", "--config", "c.json", *target.workspace.flags)
    assert result.status == 0, result.stderr
    [said] = [json.loads(line) for line in result.stdout.splitlines()]
    assert said["type"] == "CONNECTION_STATUS"
    status: dict[str, Any] = said["connectionStatus"]
    return status


def test_check_tries_the_target(target: Target) -> None:
    assert check(target) == {"status": "SUCCEEDED"}
    assert check(target) == {"status": "SUCCEEDED"}
    assert not list((target.workspace.lake / "_dativo/staging").iterdir())
    # What it leaves does not stand in the way of a run.
    target.catalog(configured())
    assert target.write(lines(airbyte_record(1))).status == 0
    assert check(target) == {"status": "SUCCEEDED"}
    assert target.ids() == [1]


def test_check_tells_what_is_wrong_with_the_configuration(parquet: Target) -> None:
    parquet.configure(pipelin="x")
    said = check(parquet)
    assert said["status"] == "FAILED" and "pipeline" in said["message"]
    parquet.configure()
    parquet.workspace.lake.write_text("a file")
    said = check(parquet)
    assert said["status"] == "FAILED" and "folder" in said["message"]
    (parquet.workspace.folder / "c.json").unlink()
    assert check(parquet)["status"] == "FAILED"


def test_check_tells_that_a_run_holds_the_pipeline(parquet: Target) -> None:
    process = parquet.start("--config", "c.json", *parquet.workspace.flags)
    wait_for(lambda: (parquet.workspace.lake / "main").exists())
    said = check(parquet)
    assert said["status"] == "FAILED" and "under way" in said["message"]
    process.communicate(timeout=60)


# --- write -----------------------------------------------------------------------------------------------------------------


def test_rows_land_and_every_state_comes_back_unchanged_and_in_order(target: Target) -> None:
    target.configure(epoch={"rows": 3})
    target.catalog(configured("a"), configured("b"))
    given, sent = [], []
    for number in range(1, 11):
        given += [airbyte_record(number, "a"), airbyte_record(number, "b")]
        given.append(airbyte_state({"at": number}, "ab"[number % 2]))
        sent.append(given[-1]["state"])
    odd = '{"type":"STREAM", "stream":{"stream_state":{"x": 1.50},"stream_descriptor":{"name":"a"}}, "id":7}'
    given_odd = f'{{"state": {odd}, "type": "STATE"}}\n'.encode()
    result = target.write(lines(*given) + given_odd)
    assert result.status == 0, result.stderr
    assert messages(result, "STATE")[:-1] == sent
    assert result.stdout.splitlines()[-1] == f'{{"type":"STATE","state":{odd}}}'
    assert target.ids("a") == target.ids("b") == list(range(1, 11))


def test_null_payloads_beside_the_one_that_counts_are_nothing(parquet: Target) -> None:
    """As PyAirbyte writes them: every payload's key on every line."""
    parquet.catalog(configured())
    empty = dict.fromkeys(("log", "spec", "trace", "control", "state", "catalog"))
    full = {
        **empty,
        **airbyte_record(1),
    }
    full["record"] |= {"namespace": None, "meta": None, "file_reference": None}
    result = parquet.write(lines(full, {**empty, **airbyte_status("COMPLETE")}))
    assert result.status == 0, result.stderr
    assert parquet.ids() == [1]


OVERWRITES = [
    # what the source said of its streams, eof, whether the table is replaced
    (("COMPLETE", "COMPLETE"), None, True),
    (("COMPLETE", None), None, False),
    ((None, None), None, False),
    (("COMPLETE", "INCOMPLETE"), None, False),
    ((None, None), "commit", True),
]


@pytest.mark.parametrize(("said", "eof", "replaced"), OVERWRITES)
def test_a_generation_replaces_the_table_only_when_everything_is_complete(
    target: Target, said: tuple[str | None, str | None], eof: str | None, replaced: bool
) -> None:
    target.catalog(configured("a"), configured("b"))
    assert target.write(lines(airbyte_record(1, "a"), airbyte_record(1, "b"))).status == 0
    target.configure(**({"eof": eof} if eof else {}))
    target.catalog(
        configured("a", "overwrite", generation_id=4, minimum_generation_id=4),
        configured("b", generation_id=4, minimum_generation_id=0),
    )
    statuses = [
        airbyte_status(status, stream) for status, stream in zip(said, "ab", strict=True) if status
    ]
    given = [airbyte_record(2, "a"), airbyte_record(2, "b"), *statuses]
    result = target.write(lines(*given))
    assert result.status == 0, result.stderr
    assert target.ids("a") == ([2] if replaced else [1])
    assert target.ids("b") == [1, 2]
    assert ("nothing was replaced" in result.stderr) == (not replaced)


def test_an_attempt_that_failed_is_gone_on_with(target: Target) -> None:
    target.catalog(configured("users", "overwrite", generation_id=2, minimum_generation_id=2))
    complete = airbyte_status("COMPLETE")
    first = lines(airbyte_record(1), airbyte_state({"at": 1}), airbyte_record(2))
    assert target.write(first[:-3]).status == 7
    assert target.ids() == []
    assert target.write(lines(airbyte_record(2), airbyte_state({"at": 2}), complete)).status == 0
    assert target.ids() == [1, 2]


def test_a_generation_without_a_number_overwrites_by_the_sync_mode(target: Target) -> None:
    target.catalog(configured("users", "overwrite"))
    complete = airbyte_status("COMPLETE")
    assert target.write(lines(airbyte_record(1), complete)).status == 0
    assert target.write(lines(airbyte_record(2), complete)).status == 0
    assert target.ids() == [2]


def test_the_same_generation_again_is_no_conflict(target: Target) -> None:
    """PyAirbyte sends generation 1, whatever it did before."""
    target.catalog(configured("users", "overwrite", generation_id=1, minimum_generation_id=1))
    for number in (1, 2):
        given = lines(airbyte_record(number), airbyte_status("COMPLETE"))
        result = target.write(given)
        assert result.status == 0, result.stderr
    assert 2 in target.ids()


def test_statuses_behind_a_thousand_log_lines_still_count(parquet: Target) -> None:
    parquet.catalog(configured("users", "overwrite", generation_id=1, minimum_generation_id=1))
    log = {"type": "LOG", "log": {"level": "INFO", "message": "x"}}
    given = lines(*[log] * 3000, airbyte_record(1), airbyte_status("COMPLETE"))
    assert parquet.write(given).status == 0
    assert parquet.ids() == [1]


@pytest.mark.parametrize("mode", ["append_dedup", "update", "soft_delete"])
def test_sync_modes_that_are_not_built_are_refused_by_name(parquet: Target, mode: str) -> None:
    parquet.catalog(configured("users", mode, primary_key=[["id"]]))
    result = parquet.write(lines(airbyte_record(1)))
    assert result.status == 3 and mode in result.stderr
    [trace] = messages(result, "TRACE")
    assert trace["error"]["failure_type"] == "config_error" and mode in trace["error"]["message"]
    assert not parquet.workspace.lake.exists()


def test_append_dedup_appends_where_the_settings_say_so(parquet: Target) -> None:
    parquet.configure(append_dedup="append")
    parquet.catalog(configured("users", "append_dedup", primary_key=[["id"]]))
    result = parquet.write(lines(airbyte_record(1), airbyte_record(1)))
    assert result.status == 0, result.stderr
    [log] = messages(result, "LOG")
    assert log["level"] == "WARN" and "append_dedup" in log["message"]
    assert parquet.ids() == [1, 1]


WRONG = [
    (lines(airbyte_record(1, "other")), 7, "message.unknown_stream: "),
    (lines(airbyte_state(1, "other")), 7, "state.undeclared: "),
    (lines(airbyte_record(1))[:-1], 7, "framing.half_line: "),
    (lines({"type": "record", "record": {}}), 7, "message."),
]


@pytest.mark.parametrize(("given", "status", "code"), WRONG, ids=[case[2] for case in WRONG])
def test_an_error_is_a_trace_and_a_line_that_begins_with_its_code(
    parquet: Target, given: bytes, status: int, code: str
) -> None:
    parquet.catalog(configured())
    result = parquet.write(given)
    assert result.status == status, result.stderr
    assert any(line.startswith(code) for line in result.stderr.splitlines()), result.stderr
    [trace] = messages(result, "TRACE")
    assert trace["type"] == "ERROR" and trace["error"]["message"].startswith(code)
    assert trace["error"]["failure_type"] == "system_error"


def test_without_a_wall_nothing_starts_and_nothing_is_made(parquet: Target) -> None:
    parquet.workspace.prefix = (*WITHOUT, "seccomp")
    parquet.catalog(configured())
    tried = [
        parquet.write(lines(airbyte_record(1))),
        parquet.command("check", "--config", "c.json", *parquet.workspace.flags),
    ]
    for result in tried:
        assert result.status == 9, result.stderr
        [trace] = messages(result, "TRACE")
        assert "seccomp" in trace["error"]["message"]
    assert not parquet.workspace.lake.exists()


def test_a_command_line_that_is_wrong(parquet: Target) -> None:
    assert parquet.command("write", "--config", "c.json").status == 2
    assert parquet.command("read", "--config", "c.json").status == 2
    result = parquet.command("write", "--config", "c.json", "--catalog", "nope.json")
    assert result.status == 3 and messages(result, "TRACE")


def test_everything_that_is_said_is_a_message_of_the_protocol(parquet: Target) -> None:
    corpora = os.environ.get("DATIVO_CORPORA")
    found = sorted(Path(corpora).rglob("airbyte_protocol.yaml")) if corpora else []
    if not found:
        pytest.skip("DATIVO_CORPORA holds no airbyte_protocol.yaml")
    definitions = yaml.safe_load(found[0].read_text())["definitions"]
    contract = {"definitions": definitions, "$ref": "#/definitions/AirbyteMessage"}
    parquet.configure(append_dedup="append")
    parquet.catalog(configured("users", "append_dedup"))
    said = [
        parquet.command("spec"),
        parquet.command("check", "--config", "c.json", *parquet.workspace.flags),
        parquet.command("check", "--config", "nope.json"),
        parquet.write(lines(airbyte_record(1), airbyte_state({"at": 1})) + b"{"),
    ]
    kinds = []
    for line in "".join(result.stdout for result in said).splitlines():
        message = json.loads(line)
        jsonschema.Draft7Validator(contract).validate(message)
        kinds.append(message["type"])
    assert kinds == ["SPEC", "CONNECTION_STATUS", "CONNECTION_STATUS", "LOG", "STATE", "TRACE"]
