"""The standalone targets as Singer targets: rows and states, the end of the input, signals, what goes wrong."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.integration.conftest import Workspace
from tests.integration.standalone_target import (
    Target,
    activate,
    committer_pids,
    lines,
    record,
    schema,
    state,
    states,
    wait_for,
)

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


# --- rows and states -------------------------------------------------------------------------------------------------------


def test_rows_land_and_the_state_comes_back_as_it_was_written(target: Target) -> None:
    text = b'{"type": "STATE", "value": {"bookmarks" : {"users": 1.50}, "x": "\\u00e4"}}\n'
    result = target.pour(lines(schema(), record(1), record(2)) + text)
    assert result.status == 0, result.stderr
    assert result.stdout == '{"bookmarks" : {"users": 1.50}, "x": "\\u00e4"}\n'
    assert target.ids() == [1, 2]
    assert result.stderr.splitlines()[-1].startswith(f"dativo-target-{target.name}: 2 rows")


def test_interleaved_streams_and_a_state_for_each_epoch(target: Target) -> None:
    target.configure(epoch={"rows": 4})
    given = [schema("a"), schema("b")]
    for number in range(1, 13):
        given += [record(number, "a"), record(number, "b"), state({"n": number})]
    result = target.pour(lines(*given))
    assert result.status == 0, result.stderr
    seen = [value["n"] for value in states(result)]
    assert seen == sorted(set(seen)) and seen[-1] == 12 and 3 <= len(seen) <= 7
    assert target.ids("a") == target.ids("b") == list(range(1, 13))


def test_a_second_run_appends(target: Target) -> None:
    assert target.pour(lines(schema(), record(1), state(1))).status == 0
    assert target.pour(lines(schema(), record(2), state(2))).status == 0
    assert target.ids() == [1, 2]


def test_no_state_no_output(target: Target) -> None:
    result = target.pour(lines(schema(), record(1)))
    assert (result.status, result.stdout) == (0, "")
    assert target.ids() == [1]


def test_an_empty_input_is_done(target: Target) -> None:
    result = target.pour(b"")
    assert (result.status, result.stdout) == (0, ""), result.stderr


def test_the_run_is_in_the_ledger_and_in_the_audit(parquet: Target) -> None:
    parquet.configure(pipeline="orders")
    assert parquet.pour(lines(schema(), record(1), state(1))).status == 0
    [run] = json.loads(parquet.workspace.dativo("runs", "list", "--output", "json").stdout)["runs"]
    assert (run["pipeline"], run["status"]) == ("orders", 0)
    told = json.loads(parquet.workspace.dativo("runs", "show", run["run"]).stdout)
    assert told["source"] == "stdin" and told["streams"][0]["written"] == 1
    audit = (parquet.workspace.home / "dativo/state/audit.jsonl").read_text().splitlines()
    started, ended = map(json.loads, audit)
    assert (started["event"], ended["event"]) == ("run_started", "run_ended")
    assert {each["name"] for each in ended["processes"]} >= {"committer", "writer"}
    assert all("seccomp" in each["walls"] for each in ended["processes"])


def test_a_state_is_printed_once_it_is_durable_and_not_before(target: Target) -> None:
    target.configure(epoch={"rows": 1})
    process = target.start("--config", "c.json", *target.workspace.flags)
    assert process.stdin and process.stdout
    process.stdin.write(lines(schema(), record(1), state({"n": 1})))
    process.stdin.flush()
    assert process.stdout.readline() == b'{"n": 1}\n'
    # A commit that cannot go on: from here on the committer stands still.
    [committer] = committer_pids(process)
    os.kill(committer, signal.SIGSTOP)
    process.stdin.write(lines(record(2), state({"n": 2})))
    process.stdin.close()
    process.stdin = None
    staging = target.workspace.lake / "_dativo/staging"
    wait_for(lambda: [f for f in staging.glob("*/*.parquet") if f.stat().st_size])
    assert not select.select([process.stdout], [], [], 1)[0]
    os.kill(committer, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (5, b""), stderr
    assert target.ids() == [1]
    assert target.pour(lines(schema(), record(2), state({"n": 2}))).stdout == '{"n": 2}\n'
    assert target.ids() == [1, 2]


# --- the end of the input --------------------------------------------------------------------------------------------------

ENDS = [
    # eof, what follows the last state, exit status, ids that land
    (None, b"", 0, [1, 2]),
    ("commit", b"", 0, [1, 2]),
    ("checkpoint", b"", 0, [1]),
    (None, lines(record(3))[:-1], 7, [1]),
    ("commit", lines(record(3))[:-5], 7, [1]),
    ("checkpoint", b"{", 7, [1]),
]


@pytest.mark.parametrize(("eof", "rest", "status", "ids"), ENDS)
def test_what_the_end_of_the_input_means(
    target: Target, eof: str | None, rest: bytes, status: int, ids: list[int]
) -> None:
    target.configure(**({"eof": eof} if eof else {}))
    given = lines(schema(), schema("late"), record(1), state({"n": 1}), record(2)) + rest
    result = target.pour(given)
    assert result.status == status, result.stderr
    assert states(result) == [{"n": 1}]
    assert target.ids() == ids
    if status == 7:
        assert "\nframing.half_line: " in result.stderr


def test_a_half_line_before_any_state_leaves_nothing(target: Target) -> None:
    result = target.pour(lines(schema(), record(1), record(2))[:-1])
    assert (result.status, result.stdout) == (7, "")
    assert target.ids() == []


# --- overwrite, versions ---------------------------------------------------------------------------------------------------


def test_overwrite_replaces_only_what_is_known_to_be_complete(target: Target) -> None:
    assert target.pour(lines(schema(), record(1), record(2), state(1))).status == 0
    target.configure(mode="overwrite")
    result = target.pour(lines(schema(), record(3), state(2)))
    assert result.status == 0, result.stderr
    assert target.ids() == [1, 2]
    assert "eof" in result.stderr
    target.configure(mode="overwrite", eof="commit")
    result = target.pour(lines(schema(), record(4), state(3)))
    assert result.status == 0, result.stderr
    assert target.ids() == [3, 4]


def test_overwrite_without_a_row_empties_the_table(target: Target) -> None:
    assert target.pour(lines(schema(), record(1), state(1))).status == 0
    target.configure(mode="overwrite", eof="commit")
    assert target.pour(lines(schema(), state(2))).status == 0
    assert target.ids() == []


def test_an_overwrite_that_ends_inside_a_line_replaces_nothing(target: Target) -> None:
    assert target.pour(lines(schema(), record(1), state(1))).status == 0
    target.configure(mode="overwrite", eof="commit")
    assert target.pour(lines(schema(), record(2), state(2), record(3))[:-1]).status == 7
    assert target.ids() == [1]


def test_activate_version_waits_for_proof(target: Target) -> None:
    first = lines(schema(), record(1, version=1), record(2, version=1), activate(1), state(1))
    second = lines(schema(), record(3, version=2), activate(2), state(2))
    assert target.pour(first).status == 0
    assert target.pour(second).status == 0
    assert target.ids() == [1, 2, 3]
    target.configure(eof="commit")
    assert target.pour(lines(schema(), record(4, version=2), activate(2), state(3))).status == 0
    assert target.ids() == [3, 4]


# --- signals and descriptors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_at_the_last_state(target: Target, number: int, status: int) -> None:
    process = target.start("--config", "c.json", *target.workspace.flags)
    assert process.stdin and process.stdout
    process.stdin.write(lines(schema(), record(1), state({"n": 1}), record(2)) + b'{"type": "REC')
    process.stdin.flush()
    wait_for(lambda: list((target.workspace.lake / "main").glob("users*")))
    time.sleep(0.5)
    started = time.monotonic()
    process.send_signal(number)
    # stdin stays open: the tap has not noticed anything.
    stdout = process.stdout.read()
    assert process.wait(30) == status
    assert time.monotonic() - started < 10
    assert stdout == b'{"n": 1}\n'
    process.communicate()
    assert target.ids() == [1]


def test_a_closed_stdout_changes_nothing(target: Target) -> None:
    target.configure(epoch={"rows": 1})
    read_end, write_end = os.pipe()
    process = target.start("--config", "c.json", *target.workspace.flags, stdout=write_end)
    os.close(write_end)
    os.close(read_end)
    given = [schema()]
    for number in range(1, 6):
        given += [record(number), state(number)]
    _, stderr = process.communicate(lines(*given), timeout=120)
    assert process.returncode == 0, stderr
    assert target.ids() == [1, 2, 3, 4, 5]


def test_a_full_disk_behind_stdout_is_told_after_everything_is_committed(parquet: Target) -> None:
    with Path("/dev/full").open("wb") as full:
        process = parquet.start("--config", "c.json", *parquet.workspace.flags, stdout=full)
        _, stderr = process.communicate(lines(schema(), record(1), state(1)), timeout=120)
    assert process.returncode == 1 and b"cannot write to stdout" in stderr
    assert parquet.ids() == [1]


def test_a_file_on_stdin_and_a_file_by_name(target: Target) -> None:
    path = target.workspace.folder / "input.jsonl"
    path.write_bytes(lines(schema(), record(1), state({"n": 1})))
    with path.open("rb") as file:
        process = target.start("--config", "c.json", *target.workspace.flags, stdin=file)
        stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (0, b'{"n": 1}\n'), stderr
    result = target.pour(b"not read", "--input", "input.jsonl")
    assert (result.status, result.stdout) == (0, '{"n": 1}\n'), result.stderr
    assert target.ids() == [1, 1]
    for name in ("nope.jsonl", "."):
        result = target.pour(b"", "--input", name)
        assert result.status == 3 and "cannot read the input" in result.stderr


def test_the_writer_of_the_pipe_is_told_as_soon_as_nobody_reads(parquet: Target) -> None:
    process = parquet.start("--config", "c.json", *parquet.workspace.flags)
    assert process.stdin
    line = b'{"type": "RECORD", "stream": "nobody", "record": {}}\n'
    deadline = time.monotonic() + 60
    with pytest.raises(BrokenPipeError):
        while time.monotonic() < deadline:
            os.write(process.stdin.fileno(), line * 50)
    process.stdin.close()
    process.stdin = None
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 7
    assert b"\nmessage.record_before_schema: " in b"\n" + stderr


def test_two_at_once_need_a_pipeline_each(parquet: Target) -> None:
    first = parquet.start("--config", "c.json", *parquet.workspace.flags)
    assert first.stdin
    first.stdin.write(lines(schema(), record(1)))
    first.stdin.flush()
    wait_for(lambda: list((parquet.workspace.lake / "main").glob("users*")))
    second = parquet.pour(lines(schema(), record(2)))
    assert second.status == 10 and '"pipeline"' in second.stderr
    parquet.configure(pipeline="other")
    third = parquet.pour(lines(schema("orders"), record(3, "orders")))
    assert third.status == 0, third.stderr
    assert first.communicate(timeout=60) and first.returncode == 0


# --- what goes wrong -------------------------------------------------------------------------------------------------------

WRONG: list[tuple[bytes, int, str]] = [
    (lines(record(1)), 7, "message.record_before_schema: "),
    (lines(schema(), {"type": "RECORD", "stream": "users", "record": {"id": "x"}}), 7, "record."),
    (lines(schema()) + b'{"type": "RECORD", "stream": "users", "record": {"id": 1}\n', 7, "json."),
    (lines({"type": "SCHEMA", "stream": "a", "schema": {"type": "object"}}), 7, "schema.invalid"),
    (lines(schema()) + b'{"type": "STATE"}\n', 7, "state."),
    (lines({"type": "BATCH", "stream": "users", "encoding": {}, "manifest": []}), 7, "message."),
    (b"text\n" * 2000, 6, "limit.text_lines"),
    (b'{"type": "RECORD", "x": "' + b"y" * 70_000, 7, "framing.line_too_long"),
]


@pytest.mark.parametrize(("given", "status", "code"), WRONG, ids=[case[2] for case in WRONG])
def test_an_error_begins_with_its_code(
    parquet: Target, given: bytes, status: int, code: str
) -> None:
    parquet.configure(limits={"max_text_lines": 1000, "max_line_bytes": "64KiB"})
    result = parquet.pour(given)
    assert result.status == status, result.stderr
    assert any(line.startswith(code) for line in result.stderr.splitlines()), result.stderr
    assert result.stdout == "" and len(result.stderr.splitlines()) < 30


def test_text_is_skipped_and_told_of_unless_it_is_strict(parquet: Target) -> None:
    given = lines(schema()) + b"INFO \x1b[31mhello\n\n" + lines(record(1), state(1))
    result = parquet.pour(given)
    assert result.status == 0 and "hello" in result.stderr and "\x1b" not in result.stderr
    assert "1 lines of text skipped" in result.stderr
    parquet.configure(strict=True)
    result = parquet.pour(given)
    assert result.status == 7, result.stderr


def test_the_command_line_and_the_configuration_are_checked_first(parquet: Target) -> None:
    assert parquet.command("--confg", "c.json").status == 2
    assert parquet.command().status == 2
    assert parquet.command("--config", "nope.json").status == 3
    result = parquet.command("--config", "ENV")
    assert result.status == 3 and "ENV" in result.stderr
    parquet.configure(eof_="commit")
    result = parquet.command("--config", "c.json")
    assert result.status == 3 and "Did you mean `eof`?" in result.stderr
    assert not parquet.workspace.lake.exists()


def test_the_operator_s_policy_holds(parquet: Target) -> None:
    policy = parquet.workspace.home / "dativo/config/policy.yaml"
    policy.parent.mkdir(mode=0o700, parents=True)
    policy.write_text("ceilings: {max_depth: 8, memory: 1MiB, time: 1s}\n")
    result = parquet.pour(lines(schema(), record(1)))
    assert result.status == 8 and "max_depth" in result.stderr
    parquet.configure(limits={"max_depth": 8})
    assert parquet.pour(lines(schema(), record(1))).status == 0


def test_a_folder_of_dativo_s_own_is_no_warehouse(workspace: Workspace) -> None:
    found = Target(workspace, "parquet")
    config = {"path": str(workspace.home / "dativo/state/lake")}
    (workspace.folder / "c.json").write_text(json.dumps(config))
    result = found.pour(lines(schema(), record(1)))
    assert result.status == 8, result.stderr


def test_about_version_help(target: Target) -> None:
    about = target.command("--about", "--format=json")
    facts = json.loads(about.stdout)
    assert facts["name"] == f"dativo-target-{target.name}"
    assert "activate-version" in facts["capabilities"]
    assert target.command("--version").stdout.startswith(f"dativo-target-{target.name} v")
    assert "spec, check" in " ".join(target.command("--help").stdout.split())


def test_what_says_only_something_about_itself_imports_nothing_heavy(parquet: Target) -> None:
    code = (
        "import sys; from dativo.kernel.standalone import main; main('parquet', sys.argv[1:]);"
        "sys.exit(bool({'pyarrow', 'pydantic', 'click', 'yaml', 'pyiceberg', 'orjson'} & set(sys.modules)))"
    )
    for arguments in (["--version"], ["--about"], ["spec"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, arguments
