"""`dativo read`: sources of both dialects, confined, onto stdout in either one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import ROOT, Result, Workspace, plain_flags

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with a tap and an Airbyte source of its own; no test changes it."""
    folder = tmp_path_factory.mktemp("read")
    made = Workspace(folder / "workspace", folder / "home", flags=plain_flags())
    made.folder.mkdir()
    made.home.mkdir(mode=0o700)
    made.plugin(ROOT / "tests/plugins/tap", "tap")
    made.plugin(ROOT / "examples/plugins/resumable", "resumable")
    yield made


def config(shelf: Workspace, **values: object) -> str:
    name = (
        "-".join(f"{key}-{value}" for key, value in values.items() if isinstance(value, str | int))
        or "empty"
    )
    (shelf.folder / f"{name}.json").write_text(json.dumps(values))
    return f"{name}.json"


def read(shelf: Workspace, *arguments: str, timeout_s: float = 120) -> Result:
    return shelf.dativo("read", *arguments, *shelf.flags, timeout_s=timeout_s)


def messages(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n") or not text
    return [json.loads(line) for line in text.splitlines()]


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in found]


def singer_records(found: list[dict[str, Any]], stream: str) -> list[Any]:
    return [m["record"] for m in found if m["type"] == "RECORD" and m["stream"] == stream]


def airbyte_records(found: list[dict[str, Any]], stream: str) -> list[Any]:
    return [
        m["record"]["data"]
        for m in found
        if m["type"] == "RECORD" and m["record"]["stream"] == stream
    ]


def write(shelf: Workspace, name: str, value: object) -> str:
    (shelf.folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return name


# --- both dialects, both ways ----------------------------------------------------------------------------------------------


def test_a_tap_as_it_is(shelf: Workspace) -> None:
    told = read(shelf, "tap", "--config", config(shelf, rows=10))
    assert told.status == 0, told.stderr
    found = messages(told.stdout)
    assert kinds(found) == ["SCHEMA", *["RECORD"] * 10, "STATE"] * 2
    assert singer_records(found, "b") == [
        {"id": i, "at": "2024-01-01T00:00:00Z", "price": float(f"{i}.10"), "secret": f"s{i}"}
        for i in range(10)
    ]
    line = told.stdout.splitlines()[1]
    assert '"price": 0.10' in line, "the record's bytes are the tap's"
    assert json.loads(line)["time_extracted"].startswith("2024-01-01T00:00:00")
    assert found[-1]["value"] == {"bookmarks": {"a": 10, "b": 10}}


def test_a_tap_as_an_airbyte_source(shelf: Workspace) -> None:
    told = read(shelf, "tap", "--config", config(shelf, rows=10), "--as", "airbyte")
    assert told.status == 0, told.stderr
    found = messages(told.stdout)
    assert [record["id"] for record in airbyte_records(found, "a")] == list(range(10))
    states = [m["state"] for m in found if m["type"] == "STATE"]
    assert [state["type"] for state in states] == ["GLOBAL", "GLOBAL"]
    assert states[-1]["global"]["shared_state"] == {
        "singer_state": {"bookmarks": {"a": 10, "b": 10}}
    }
    statuses = [
        (
            m["trace"]["stream_status"]["stream_descriptor"]["name"],
            m["trace"]["stream_status"]["status"],
        )
        for m in found
        if m["type"] == "TRACE"
    ]
    assert sorted(statuses) == [
        ("a", "COMPLETE"),
        ("a", "STARTED"),
        ("b", "COMPLETE"),
        ("b", "STARTED"),
    ]
    assert 'price": 3.10' in told.stdout


def test_an_airbyte_source_as_a_tap(shelf: Workspace) -> None:
    told = read(
        shelf, "resumable", "--config", config(shelf, rows=30, state_every=10), "--as", "singer"
    )
    assert told.status == 0, told.stderr
    found = messages(told.stdout)
    assert set(kinds(found)) == {"SCHEMA", "RECORD", "STATE"} and found[0]["type"] == "SCHEMA"
    assert found[0]["stream"] == "numbers" and found[0]["key_properties"] == ["id"]
    assert found[0]["schema"]["properties"]["id"] == {"type": ["null", "integer"]}
    assert [record["id"] for record in singer_records(found, "numbers")] == list(range(30))
    [*_, last] = [m["value"] for m in found if m["type"] == "STATE"]
    [state] = last["airbyte_states"]
    assert state["stream"]["stream_state"] == {"next": 30}


def test_an_airbyte_source_as_it_is(shelf: Workspace) -> None:
    told = read(shelf, "resumable", "--config", config(shelf, rows=30, state_every=10))
    assert told.status == 0, told.stderr
    found = messages(told.stdout)
    assert [record["id"] for record in airbyte_records(found, "numbers")] == list(range(30))
    assert kinds(found).count("STATE") == 3
    assert [m["trace"]["stream_status"]["status"] for m in found if m["type"] == "TRACE"] == [
        "STARTED",
        "COMPLETE",
    ]


# --- where to go on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["singer", "airbyte"])
@pytest.mark.parametrize("plugin", ["tap", "resumable"])
def test_a_printed_state_is_where_the_next_read_goes_on(
    shelf: Workspace, plugin: str, to: str
) -> None:
    first = read(shelf, plugin, "--config", config(shelf, rows=10), "--as", to)
    last = [line for line in first.stdout.splitlines() if json.loads(line)["type"] == "STATE"][-1]
    state = write(shelf, f"{plugin}-{to}.state", last)
    again = read(shelf, plugin, "--config", config(shelf, rows=15), "--as", to, "--state", state)
    assert again.status == 0, again.stderr
    found = messages(again.stdout)
    ids = [
        m["record"]["id"] if to == "singer" else m["record"]["data"]["id"]
        for m in found
        if m["type"] == "RECORD"
    ]
    assert ids == list(range(10, 15)) * (2 if plugin == "tap" else 1)
    full = read(shelf, plugin, "--config", config(shelf, rows=15), "--as", to, "--full-refresh")
    assert kinds(messages(full.stdout)).count("RECORD") == (30 if plugin == "tap" else 15)


def test_streams_that_say_nothing_keep_their_state(shelf: Workspace) -> None:
    both = read(shelf, "resumable", "--config", config(shelf, rows=10, streams=2), "--as", "singer")
    state = write(shelf, "both.state", messages(both.stdout)[-1]["value"])
    one = read(
        shelf, "resumable", "--config", config(shelf, rows=20, streams=2), "--as", "singer",
        "--state", state, "--select", "numbers",
    )  # fmt: skip
    assert one.status == 0, one.stderr
    found = messages(one.stdout)
    assert len(singer_records(found, "numbers")) == 10 and not singer_records(found, "numbers_2")
    states = {
        s["stream"]["stream_descriptor"]["name"]: s["stream"]["stream_state"]
        for s in found[-1]["value"]["airbyte_states"]
    }
    assert states == {"numbers": {"next": 20}, "numbers_2": {"next": 10}}


def test_a_state_of_the_other_kind_of_plugin_is_refused(shelf: Workspace) -> None:
    first = read(shelf, "tap", "--config", config(shelf, rows=2), "--as", "airbyte")
    state = write(shelf, "foreign.state", [messages(first.stdout)[-3]["state"]])
    told = read(shelf, "resumable", "--config", config(shelf, rows=2), "--state", state)
    assert (told.status, told.stdout) == (3, "")
    assert "foreign.state" in told.stderr and "Singer tap" in told.stderr
    both = read(shelf, "tap", "--config", config(shelf, rows=2), "--state", state, "--full-refresh")
    assert both.status == 2 and "--full-refresh" in both.stderr


# --- what is read ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["singer", "airbyte"])
def test_streams_and_fields_that_are_left_out(shelf: Workspace, to: str) -> None:
    told = read(
        shelf, "tap", "--config", config(shelf, rows=3), "--as", to, "--select", "b", "--select", "!b.secret"
    )  # fmt: skip
    assert told.status == 0, told.stderr
    found = messages(told.stdout)
    records = (singer_records if to == "singer" else airbyte_records)(found, "b")
    assert [sorted(record) for record in records] == [["at", "id", "price"]] * 3, (
        "cut out although the tap sends it"
    )
    assert kinds(found).count("RECORD") == 3
    wrong = read(shelf, "tap", "--config", config(shelf, rows=3), "--select", "c")
    assert wrong.status == 3 and "The source has: a, b" in wrong.stderr


@pytest.mark.parametrize(("plugin", "stream"), [("tap", "b"), ("resumable", "numbers_2")])
@pytest.mark.parametrize("dialect", ["singer", "airbyte"])
def test_a_catalogue_of_either_dialect(
    shelf: Workspace, plugin: str, stream: str, dialect: str
) -> None:
    settings = config(shelf, rows=3, streams=2)
    asked = shelf.dativo("discover", plugin, "--config", settings, "--as", dialect, *shelf.flags)
    assert asked.status == 0, asked.stderr
    document = json.loads(asked.stdout)
    for entry in document["streams"]:
        if dialect == "singer":
            next(m for m in entry["metadata"] if m["breadcrumb"] == [])["metadata"]["selected"] = (
                entry["stream"] == stream
            )
    if dialect == "airbyte":
        document["streams"] = [
            {"stream": entry, "sync_mode": "full_refresh", "destination_sync_mode": "append"}
            for entry in document["streams"]
            if entry["name"] == stream
        ]
    catalog = write(shelf, f"{plugin}-{dialect}.catalog", document)
    told = read(shelf, plugin, "--config", settings, "--as", "singer", "--catalog", catalog)
    assert told.status == 0, told.stderr
    found = messages(told.stdout)
    assert len(singer_records(found, stream)) == kinds(found).count("RECORD") == 3


@pytest.mark.parametrize("to", ["singer", "airbyte"])
def test_a_limit_ends_an_endless_source_and_is_success(shelf: Workspace, to: str) -> None:
    told = read(
        shelf, "tap", "--config", config(shelf, rows=3, mode="endless"), "--as", to, "--limit", "7", "--select", "a"
    )  # fmt: skip
    assert told.status == 0, told.stderr
    found = messages(told.stdout)
    assert kinds(found).count("RECORD") == 7
    assert "COMPLETE" not in told.stdout


# --- how it ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["singer", "airbyte"])
@pytest.mark.parametrize(
    ("mode", "status", "said"), [("dies", 4, "the API said 500"), ("half", 7, "half_line")]
)
def test_a_read_that_fails_ends_inside_a_line(
    shelf: Workspace, to: str, mode: str, status: int, said: str
) -> None:
    told = read(shelf, "tap", "--config", config(shelf, rows=3, mode=mode), "--as", to)
    assert told.status == status, told.stderr
    assert said in told.stderr
    *whole, last = told.stdout.split("\n")
    assert whole and all(json.loads(line) for line in whole)
    assert last
    with pytest.raises(json.JSONDecodeError):
        json.loads(last)


def test_what_is_tolerated_and_what_strict_refuses(shelf: Workspace) -> None:
    settings = config(shelf, rows=3, mode="odd")
    told = read(shelf, "tap", "--config", settings)
    assert told.status == 0 and kinds(messages(told.stdout)).count("RECORD") == 6
    assert "plain text" in told.stderr and "plain text" not in told.stdout
    assert "plain text" not in read(shelf, "tap", "--config", settings, "--quiet").stderr
    strict = read(shelf, "tap", "--config", settings, "--strict")
    assert strict.status == 7 and not strict.stdout.endswith("}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_inside_a_line(shelf: Workspace, number: signal.Signals) -> None:
    process = shelf.start(
        "read", "tap", "--config", config(shelf, rows=3, mode="silent"), *shelf.flags
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith('{"type":"SCHEMA"')
    process.send_signal(number)
    rest, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    assert not rest.endswith("\n") and signal.Signals(number).name in stderr


def test_a_reader_that_goes_away_ends_it_soon(shelf: Workspace) -> None:
    process = shelf.start(
        "read", "tap", "--config", config(shelf, rows=3, mode="endless"), *shelf.flags
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    began = time.monotonic()
    assert process.wait(timeout=60) == 5
    assert time.monotonic() - began < 20
    said = process.stderr.read()
    process.stderr.close()
    assert said.splitlines() == ["dativo: target.closed: who reads the output has closed it"]


def test_a_slow_reader_stops_the_source(shelf: Workspace) -> None:
    process = shelf.start(
        "read", "tap", "--config", config(shelf, rows=3, mode="endless"), *shelf.flags
    )
    assert process.stdout is not None
    process.stdout.readline()
    sizes = []
    for _ in range(2):
        time.sleep(2)
        usage = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        sizes.append(int(usage[21]))
    process.stdout.close()
    process.wait(timeout=60)
    if process.stderr is not None:
        process.stderr.close()
    assert sizes[1] - sizes[0] < 1000, "the kernel's resident pages do not grow while nobody reads"


def test_silence_beyond_the_grant_is_a_limit(shelf: Workspace) -> None:
    told = read(shelf, "tap", "--config", config(shelf, rows=3, mode="silent"), "--idle", "2s")
    assert told.status == 6 and "silent" in told.stderr


# --- where it goes ---------------------------------------------------------------------------------------------------------


def test_stdout_may_be_a_file_or_a_socket(shelf: Workspace) -> None:
    arguments = ("read", "tap", "--config", config(shelf, rows=500), *shelf.flags)
    wanted = shelf.dativo(*arguments).stdout
    path = shelf.folder / "out.jsonl"
    with path.open("wb") as file:
        assert shelf.start(*arguments, stdout=file, stderr=subprocess.DEVNULL).wait(timeout=60) == 0
    assert path.read_text() == wanted
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = shelf.start(*arguments, stdout=theirs, stderr=subprocess.DEVNULL)
        theirs.close()
        ours.settimeout(60)
        received = bytearray()
        while data := ours.recv(65536):
            received += data
        assert process.wait(timeout=60) == 0
    assert received.decode() == wanted
    with path.open("wb") as file:
        bad = config(shelf, rows=500, mode="dies")
        process = shelf.start(
            "read", "tap", "--config", bad, *shelf.flags, stdout=file, stderr=subprocess.DEVNULL
        )
        assert process.wait(timeout=60) == 4
    assert path.read_text() and not path.read_text().endswith("\n")


def test_a_full_disk_is_told(shelf: Workspace) -> None:
    with open("/dev/full", "wb") as full:
        process = shelf.start(
            "read", "tap", "--config", config(shelf, rows=3), *shelf.flags, stdout=full
        )
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 5, stderr
    assert "No space left" in stderr


# --- who may do what -------------------------------------------------------------------------------------------------------


def test_secrets_reach_the_source_and_nobody_else(shelf: Workspace) -> None:
    secret = "hunter2-" + os.urandom(8).hex()
    shelf.env["TOKEN"] = secret
    settings = write(
        shelf, "secret.json", {"rows": 2, "mode": "says_secret", "token": {"secret": "env://TOKEN"}}
    )
    told = read(shelf, "tap", "--config", settings)
    del shelf.env["TOKEN"]
    assert told.status == 0, told.stderr
    assert secret not in told.stdout + told.stderr and "the token is [secret]" in told.stderr
    for file in shelf.home.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file
    missing = read(shelf, "tap", "--config", settings)
    assert missing.status == 3 and "TOKEN" in missing.stderr


def test_a_secret_that_stands_plainly_is_not_shown_either(shelf: Workspace) -> None:
    settings = write(shelf, "plain.json", {"rows": "many", "token": "plain-hunter2-secret"})
    told = read(shelf, "resumable", "--config", settings)
    assert told.status == 3 and "rows" in told.stderr and "plain-hunter2" not in told.stderr


def test_the_policy_holds_for_flags(shelf: Workspace) -> None:
    settings = config(shelf, rows=1)
    policy = shelf.home / "dativo/config/policy.yaml"
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text("ceilings: {memory: 256MiB, max_line_bytes: 1MiB}\n")
    try:
        assert read(shelf, "tap", "--config", settings).status == 0, "what no flag says is lowered"
        told = read(shelf, "tap", "--config", settings, "--memory", "1GiB")
        assert told.status == 8 and "ceiling" in told.stderr
        policy.write_text("blocked: [{name: tap, reason: for this test}]\n")
        told = read(shelf, "tap", "--config", settings)
        assert told.status == 8 and "for this test" in told.stderr
    finally:
        policy.unlink()
    own = read(shelf, "tap", "--config", settings, "--ro", str(shelf.home / "dativo"))
    assert own.status == 8 and "no run may touch" in own.stderr


def test_wrong_words(shelf: Workspace) -> None:
    settings = config(shelf, rows=1)
    for arguments, said in (
        (("iceberg", "--config", settings), "is a target, not a source"),
        (("nobody",), "there is no connector nobody"),
        (("singer:tap-none",), "dativo plugin add singer:tap-none"),
        (("tap", "--config", "-"), "not stdin"),
        (("tap", "--config", "none.json"), "none.json"),
        (("tap", "--config", settings, "--catalog", settings), "streams of the catalogue"),
        (("tap", "--config", write(shelf, "list.json", "[]")), "not one JSON object"),
    ):
        told = read(shelf, *arguments)
        assert (told.status, told.stdout) == (3, ""), arguments
        assert said in told.stderr, told.stderr
    assert read(shelf, "tap", "--memory", "much").status == 2


# --- public connectors -----------------------------------------------------------------------------------------------------


def test_the_faker_as_a_tap_and_tap_jsonl_as_an_airbyte_source(workspace: Workspace) -> None:
    for reference in ("airbyte:source-faker==7.2.1", "singer:tap-jsonl==0.3.1"):
        assert (
            workspace.dativo("plugin", "add", reference, *workspace.flags, timeout_s=900).status
            == 0
        )
    settings = config(workspace, count=200, seed=7)
    told = read(
        workspace,
        "airbyte:source-faker",
        "--config",
        settings,
        "--as",
        "singer",
        "--select",
        "users",
    )
    assert told.status == 0, told.stderr
    found = messages(told.stdout)
    assert len(singer_records(found, "users")) == 200
    import jsonschema

    validator = jsonschema.Draft4Validator(
        found[0]["schema"], format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER
    )
    for record in singer_records(found, "users"):
        validator.validate(record)
    lines = workspace.folder / "lines.jsonl"
    lines.write_text("".join(f'{{"id":{i},"v":{i}.50}}\n' for i in range(50)))
    settings = write(workspace, "tap.json", {"path": str(lines), "primary_keys": ["id"]})
    told = read(
        workspace, "singer:tap-jsonl", "--config", settings, "--as", "airbyte", "--ro", str(lines)
    )
    assert told.status == 0, told.stderr
    found = messages(told.stdout)
    assert [record["id"] for record in airbyte_records(found, "jsonl")] == list(range(50))
