"""Drive a real committer process over its control socket, with Parquet files made as the writer would make them."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq

import dativo.schemas
from dativo.protocol import events
from dativo.protocol.control import Channel

ANSWER_DEADLINE_S = 60.0
EVENTS = jsonschema.Draft202012Validator(
    json.loads(Path(dativo.schemas.__path__[0], "events.json").read_text())
)
RUNNER = Path(__file__).with_name("kill_runner.py")
USERS: tuple[tuple[str, str], ...] = (("id", "long"), ("name", "string"))

_ARROW: dict[str, Any] = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "string": pa.string(),
    "binary": pa.binary(),
}


def arrow_type(planned: Any) -> Any:
    """Return the Arrow type of a planned one, with the field ids that the writer puts into its files."""
    if isinstance(planned, str):
        if planned.startswith("decimal("):
            precision, scale = planned[len("decimal(") : -1].split(",")
            return pa.decimal128(int(precision), int(scale))
        return _ARROW[planned]
    if planned["type"] == "struct":
        return pa.struct([arrow_field(field) for field in planned["fields"]])
    if planned["type"] == "list":
        return pa.list_(_with_id("element", planned["element"], planned["element_id"]))
    key = _with_id("key", "string", planned["key_id"], required=True)
    return pa.map_(key, _with_id("value", planned["value"], planned["value_id"]))


def arrow_field(column: dict[str, Any]) -> Any:
    return _with_id(column["column"], column["type"], column["field_id"])


def _with_id(name: str, planned: Any, field_id: int, *, required: bool = False) -> Any:
    metadata = {"PARQUET:field_id": str(field_id)}
    return pa.field(name, arrow_type(planned), not required, metadata)


def by_column(value: Any, planned: Any) -> Any:
    """Return a value of a record with the names of columns in place of properties; text of what the plan has a string for."""
    if value is None:
        return None
    if isinstance(planned, str):
        return json.dumps(value) if isinstance(value, dict | list) else value
    if planned["type"] == "struct":
        return {
            field["column"]: by_column(value.get(field["property"]), field["type"])
            for field in planned["fields"]
        }
    if planned["type"] == "list":
        return [by_column(item, planned["element"]) for item in value]
    return [(key, by_column(item, planned["value"])) for key, item in value.items()]


def stream(name: str, namespace: str | None = None) -> dict[str, str | None]:
    return {"namespace": namespace, "name": name}


def state(name: str, text: str) -> dict[str, Any]:
    return {"kind": "stream", "stream": stream(name), "text": text}


@dataclass(frozen=True)
class Killed(Exception):
    """The process ended before it answered."""

    status: int


@dataclass
class Warehouse:
    """A warehouse folder as the kernel hands it to a committer."""

    root: Path
    plugin: str
    runs: int = 0
    processes: list[Committer] = field(default_factory=list)

    def new_run(self) -> str:
        self.runs += 1
        return f"run-{self.runs}"

    def staging(self, run: str) -> Path:
        path = self.root / "_dativo" / "staging" / run
        path.mkdir(parents=True, exist_ok=True)
        return path

    def start(
        self,
        run: str | None = None,
        kill: Sequence[str] = (),
        max_file_bytes: int | None = None,
        **changes: object,
    ) -> Committer:
        committer = Committer(self, run or self.new_run(), kill, max_file_bytes, changes)
        self.processes.append(committer)
        return committer

    def opened(self, **changes: Any) -> Committer:
        committer = self.start(**changes)
        committer.open()
        return committer

    def end(self) -> None:
        for committer in self.processes:
            committer.end()

    def pointer(self, table: str, namespace: str = "shop") -> str:
        with sqlite3.connect(self.root / "catalog.db") as connection:
            row = connection.execute(
                "SELECT metadata_location FROM iceberg_tables WHERE table_namespace = ? AND table_name = ?",
                (namespace, table),
            ).fetchone()
        connection.close()
        return str(row[0])

    def live_files(self, table: str, namespace: str = "shop") -> list[Path]:
        """Return the data files a reader sees: of Iceberg by DuckDB, of the Parquet log by reading it."""
        if self.plugin == "iceberg":
            rows = reader().execute(
                "SELECT file_path FROM iceberg_metadata(?)", [self.pointer(table, namespace)]
            )
            return [Path(row[0]) for row in rows.fetchall()]
        live: dict[str, None] = {}
        for entry in self.log_entries(namespace):
            live |= dict.fromkeys(file["path"] for file in entry["added"])
            for path in entry.get("removed", []):
                live.pop(path, None)
        return [self.root / namespace / path for path in live if path.startswith(f"{table}/")]

    def log_entries(self, namespace: str = "shop", pipeline: str = "shop") -> list[dict[str, Any]]:
        log = self.root / namespace / "_dativo" / pipeline / "log"
        names = sorted(path for path in log.glob("*.json") if len(path.stem) == 20)
        return [json.loads(path.read_text()) for path in names]

    def rows(self, table: str, columns: str = "id", namespace: str = "shop") -> list[Any]:
        """Return the table's rows, sorted, as DuckDB reads them."""
        if self.plugin == "iceberg":
            source = f"iceberg_scan('{self.pointer(table, namespace)}')"
        else:
            paths = [str(path) for path in self.live_files(table, namespace)]
            if not paths:
                return []
            source = f"read_parquet({paths!r}, union_by_name=true)"
        found = reader().execute(f"SELECT {columns} FROM {source} ORDER BY ALL").fetchall()
        return [row[0] if len(row) == 1 else row for row in found]

    def placed_files(self) -> set[Path]:
        """Return every Parquet file outside staging."""
        staging = self.root / "_dativo" / "staging"
        return {path for path in self.root.rglob("*.parquet") if staging not in path.parents}

    def hidden_files(self) -> set[Path]:
        """Return the files of pending generations, as they are recorded."""
        if self.plugin == "iceberg":
            with sqlite3.connect(self.root / "catalog.db") as connection:
                rows = connection.execute(
                    "SELECT path FROM dativo_files WHERE status = 'hidden'"
                ).fetchall()
            connection.close()
            return {self.root / row[0] for row in rows}
        hidden: set[str] = set()
        for entry in self.log_entries():
            hidden |= {file["path"] for file in entry.get("hidden", [])}
            hidden -= {file["path"] for file in entry["added"]} | set(entry.get("removed", []))
        return {self.root / "shop" / path for path in hidden}

    def committed(self) -> tuple[int, list[Any]]:
        """Return epoch and published states as they are kept."""
        if self.plugin == "iceberg":
            with sqlite3.connect(self.root / "catalog.db") as connection:
                epoch, states = connection.execute(
                    "SELECT epoch, states FROM dativo_state"
                ).fetchone()
            connection.close()
            return epoch, json.loads(states)
        entries = self.log_entries()
        return (entries[-1]["epoch"], entries[-1]["states"]) if entries else (0, [])


class Committer:
    """One committer process and the kernel's end of its socket."""

    def __init__(
        self,
        warehouse: Warehouse,
        run: str,
        kill: Sequence[str],
        max_file_bytes: int | None,
        changes: dict[str, object],
    ) -> None:
        self.warehouse = warehouse
        self.run = run
        self.staging = warehouse.staging(run)
        self.changes = changes
        self.plans: dict[str, dict[str, Any]] = {}
        self.sequence = 0
        self._files = 0
        ours, theirs = socket.socketpair()
        ours.settimeout(ANSWER_DEADLINE_S)
        module = f"dativo.plugins.{warehouse.plugin}"
        start = [str(RUNNER), warehouse.plugin, *kill] if kill else ["-m", module]

        def hand_over() -> None:
            os.dup2(theirs.fileno(), 3)
            if max_file_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))

        self.process = subprocess.Popen(
            [sys.executable, "-I", *start],
            preexec_fn=hand_over,
            close_fds=False,
            env={},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        theirs.close()
        self.channel = Channel(ours)

    def send(self, **said: object) -> None:
        event = {"input": "0", **said}
        if event["type"] == "stream_schema" or "contracts" in event:
            EVENTS.validate(event)
        if event["type"] == "sealed" and event.pop("inspected", True):
            self._send_inspected(event)
        self.channel.send(event)

    def _send_inspected(self, sealed: dict[str, Any]) -> None:
        """Be an inspector that finds every file to be what it is said to be."""
        for file in sealed["files"]:
            facts = {key: file[key] for key in ("path", "rows", "bytes", "sha256")}
            event = {"type": "inspected", "input": "0", "sequence": sealed["sequence"], **facts}
            columns = file.get("columns", [])
            self.channel.send({**event, "columns": columns})

    def receive(self) -> dict[str, Any]:
        try:
            event = self.channel.receive()
        except ConnectionResetError:
            event = None
        if event is None:
            raise Killed(self.process.wait(ANSWER_DEADLINE_S))
        EVENTS.validate(event)
        events.parse(event)
        return event

    def open(self) -> dict[str, Any]:
        hello = self.receive()
        assert hello["type"] == "hello"
        assert hello["protocol"] == "1.0"
        self.send(
            **{
                "type": "open",
                "run": self.run,
                "pipeline": "shop",
                "partition": "",
                "owner": "default/shop",
                "warehouse": str(self.warehouse.root),
                "namespace": "shop",
                "staging": str(self.staging),
                "mode": "append",
                **self.changes,
            }
        )
        return self.receive()

    def plan(
        self,
        name: str,
        columns: Sequence[tuple[str, Any]] = USERS,
        *,
        namespace: str | None = None,
        revision: int = 1,
        **more: object,
    ) -> dict[str, Any]:
        self.send(
            type="stream_schema",
            stream=stream(name, namespace),
            revision=revision,
            key=[],
            columns=[{"property": prop, "type": kind} for prop, kind in columns],
            **more,
        )
        answer = self.receive()
        if answer["type"] == "stream_plan":
            self.plans[name] = answer
        return answer

    def stage(
        self,
        name: str,
        rows: list[dict[str, Any]],
        *,
        namespace: str | None = None,
        version: int | None = None,
    ) -> dict[str, Any]:
        """Write a file for the planned stream and return its item of ``sealed.files``."""
        plan = self.plans[name]
        fields = []
        arrays = []
        for column in plan["columns"]:
            fields.append(arrow_field(column))
            values = [by_column(row.get(column["property"]), column["type"]) for row in rows]
            arrays.append(pa.array(values, fields[-1].type))
        self._files += 1
        path = self.staging / f"{self._files:06d}-0000.parquet"
        table = pa.table(arrays, schema=pa.schema(fields))
        # As the writer does: no schema of Arrow, decimals as whole numbers where they fit.
        as_ours: dict[str, Any] = {"store_schema": False, "store_decimal_as_integer": True}
        pq.write_table(table, path, compression="zstd", **as_ours)
        item = self.manifest(path, name, len(rows), plan["revision"], namespace)
        return item if version is None else {**item, "version": version}

    def manifest(
        self, path: Path, name: str, rows: int, revision: int = 1, namespace: str | None = None
    ) -> dict[str, Any]:
        data = path.read_bytes()
        return {
            "stream": stream(name, namespace),
            "revision": revision,
            "path": path.name,
            "rows": rows,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }

    def seal(
        self,
        files: list[dict[str, Any]],
        states: list[dict[str, Any]],
        *,
        complete: bool | None = None,
        activations: dict[str, int] | None = None,
    ) -> dict[str, Any]:
        """Send an epoch and return the answer; with ``complete`` it is the final one."""
        self.send_sealed(files, states, complete=complete, activations=activations)
        return self.receive()

    def send_sealed(
        self,
        files: list[dict[str, Any]],
        states: list[dict[str, Any]],
        *,
        complete: bool | None = None,
        activations: dict[str, int] | None = None,
    ) -> None:
        self.sequence += 1
        self.send(
            type="sealed",
            sequence=self.sequence,
            final=complete is not None,
            files=files,
            states=states,
            counts=[],
            complete=bool(complete),
            activations=[
                {"stream": stream(name), "version": version}
                for name, version in (activations or {}).items()
            ],
        )

    def close(self) -> int:
        self.send(type="close")
        assert self.receive()["type"] == "closed"
        return self.status()

    def status(self) -> int:
        return self.process.wait(ANSWER_DEADLINE_S)

    def end(self) -> None:
        self.channel.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(ANSWER_DEADLINE_S)
        if self.process.stderr is not None:
            self.process.stderr.close()


def reader() -> duckdb.DuckDBPyConnection:
    """Return DuckDB with its own Iceberg reader, offline."""
    extensions = Path(duckdb.__file__).parents[1] / "duckdb_ext" / "extensions"
    connection = duckdb.connect(
        config={"extension_directory": str(extensions), "autoinstall_known_extensions": "false"}
    )
    connection.execute("LOAD avro")
    connection.execute("LOAD iceberg")
    return connection
