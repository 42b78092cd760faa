"""Targets from PyPI, unmodified, and a destination made with Airbyte's CDK, behind sources of both dialects.

target-jsonl and the destination are plugins of the workspace here, their packages beside them; test_examples.py has target-jsonl
as `dativo plugin add` builds it.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import DATIVO, ROOT, Workspace, plain_flags

LINES: list[dict[str, Any]] = [
    {"id": i, "text": f"line {i} “ü”", "ratio": i / 8, "secret": "never lands", "list": [i]}
    for i in range(300)
]
SOURCES = {
    "tap": """\
  connector: singer:tap-jsonl
  config: {path: "${JOB_DIR}/lines.jsonl", primary_keys: [id]}
  streams: ["*", "!jsonl.secret"]
  grants: {read: [./lines.jsonl]}
""",
    "resumable": """\
  connector: ./plugins/resumable
  config: {rows: 2000, state_every: 100, streams: 2}
""",
    "faker": """\
  connector: airbyte:source-faker
  config: {count: 200, seed: 7, always_updated: false, parallelism: 2}
  streams: [users, products]
""",
}
TARGETS = {
    "jsonl": ("./plugins/jsonl", 'destination_path: "${OUT}"'),
    "csv": (
        "singer:meltanolabs-target-csv",
        'output_path: "${OUT}"',
    ),
    "duckdb": (
        "singer:target-duckdb",
        'path: "${OUT}/x.duckdb", default_target_schema: main, batch_size_rows: 700',
    ),
    "cdk": ("./plugins/destination", 'path: "${OUT}"'),
}
MANIFEST = """\
name: jsonl
version: 0.1.4
type: writer
language: python
protocol: singer
entry_point: {file: run.py}
api_version: "1"
"""
RUN = """\
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "site"))
from target_jsonl import main
main()
"""


def install(packages: list[str], folder: Path) -> None:
    """Put packages beside a plugin, for the Python that dativo starts it with; copied, since a linked file has a second owner."""
    uv = str(Path(sysconfig.get_path("scripts")) / "uv")
    where = ("--python", sys.executable, "--target", str(folder / "site"))
    done = subprocess.run(
        [uv, "pip", "install", "--quiet", "--link-mode=copy", *where, *packages],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with all of them installed, once for this file."""
    folder = tmp_path_factory.mktemp("shelf")
    made = Workspace(folder / "workspace", folder / "home", flags=plain_flags())
    made.folder.mkdir()
    made.home.mkdir(mode=0o700)
    for reference in (
        "singer:tap-jsonl==0.3.1",
        "singer:meltanolabs-target-csv==0.5.0",
        "singer:target-duckdb==0.8.0",
        "airbyte:source-faker==7.2.1",
    ):
        added = made.dativo("plugin", "add", reference, *made.flags, timeout_s=900)
        assert added.status == 0, added.stderr
    made.plugin(ROOT / "examples/plugins/resumable", "resumable")
    made.plugin(ROOT / "tests/plugins/destination", "destination")
    install(["airbyte-cdk==6.61.6"], made.folder / "plugins/destination")
    jsonl = made.folder / "plugins/jsonl"
    jsonl.mkdir()
    (jsonl / "plugin.yaml").write_text(MANIFEST)
    (jsonl / "run.py").write_text(RUN)
    install(["target-jsonl==0.1.4"], jsonl)
    (made.folder / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    yield made


def job(shelf: Workspace, source: str, target: str, more: str = "") -> str:
    """Write and approve the job of a pair; what it stores lies in the folder of its name."""
    connector, config = TARGETS[target]
    name = f"{source}-{target}"
    shelf.job(
        f"pipeline: {name}\nsource:\n{SOURCES[source]}target:\n  connector: {connector}\n"
        f"  config: {{{config.replace('${OUT}', '${JOB_DIR}/' + name)}{more}}}\n"
        f"  grants: {{write: [./{name}]}}\n",
        f"{name}.yaml",
    )
    approved = shelf.dativo("grants", "approve", f"{name}.yaml")
    assert approved.status == 0, approved.stderr
    return f"{name}.yaml"


def rows(shelf: Workspace, pair: str, stream: str) -> list[dict[str, Any]]:
    """What a target has stored of a stream, with the names and values that its format has."""
    folder = shelf.folder / pair
    if pair.endswith("csv"):
        return list(csv.DictReader((folder / f"{stream}.csv").read_text().splitlines()))
    if pair.endswith("duckdb"):
        # By the target's own DuckDB: an older one cannot read what a newer one wrote.
        [python] = shelf.home.glob("dativo/store/plugins/target-duckdb/*/env/bin/python")
        code = "import duckdb, json, sys; db = duckdb.connect(sys.argv[1], read_only=True); "
        code += "found = db.sql('SELECT * FROM ' + sys.argv[2]); "
        code += "rows = [dict(zip(found.columns, row)) for row in found.fetchall()]; "
        code += "print(json.dumps(rows, default=str))"
        command = [str(python), "-c", code, str(folder / "x.duckdb"), f'main."{stream}"']
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return list(json.loads(done.stdout))
    # target-jsonl makes a file for each run, stream-20261123T213000.jsonl.
    files = [*folder.glob(f"{stream}.jsonl"), *folder.glob(f"{stream}-2*.jsonl")]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.mark.parametrize("target", TARGETS)
def test_a_tap_into_any_target(shelf: Workspace, target: str) -> None:
    name = job(shelf, "tap", target)
    told = shelf.run(name)
    assert told.status == 0, told.stderr
    [stream] = told.report["streams"]
    assert (stream["stream"], stream["read"], stream["written"]) == ("jsonl", 300, 300)
    assert told.report["acknowledged"] >= 1 and not told.report["notices"]
    stored = rows(shelf, f"tap-{target}", "jsonl")
    # target-duckdb 0.8.0 takes the first row of this stream for a header and drops it, behind a bare tap too.
    lines = LINES[1:] if target == "duckdb" else LINES
    assert sorted(int(row["id"]) for row in stored) == [line["id"] for line in lines]
    assert {row["text"] for row in stored} == {line["text"] for line in lines}
    assert sum(float(row["ratio"]) for row in stored) == sum(line["ratio"] for line in lines)
    assert "never lands" not in str(stored)
    state = json.loads(shelf.dativo("state", "show", name, *shelf.flags).stdout)
    assert [entry["kind"] for entry in state["states"]] == ["singer"]


@pytest.mark.parametrize("target", TARGETS)
def test_an_airbyte_source_into_any_target(shelf: Workspace, target: str) -> None:
    name = job(shelf, "resumable", target)
    told = shelf.run(name)
    assert told.status == 0, told.stderr
    for stream in ("numbers", "numbers_2"):
        stored = rows(shelf, f"resumable-{target}", stream)
        assert sorted(int(row["id"]) for row in stored) == list(range(2000))
        assert sum(int(row["value"]) for row in stored) == sum(
            i * 2654435761 % 2**32 for i in range(2000)
        )
    state = json.loads(shelf.dativo("state", "show", name, *shelf.flags).stdout)
    assert [json.loads(entry["state"])["stream"]["stream_state"] for entry in state["states"]] == [
        {"next": 2000},
        {"next": 2000},
    ]
    again = shelf.run(name)
    assert again.status == 0, again.stderr
    assert all(stream["read"] == 0 for stream in again.report["streams"])
    if target != "csv":  # it begins its files anew with every run
        assert len(rows(shelf, f"resumable-{target}", "numbers")) == 2000


@pytest.mark.parametrize("target", ["jsonl", "cdk"])
def test_the_faker_into_both_dialects(shelf: Workspace, target: str) -> None:
    told = shelf.run(job(shelf, "faker", target))
    assert told.status == 0, told.stderr
    for stream in told.report["streams"]:
        stored = rows(shelf, f"faker-{target}", stream["stream"])
        assert len(stored) == stream["read"] == stream["written"] > 0
    assert len(rows(shelf, f"faker-{target}", "users")) == 200


def test_a_destination_is_told_what_it_gets_and_that_it_got_all(shelf: Workspace) -> None:
    folder = shelf.folder / "resumable-cdk"
    if not folder.exists():
        assert shelf.run(job(shelf, "resumable", "cdk")).status == 0
    catalog = json.loads((folder / "_catalog.json").read_text())
    for stream in catalog["streams"]:
        assert stream["destination_sync_mode"] == "append"
        assert (stream["generation_id"], stream["minimum_generation_id"]) == (1, 0)
        assert stream["sync_id"] > 1_700_000_000_000
    first = [json.loads(line) for line in (folder / "_status.jsonl").read_text().splitlines()][:4]
    assert sorted((line["status"], line["stream"]) for line in first) == [
        ("COMPLETE", "numbers"),
        ("COMPLETE", "numbers_2"),
        ("STARTED", "numbers"),
        ("STARTED", "numbers_2"),
    ]


def test_a_destination_that_dies_loses_no_row(shelf: Workspace) -> None:
    name = job(shelf, "resumable", "cdk", more=", die_after: 1500")
    shelf.job((shelf.folder / name).read_text().replace("resumable-cdk", "dies-cdk"), "dies.yaml")
    assert shelf.dativo("grants", "approve", "dies.yaml").status == 0
    told = shelf.run("dies.yaml")
    assert told.status == 5, told.stderr
    assert "COMPLETE" not in (shelf.folder / "dies-cdk/_status.jsonl").read_text()
    assert 0 < told.report["acknowledged"] <= 15
    text = (shelf.folder / "dies.yaml").read_text().replace("die_after: 1500", "pause_s: 0")
    shelf.job(text, "dies.yaml")
    assert shelf.dativo("grants", "approve", "dies.yaml").status == 0
    told = shelf.run("dies.yaml")
    assert told.status == 0, told.stderr
    for stream in ("numbers", "numbers_2"):
        stored = rows(shelf, "dies-cdk", stream)
        assert {row["id"] for row in stored} == set(range(2000))
        assert len(stored) < 2800


def test_a_plain_pipe_into_a_destination(shelf: Workspace) -> None:
    """dativo write: a tap's lines into an Airbyte destination, which is told that all is there only if we say so."""
    config = shelf.folder / "write.json"
    config.write_text(json.dumps({"path": str(shelf.folder / "piped")}))
    key = {"key_properties": ["id"], "schema": {"properties": {"id": {"type": "integer"}}}}
    catalog = {"streams": [{"tap_stream_id": "rows", "stream": "rows", **key}]}
    (shelf.folder / "catalog.json").write_text(json.dumps(catalog))
    lines: list[dict[str, Any]] = [{"type": "SCHEMA", "stream": "rows", **key}]
    lines += [{"type": "RECORD", "stream": "rows", "record": {"id": i}} for i in range(100)]
    lines += [{"type": "STATE", "value": {"bookmarks": {"rows": {"id": 99}}}}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for flags, complete in (((), False), (("--eof", "commit"), True)):
        options = ["--as", "singer", "--config", "write.json", "--catalog", "catalog.json"]
        options += ["--rw", "./piped"]
        done = subprocess.run(
            [str(DATIVO), "write", "./plugins/destination", *options, *flags, *shelf.flags],
            input=text,
            capture_output=True,
            text=True,
            timeout=200,
            cwd=shelf.folder,
            env=shelf.environment(),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"bookmarks": {"rows": {"id": 99}}}
        statuses = (shelf.folder / "piped/_status.jsonl").read_text()
        assert ("COMPLETE" in statuses) is complete
    assert len((shelf.folder / "piped/rows.jsonl").read_text().splitlines()) == 200


def test_as_root_the_next_run_may_write_what_this_one_wrote(shelf: Workspace) -> None:
    if os.geteuid() != 0:
        pytest.skip("as a plain user everything runs as that user")
    folder = shelf.folder / "resumable-csv"
    if not folder.exists():
        assert shelf.run(job(shelf, "resumable", "csv")).status == 0
    owner = folder.stat()
    assert owner.st_uid != 0
    assert {file.stat().st_uid for file in folder.iterdir()} == {owner.st_uid}
