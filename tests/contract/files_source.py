"""The real dativo-source-files without walls: its verbs, and its output into the real writer."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tests.contract.played import Event, executable
from tests.contract.writer_kernel import Writer, opening, stream

BATCHES = {"DATIVO_BATCHES": "arrow-ipc"}
PROGRAM = "dativo-source-files"


def config(folder: Path, *streams: dict[str, Any]) -> Path:
    """Write a configuration into ``folder``."""
    path = folder / "config.json"
    path.write_text(json.dumps({"streams": list(streams)}))
    return path


def verb(name: str, *options: str, env: dict[str, str] | None = None) -> list[Event]:
    """Run a verb; return its messages. Raises CalledProcessError."""
    done = subprocess.run(
        [executable(PROGRAM), name, *options], env=env or {}, check=True, capture_output=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def discovered(config_file: Path) -> list[dict[str, Any]]:
    """Return the streams of the catalogue."""
    [message] = verb("discover", "--config", str(config_file))
    streams: list[dict[str, Any]] = message["catalog"]["streams"]
    return streams


def configured(folder: Path, streams: list[dict[str, Any]]) -> Path:
    """Write a configured catalogue of all ``streams`` into ``folder``."""
    path = folder / "catalog.json"
    entries = [
        {"stream": entry, "sync_mode": "incremental", "destination_sync_mode": "append"}
        for entry in streams
    ]
    path.write_text(json.dumps({"streams": entries}))
    return path


def arguments(
    folder: Path, config_file: Path, streams: list[dict[str, Any]], states: list[Any]
) -> list[str]:
    """Return the command line of a read."""
    catalog = configured(folder, streams)
    argv = [
        executable(PROGRAM),
        "read",
        "--config",
        str(config_file),
        "--catalog",
        str(catalog),
    ]
    if states:
        (folder / "state.json").write_text(json.dumps(states))
        argv += ["--state", str(folder / "state.json")]
    return argv


def read(
    folder: Path,
    config_file: Path,
    streams: list[dict[str, Any]],
    states: list[Any] | None = None,
) -> tuple[list[Event], list[Any]]:
    """Read without batches; return all messages, and the last state of each stream as a state file has them."""
    argv = arguments(folder, config_file, streams, states or [])
    done = subprocess.run(argv, env={}, check=True, capture_output=True)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    last = {
        message["state"]["stream"]["stream_descriptor"]["name"]: message["state"]
        for message in messages
        if message["type"] == "STATE"
    }
    return messages, list(last.values())


def land(
    folder: Path,
    config_file: Path,
    streams: list[dict[str, Any]],
    *,
    batches: bool,
    states: list[Any] | None = None,
) -> tuple[Writer, dict[str, pa.Table]]:
    """Read into the writer; return it, ended, and what it wrote of each stream."""
    staging = folder / ("batches" if batches else "lines")
    staging.mkdir()
    declared = [stream(entry["name"], entry["json_schema"]) for entry in streams]
    argv = arguments(folder, config_file, streams, states or [])
    with Writer({**opening("airbyte", staging, declared), "batches": True}) as writer:
        env = BATCHES if batches else {}
        with subprocess.Popen(argv, env=env, stdout=writer.stdin) as source:
            writer.close_stdin()
            # Its end is waited for while the writer is answered.
            writer.finish()
            writer.drain()
        assert source.returncode == 0
    assert writer.status == 0, writer.of("error")
    tables = {}
    for entry in streams:
        files = [pq.read_table(staging / file["path"]) for file in writer.files(entry["name"])]
        if files:
            tables[entry["name"]] = pa.concat_tables(files)
    return writer, tables


def schema_of(streams: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the properties that a stream of the catalogue has."""
    [entry] = [entry for entry in streams if entry["name"] == name]
    properties: dict[str, Any] = entry["json_schema"]["properties"]
    return properties


def touch(path: Path, mtime_s: int) -> None:
    """Set the time of a file."""
    os.utime(path, (mtime_s, mtime_s))
