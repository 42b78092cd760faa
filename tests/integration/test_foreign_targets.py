"""Runs into targets that are not dativo's: what is stored, what is acknowledged, what is read again, and targets that lie."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import ROOT, Result, Workspace, descendants, plain_flags

JOB = """\
pipeline: {name}
source:
  connector: ./plugins/{source}
  config: {config}
target:
  connector: ./plugins/target
  config: {{path: "${{JOB_DIR}}/{name}", {target}}}
  grants: {{write: [./{name}], {grants}}}
"""
RESUMABLE = "{rows: 2000, state_every: 100}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with a good source, a bad one, and a target that does what its configuration says."""
    folder = tmp_path_factory.mktemp("foreign")
    made = Workspace(folder / "workspace", folder / "home", flags=plain_flags())
    made.folder.mkdir()
    made.home.mkdir(mode=0o700)
    made.plugin(ROOT / "examples/plugins/resumable", "resumable")
    made.plugin(ROOT / "tests/plugins/bad", "bad")
    made.plugin(ROOT / "tests/plugins/target", "target")
    yield made


def job(
    place: Workspace,
    name: str,
    *,
    target: str = "mode: good",
    source: str = "resumable",
    config: str = RESUMABLE,
    grants: str = "",
) -> str:
    """Write and approve a job; what it stores lies in the folder of its name."""
    text = JOB.format(name=name, source=source, config=config, target=target, grants=grants)
    place.job(text, f"{name}.yaml")
    approved = place.dativo("grants", "approve", f"{name}.yaml")
    assert approved.status == 0, approved.stderr
    return f"{name}.yaml"


def stored(place: Workspace, name: str, stream: str = "numbers") -> list[int]:
    """The ids that the target has stored, in order; half a line at the end is what a killed target leaves."""
    file = place.folder / name / f"{stream}.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line)["id"] for line in lines if line.endswith("\n")]


def log(place: Workspace, name: str) -> list[str]:
    file = place.folder / name / "log.txt"
    return file.read_text().splitlines() if file.exists() else []


def states(place: Workspace, job: str) -> list[dict[str, Any]]:
    shown = place.dativo("state", "show", job, *place.flags)
    assert shown.status == 0, shown.stderr
    return [json.loads(entry["state"]) for entry in json.loads(shown.stdout)["states"]]


def following(place: Workspace, job: str) -> int:
    """The row that the saved state goes on from."""
    found = states(place, job)
    return int(found[0]["stream"]["stream_state"]["next"]) if found else 0


# --- good targets ----------------------------------------------------------------------------------------------------------


def test_rows_are_stored_once_and_the_next_run_goes_on(place: Workspace) -> None:
    name = job(place, "good")
    first = place.run(name)
    assert first.status == 0, first.stderr
    assert stored(place, "good") == list(range(2000))
    assert log(place, "good") == ["end of input"]
    [stream] = first.report["streams"]
    assert (stream["stream"], stream["read"], stream["written"]) == ("numbers", 2000, 2000)
    assert (first.report["acknowledged"], first.report["states"]) == (20, 1)
    assert first.report["slowest"] in ("source", "target", "relay")
    assert following(place, name) == 2000

    again = place.run(name)
    assert again.status == 0, again.stderr
    assert all(stream["read"] == 0 for stream in again.report["streams"])
    assert stored(place, "good") == list(range(2000))

    # More rows of the source: what is new, and nothing else.
    name = job(place, "good", config="{rows: 2500, state_every: 100}")
    assert place.run(name).status == 0
    assert stored(place, "good") == list(range(2500))


def test_a_state_is_known_by_what_it_says_not_by_its_text(place: Workspace) -> None:
    name = job(place, "rewrites", target="mode: rewrites")
    told = place.run(name)
    assert told.status == 0, told.stderr
    assert told.report["acknowledged"] == 20 and following(place, name) == 2000


@pytest.mark.parametrize(("mode", "acknowledged"), [("repeats", 20), ("at_the_end", 20)])
def test_a_target_may_repeat_and_skip(place: Workspace, mode: str, acknowledged: int) -> None:
    name = job(place, f"may-{mode.replace('_', '-')}", target=f"mode: {mode}")
    told = place.run(name)
    assert told.status == 0, told.stderr
    assert told.report["acknowledged"] == acknowledged and not told.report["notices"]
    assert following(place, name) == 2000


def test_a_target_that_never_acknowledges_is_told_of(place: Workspace) -> None:
    name = job(place, "forgets", target="mode: forgets")
    told = place.run(name)
    assert told.status == 0, told.stderr
    assert "acknowledged none of 20 states" in told.report["notices"][0]
    assert states(place, name) == []
    assert place.run(name).status == 0
    assert stored(place, "forgets") == [*range(2000), *range(2000)]


# --- targets that lie or fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "status", "message"),
    [
        ("invents", 7, "acknowledged a state that it was not sent"),
        ("reorders", 7, "a state that it was not sent, or an older one"),
        ("dies", 5, "the disk is full"),
        ("exits_0", 5, "stopped reading before its input ended"),
        ("kills_itself", 5, "signal 9"),
        ("closes_stdin", 5, "stopped reading before its input ended"),
        ("leaves_at_once", 5, "stopped reading before its input ended"),
        ("floods_text", 6, "limit.text_lines"),
        ("floods_line", 7, "framing.line_too_long"),
        ("eats_memory", 6, "hit its limit"),
        ("fails_at_the_end", 5, "cannot rename"),
    ],
)
def test_a_bad_target_is_blamed_and_only_what_it_acknowledged_is_kept(
    place: Workspace, nothing_left: None, mode: str, status: int, message: str
) -> None:
    name = mode.replace("_", "-")
    file = job(
        place, name, target=f"mode: {mode}, after: 550", config="{rows: 50000, state_every: 100}"
    )
    told = place.run(file)
    assert told.status == status, told.stderr
    assert message in told.stderr, told.stderr
    assert told.report["error"]["where"]["plugin"] == "./plugins/target"
    rows = stored(place, name)
    assert following(place, file) <= len(set(rows)) and len(rows) == len(set(rows))
    if mode in ("dies", "exits_0", "kills_itself"):
        assert following(place, file) == 500


def test_a_target_that_never_ends_is_ended_by_its_own_limit(place: Workspace) -> None:
    name = job(place, "never-ends", target="mode: never_ends", grants="time: 4s")
    told = place.run(name)
    assert told.status == 6, told.stderr
    assert "ran longer than 4 s" in told.stderr
    assert following(place, name) == 2000


def test_a_slow_target_stops_the_source(place: Workspace) -> None:
    """A million rows are 130 MB; pipes and buffers hold a few."""
    name = job(
        place,
        "slow",
        target="mode: stops_reading",
        grants="time: 6s",
        config="{rows: 1000000, state_every: 1000000}",
    )
    told = place.run(name)
    assert told.status == 6, told.stderr
    assert 0 < told.report["source_bytes"] < 4 * 1024 * 1024
    assert told.report["slowest"] == "target"
    assert told.report["blocked_s"] > 1


def test_a_killed_target_loses_no_row(place: Workspace) -> None:
    """Killed half-way three times: behind the last state rows come again, and none is missing."""
    name = job(place, "killed", target="pause_s: 0.002", config="{rows: 900, state_every: 50}")
    for seen in (120, 340, 610):
        running = place.start("run", name, "--output", "json", *place.flags)
        deadline = time.monotonic() + 60
        while len(set(stored(place, "killed"))) < seen:
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.01)
        os.kill(process(running.pid, "target.py"), signal.SIGKILL)
        stdout, stderr = running.communicate(timeout=60)
        assert running.returncode == 5, stderr
        assert "signal 9" in json.loads(stdout)["error"]["message"]
        assert following(place, name) <= len(set(stored(place, "killed")))
    before = following(place, name)
    assert before > 0
    assert place.run(name).status == 0
    rows = stored(place, "killed")
    assert set(rows) == set(range(900))
    assert all(rows.count(row) <= 4 for row in set(rows))
    assert following(place, name) == 900


def process(ancestor: int, argument: str) -> int:
    """The process below ``ancestor`` whose last argument but options names ``argument``."""
    for pid in descendants(ancestor):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if words[0].endswith((b"python", b"python3.11")) and any(
            word.endswith(argument.encode()) for word in words
        ):
            return pid
    raise AssertionError(f"no process runs {argument}")


# --- sources that fail -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "status"), [("dies", 4), ("half_line", 7), ("forges_state", 7), ("kills_itself", 4)]
)
def test_a_failed_source_never_looks_like_the_end(place: Workspace, mode: str, status: int) -> None:
    name = f"source-{mode.replace('_', '-')}"
    file = job(place, name, source="bad", config=f"{{mode: {mode}}}")
    told = place.run(file)
    assert told.status == status, told.stderr
    # Its input stayed open: it was asked to end, and stored what it had.
    assert log(place, name) == ["SIGTERM"]
    rows = stored(place, name, "rows")
    assert rows == list(range(len(rows)))
    assert len(rows) == 10 or status == 7
    # Its state was the last line, whose end the relay holds back until the input is known to be whole.
    assert states(place, file) == []


def test_what_was_acknowledged_before_a_source_failed_stays(place: Workspace) -> None:
    config = "{rows: 3000, state_every: 100, pause_s: 0.2}"
    name = job(place, "source-killed", config=config)
    running = place.start("run", name, "--output", "json", *place.flags)
    deadline = time.monotonic() + 60
    while len(stored(place, "source-killed")) < 300:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.01)
    os.kill(process(running.pid, "source.py"), signal.SIGKILL)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 4, stderr
    assert log(place, "source-killed") == ["SIGTERM"]
    assert 200 <= following(place, name) <= len(stored(place, "source-killed"))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_in_good_order_and_goes_on(
    place: Workspace, nothing_left: None, signum: signal.Signals
) -> None:
    name = f"interrupted-{signum.name.lower()}"
    file = job(place, name, config="{rows: 3000, state_every: 100, pause_s: 0.2}")
    running = place.start("run", file, "--output", "json", *place.flags)
    deadline = time.monotonic() + 60
    while len(stored(place, name)) < 300:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.01)
    asked_at = time.monotonic()
    running.send_signal(signum)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 128 + signum, stderr
    assert time.monotonic() - asked_at < 20
    assert log(place, name) == ["end of input"]
    assert json.loads(stdout)["acknowledged"] >= 3
    rows = stored(place, name)
    assert 300 <= following(place, file) <= len(rows)
    file = job(place, name, config="{rows: 3000, state_every: 100}")
    assert place.run(file).status == 0
    assert set(stored(place, name)) == set(range(3000))


def test_a_target_that_ignores_the_end_is_killed_in_time(place: Workspace) -> None:
    name = job(
        place,
        "stubborn",
        target="mode: never_ends",
        config="{rows: 3000, state_every: 100, pause_s: 0.2}",
    )
    running = place.start("run", name, "--output", "json", *place.flags)
    deadline = time.monotonic() + 60
    while len(stored(place, "stubborn")) < 100:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    asked_at = time.monotonic()
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    assert time.monotonic() - asked_at < 25


# --- who may do what -------------------------------------------------------------------------------------------------------


def test_a_target_asks_for_what_it_may_do(place: Workspace) -> None:
    place.job(
        JOB.format(
            name="asks",
            source="resumable",
            config="{rows: 1, token: {secret: 'env://SOURCE_TOKEN'}}",
            target="token: {secret: 'env://TARGET_TOKEN'}",
            grants="memory: 1GiB",
        ),
        "asks.yaml",
    )
    place.env |= {"SOURCE_TOKEN": "source-secret-1", "TARGET_TOKEN": "target-secret-2"}
    refused = place.run("asks.yaml")
    assert refused.status == 8
    for asked in (
        "./plugins/resumable: secret env://SOURCE_TOKEN",
        "./plugins/target: secret env://TARGET_TOKEN",
        f"./plugins/target: write {place.folder / 'asks'}",
        "./plugins/target: limit memory 1GiB",
    ):
        assert asked in refused.stderr
        assert asked.partition(": ")[2] in place.dativo("grants", "show", "asks.yaml").stdout
    assert not (place.folder / "asks").exists()
    assert place.dativo("grants", "approve", "asks.yaml").status == 0
    assert place.run("asks.yaml").status == 0
    plan = place.dativo("plan", "asks.yaml", *place.flags)
    target = json.loads(plan.stdout)["target"]
    assert (target["connector"], target["dialect"], target["mode"]) == (
        "./plugins/target",
        "singer",
        "append",
    )
    assert target["grants"]["memory_bytes"] == 1 << 30
    assert "secret-2" not in plan.stdout + plan.stderr
    # Another target is another request.
    program = place.folder / "plugins/target/target.py"
    before = program.read_text()
    program.write_text(before + "\n")
    try:
        assert place.run("asks.yaml").status == 8
    finally:
        program.write_text(before)


def test_a_target_sees_only_what_it_was_granted(place: Workspace) -> None:
    name = job(place, "elsewhere")
    text = (place.folder / name).read_text()
    place.job(text.replace("${JOB_DIR}/elsewhere", "${JOB_DIR}/good"), name)
    assert place.dativo("grants", "approve", name).status == 0
    told = place.run(name)
    assert told.status == 5, told.stderr
    assert not (place.folder / "elsewhere").exists() or not list(
        (place.folder / "elsewhere").iterdir()
    )


def test_two_runs_of_one_pipeline_conflict(place: Workspace) -> None:
    name = job(place, "twice", config="{rows: 400, state_every: 100, pause_s: 1}")
    first = place.start("run", name, "--output", "json", *place.flags)
    deadline = time.monotonic() + 60
    while not stored(place, "twice"):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.01)
    second = place.run(name)
    assert second.status == 10, second.stderr
    _, stderr = first.communicate(timeout=60)
    assert first.returncode == 0, stderr


def test_it_has_no_tables_of_ours(place: Workspace) -> None:
    name = job(place, "tables")
    shown: Result = place.dativo("files", name, *place.flags)
    assert shown.stdout == ""
