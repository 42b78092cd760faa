"""dativo write: stdin into a confined target, its acknowledgements on stdout, and what the end of stdin means."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.conftest import DATIVO, ROOT, Workspace, plain_flags

SCHEMA = {
    "type": "SCHEMA",
    "stream": "rows",
    "schema": {"type": "object", "properties": {"id": {"type": "integer"}}},
    "key_properties": ["id"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("write")
    made = Workspace(folder / "workspace", folder / "home", flags=plain_flags())
    made.folder.mkdir()
    made.home.mkdir(mode=0o700)
    made.plugin(ROOT / "tests/plugins/target", "target")
    yield made


def record(i: int) -> dict[str, Any]:
    return {"type": "RECORD", "stream": "rows", "record": {"id": i}}


def state(i: int) -> dict[str, Any]:
    return {"type": "STATE", "value": {"bookmarks": {"rows": {"id": i}}}}


def singer(count: int, every: int = 10) -> str:
    lines = [SCHEMA]
    for i in range(count):
        lines.append(record(i))
        if (i + 1) % every == 0:
            lines.append(state(i + 1))
    return "".join(json.dumps(line) + "\n" for line in lines)


def command(place: Workspace, name: str, mode: str, *flags: str, **config: Any) -> list[str]:
    file = place.folder / f"{name}.json"
    file.write_text(json.dumps({"mode": mode, "path": str(place.folder / name), **config}))
    given = ("--config", file.name, "--rw", f"./{name}", *flags, *place.flags)
    return [str(DATIVO), "write", "./plugins/target", *given]


def write(
    place: Workspace, name: str, text: str, mode: str = "good", *flags: str, **config: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(place, name, mode, *flags, **config),
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=place.folder,
        env=place.environment(),
        check=False,
    )


def stored(place: Workspace, name: str) -> list[int]:
    file = place.folder / name / "rows.jsonl"
    text = file.read_text() if file.exists() else ""
    return [json.loads(line)["id"] for line in text.splitlines(keepends=True) if line[-1] == "\n"]


def log(place: Workspace, name: str) -> list[str]:
    file = place.folder / name / "log.txt"
    return file.read_text().splitlines() if file.exists() else []


def test_a_tap_into_a_target(place: Workspace) -> None:
    done = write(place, "pipe", singer(95))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"bookmarks": {"rows": {"id": i}}} for i in range(10, 91, 10)
    ]
    assert stored(place, "pipe") == list(range(95))
    assert log(place, "pipe") == ["end of input"]
    assert "acknowledged by the target: 9 states" in done.stderr


def test_what_is_printed_is_the_input_s_own_text(place: Workspace) -> None:
    text = singer(10, 20) + '{"type":"STATE","value":{"z": 1.50,  "a":"\\u00fc"}}\n'
    done = write(place, "text", text)
    assert done.returncode == 0, done.stderr
    assert done.stdout == '{"z": 1.50,  "a":"\\u00fc"}\n'


def test_a_file_is_pumped(place: Workspace) -> None:
    (place.folder / "lines.singer").write_text(singer(20))
    with (place.folder / "lines.singer").open() as file:
        done = subprocess.run(
            command(place, "file", "good", "--quiet"),
            stdin=file,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=place.folder,
            env=place.environment(),
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert stored(place, "file") == list(range(20))


def test_half_a_line_is_not_the_end(place: Workspace) -> None:
    done = write(place, "half", singer(50) + '{"type":"RECORD","stream":"ro')
    assert done.returncode == 7, done.stderr
    assert "framing.half_line" in done.stderr
    assert log(place, "half") in ([], ["SIGTERM"])
    # Not even a whole message is the end of a line.
    done = write(place, "half", singer(50).rstrip("\n"))
    assert done.returncode == 7, done.stderr
    assert "end of input" not in log(place, "half")


@pytest.mark.parametrize(
    ("mode", "status"), [("invents", 7), ("dies", 5), ("exits_0", 5), ("leaves_at_once", 5)]
)
def test_a_bad_target(place: Workspace, nothing_left: None, mode: str, status: int) -> None:
    name = f"bad-{mode}"
    done = write(place, name, singer(5000), mode, after=100)
    assert done.returncode == status, done.stderr
    assert "./plugins/target" in done.stderr
    for line in done.stdout.splitlines():
        assert json.loads(line)["bookmarks"]["rows"]["id"] <= len(stored(place, name))


def test_an_empty_input(place: Workspace) -> None:
    done = write(place, "empty", "")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert log(place, "empty") == ["end of input"]


def test_airbyte_has_to_say_beforehand_what_it_sends(place: Workspace) -> None:
    done = write(place, "airbyte", "", "good", "--as", "airbyte")
    assert done.returncode == 3
    assert "--catalog FILE" in done.stderr


def test_airbyte_into_a_singer_target(place: Workspace) -> None:
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}}
    stream = {"name": "rows", "json_schema": schema, "supported_sync_modes": ["full_refresh"]}
    (place.folder / "catalog.json").write_text(json.dumps({"streams": [stream]}))
    inner = {"stream_descriptor": {"name": "rows"}, "stream_state": {"n": 2}}
    last = '{"type":"STATE","state":{"type":"STREAM","stream":' + json.dumps(inner) + "}}"
    data = [{"stream": "rows", "data": {"id": i}, "emitted_at": 0} for i in range(3)]
    text = "".join(json.dumps({"type": "RECORD", "record": each}) + "\n" for each in data)
    done = write(
        place, "ab", text + last + "\n", "good", "--as", "airbyte", "--catalog", "catalog.json"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == last + "\n"
    assert stored(place, "ab") == [0, 1, 2]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(place: Workspace, signum: signal.Signals) -> None:
    name = f"signal-{signum.name.lower()}"
    running = subprocess.Popen(
        command(place, name, "good"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=place.folder,
        env=place.environment(),
    )
    assert running.stdin is not None
    running.stdin.write(singer(100) + json.dumps(record(100)) + "\n")
    running.stdin.flush()
    deadline = time.monotonic() + 60
    while len(stored(place, name)) < 100:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.01)
    running.send_signal(signum)
    asked_at = time.monotonic()
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 128 + signum, stderr
    assert time.monotonic() - asked_at < 15
    assert json.loads(stdout.splitlines()[-1])["bookmarks"]["rows"]["id"] == 100
    assert log(place, name) == ["end of input"]


def test_without_a_grant_it_sees_nothing(place: Workspace) -> None:
    full = command(place, "blind", "good")
    at = full.index("--rw")
    (place.folder / "blind").mkdir()
    done = subprocess.run(
        full[:at] + full[at + 2 :],
        input=singer(3),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=place.folder,
        env=place.environment(),
        check=False,
    )
    assert done.returncode == 5, done.stderr
    assert not list((place.folder / "blind").iterdir())


def test_dativo_s_own_targets_are_written_too(place: Workspace) -> None:
    config = place.folder / "own.json"
    config.write_text(json.dumps({"path": str(place.folder / "lake")}))
    done = subprocess.run(
        [str(DATIVO), "write", "parquet", "--config", str(config), *place.flags],
        input=singer(30),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=place.folder,
        env=place.environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"bookmarks": {"rows": {"id": 30}}}
    refused = place.dativo("write", "parquet", "--config", str(config), "--strict")
    assert refused.status == 3 and "from its configuration" in refused.stderr


def test_a_source_is_no_target(place: Workspace) -> None:
    place.plugin(ROOT / "examples/plugins/resumable", "resumable")
    refused = place.dativo("write", "./plugins/resumable")
    assert refused.status == 3
    assert "is a source, not a target" in refused.stderr
