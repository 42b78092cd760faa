"""`dativo-target-parquet` and `dativo-target-iceberg` at the end of a pipe of the test's own."""

from __future__ import annotations

import json
import subprocess
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.conftest import Result, Workspace, descendants

SCRIPTS = Path(sysconfig.get_path("scripts"))

# Only what `dativo files` needs to find the same pipeline.
JOB = """\
pipeline: {pipeline}
source: {{connector: ./plugins/none}}
target:
  connector: {target}
  config: {{warehouse: ./lake, namespace: main}}
"""


def lines(*messages: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


# --- Singer ----------------------------------------------------------------------------------------------------------------


def schema(stream: str = "users", **properties: Any) -> dict[str, Any]:
    return {
        "type": "SCHEMA",
        "stream": stream,
        "schema": {
            "type": "object",
            "properties": properties or {"id": {"type": "integer"}, "name": {"type": "string"}},
        },
        "key_properties": ["id"],
    }


def record(id: int, stream: str = "users", **more: Any) -> dict[str, Any]:
    return {"type": "RECORD", "stream": stream, "record": {"id": id, "name": f"n{id}"}, **more}


def state(value: Any) -> dict[str, Any]:
    return {"type": "STATE", "value": value}


def activate(version: int, stream: str = "users") -> dict[str, Any]:
    return {"type": "ACTIVATE_VERSION", "stream": stream, "version": version}


# --- Airbyte ---------------------------------------------------------------------------------------------------------------


def configured(stream: str = "users", mode: str = "append", **more: Any) -> dict[str, Any]:
    return {
        "stream": {
            "name": stream,
            "json_schema": schema()["schema"],
            "supported_sync_modes": ["full_refresh"],
        },
        "sync_mode": "full_refresh",
        "destination_sync_mode": mode,
        **more,
    }


def airbyte_record(id: int, stream: str = "users") -> dict[str, Any]:
    data = {"id": id, "name": f"n{id}"}
    return {"type": "RECORD", "record": {"stream": stream, "data": data, "emitted_at": 1}}


def airbyte_state(value: Any, stream: str | None = "users") -> dict[str, Any]:
    if stream is None:
        return {
            "type": "STATE",
            "state": {"type": "GLOBAL", "global": {"shared_state": value, "stream_states": []}},
        }
    of = {"stream_descriptor": {"name": stream}, "stream_state": value}
    return {"type": "STATE", "state": {"type": "STREAM", "stream": of}}


def airbyte_status(said: str, stream: str = "users") -> dict[str, Any]:
    status = {"stream_descriptor": {"name": stream}, "status": said}
    return {
        "type": "TRACE",
        "trace": {"type": "STREAM_STATUS", "emitted_at": 1.5, "stream_status": status},
    }


# --- the process -----------------------------------------------------------------------------------------------------------


@dataclass
class Target:
    """One of the two executables, a workspace, and what is in the warehouse afterwards."""

    workspace: Workspace
    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    def configure(self, **settings: Any) -> None:
        """Write c.json."""
        folder = "path" if self.name == "parquet" else "warehouse"
        said = {folder: "./lake", "namespace": "main", **settings}
        (self.workspace.folder / "c.json").write_text(json.dumps(said))
        self.settings = settings

    def catalog(self, *streams: dict[str, Any]) -> None:
        """Write cat.json."""
        text = json.dumps({"streams": streams})
        (self.workspace.folder / "cat.json").write_text(text)

    def start(
        self, *arguments: str, stdin: Any = subprocess.PIPE, stdout: Any = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.workspace.prefix, str(SCRIPTS / f"dativo-target-{self.name}"), *arguments],
            cwd=self.workspace.folder,
            env=self.workspace.environment(),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
        )

    def command(self, *arguments: str, given: bytes = b"", timeout_s: float = 120) -> Result:
        process = self.start(*arguments)
        try:
            stdout, stderr = process.communicate(given, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Result(process.returncode, stdout.decode(), stderr.decode())

    def pour(self, given: bytes, *more: str) -> Result:
        """Run it as a Singer target."""
        return self.command("--config", "c.json", *self.workspace.flags, *more, given=given)

    def write(self, given: bytes) -> Result:
        """Run it as an Airbyte destination."""
        documents = ("--config", "c.json", "--catalog", "cat.json")
        return self.command("write", *documents, *self.workspace.flags, given=given)

    def ids(self, stream: str = "users") -> list[int]:
        """Return the ids that readers see, in order; none where there is no table or file."""
        pipeline = self.settings.get("pipeline", "pipe")
        what = "coalesce(list(id ORDER BY id), [])"
        if self.name == "iceberg":
            if f"main.{stream}" not in self.workspace.tables():
                return []
            return list(self.workspace.count(f"main.{stream}", what) or [])
        self.workspace.job(JOB.format(pipeline=pipeline, target=self.name), "read.yaml")
        listed = self.workspace.dativo("files", "read.yaml", "--view", *self.workspace.flags)
        assert listed.status == 0, listed.stderr
        if f'"{stream}"' not in listed.stdout and f" {stream} " not in listed.stdout:
            return []
        return list(self.workspace.read("parquet", stream, what, "read.yaml") or [])


def states(result: Result) -> list[Any]:
    """Return the values on stdout."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def messages(result: Result, kind: str) -> list[Any]:
    """Return the payloads of one type on stdout."""
    found = [json.loads(line) for line in result.stdout.splitlines()]
    return [message[kind.lower()] for message in found if message["type"] == kind]


def wait_for(reached: Callable[[], Any], timeout_s: float = 30) -> Any:
    """Return what ``reached`` gives once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := reached()):
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.02)
    return found


def committer_pids(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the committer's interpreter below a target, by its command line."""
    found = []
    for pid in descendants(process.pid):
        try:
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # ended meanwhile
        if len(argv) > 3 and argv[1:3] == [b"-I", b"-m"] and b"plugins" in argv[3]:
            found.append(pid)
    return found
