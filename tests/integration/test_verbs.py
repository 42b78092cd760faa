"""`dativo spec`, `check` and `discover` of a plugin that the command line names, in either dialect, and of a job."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator

import pytest
from tests.integration.conftest import ROOT, Result, Workspace, plain_flags

TARGET = """\
name: sink
version: 0.1.0
type: writer
language: python
protocol: singer
entry_point: {file: sink.py}
api_version: "1"
"""
JOB = """\
pipeline: p
source:
  connector: tap
  config: {rows: 1}
target:
  connector: parquet
  config: {warehouse: ./lake, namespace: p}
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("verbs")
    made = Workspace(folder / "workspace", folder / "home", flags=plain_flags())
    made.folder.mkdir()
    made.home.mkdir(mode=0o700)
    made.plugin(ROOT / "tests/plugins/tap", "tap")
    made.plugin(ROOT / "examples/plugins/resumable", "resumable")
    sink = made.folder / "plugins/sink"
    sink.mkdir()
    (sink / "plugin.yaml").write_text(TARGET)
    (sink / "sink.py").write_text(
        'import sys\nprint(\'{"name": "sink", "argv": %r}\' % len(sys.argv))\n'
    )
    (made.folder / "ten.json").write_text('{"rows": 10}')
    made.job(JOB)
    yield made


def ask(shelf: Workspace, *arguments: str) -> Result:
    return shelf.dativo(*arguments, *shelf.flags)


def test_spec(shelf: Workspace) -> None:
    spec = json.loads(ask(shelf, "spec", "resumable").stdout)
    assert "rows" in spec["connectionSpecification"]["properties"]
    assert json.loads(ask(shelf, "spec", "sink").stdout) == {"name": "sink", "argv": 3}
    told = ask(shelf, "spec", "tap")
    assert told.status == 4 and "--about" in told.stderr
    assert ask(shelf, "spec", "resumable", "--as", "airbyte").status == 0
    other = ask(shelf, "spec", "resumable", "--as", "singer")
    assert other.status == 3 and "not translated" in other.stderr


@pytest.mark.parametrize("target", ["iceberg", "parquet"])
def test_dativos_own_targets(shelf: Workspace, target: str) -> None:
    folder = "warehouse" if target == "iceberg" else "path"
    spec = json.loads(ask(shelf, "spec", target).stdout)
    assert folder in spec["connectionSpecification"]["properties"]
    about = json.loads(ask(shelf, "spec", target, "--as", "singer").stdout)
    assert folder in about["settings"]["properties"]
    config = {folder: f"./{target}-lake", **({"namespace": "n"} if target == "iceberg" else {})}
    (shelf.folder / "target.json").write_text(json.dumps(config))
    told = ask(shelf, "check", target, "--config", "target.json")
    assert told.status == 0 and json.loads(told.stdout)["status"] == "SUCCEEDED", told.stderr
    (shelf.folder / f"{target}-file").write_text("")
    (shelf.folder / "target.json").write_text(json.dumps({**config, folder: f"./{target}-file"}))
    told = ask(shelf, "check", target, "--config", "target.json")
    assert told.status == 3 and json.loads(told.stdout)["status"] == "FAILED"
    assert ask(shelf, "check", target).status == 3


def test_check(shelf: Workspace) -> None:
    for plugin in ("tap", "resumable"):
        told = ask(shelf, "check", plugin, "--config", "ten.json")
        assert (told.status, json.loads(told.stdout)["status"]) == (0, "SUCCEEDED"), told.stderr
    assert ask(shelf, "check", "job.yaml").status == 0
    told = ask(shelf, "check", "job.yaml", "--config", "ten.json")
    assert told.status == 3 and "its own configuration" in told.stderr
    told = ask(shelf, "check", "sink")
    assert told.status == 3 and "cannot check" in told.stderr
    told = ask(shelf, "check", "none.yaml")
    assert told.status == 3 and "cannot read the job" in told.stderr


def test_discover(shelf: Workspace) -> None:
    singer = json.loads(
        ask(shelf, "discover", "resumable", "--config", "ten.json", "--as", "singer").stdout
    )
    [stream] = singer["streams"]
    assert (stream["tap_stream_id"], stream["replication_key"]) == ("numbers", "id")
    airbyte = json.loads(
        ask(shelf, "discover", "tap", "--config", "ten.json", "--as", "airbyte").stdout
    )
    assert [entry["name"] for entry in airbyte["streams"]] == ["a", "b"]
    own = json.loads(ask(shelf, "discover", "tap", "--config", "ten.json").stdout)
    assert own["streams"][0]["metadata"][0]["metadata"]["odd-key"] == [1.5]
    assert json.loads(ask(shelf, "discover", "job.yaml").stdout) == own
    assert json.loads(ask(shelf, "discover", "job.yaml", "--as", "airbyte").stdout) == airbyte
    told = ask(shelf, "discover", "sink")
    assert told.status == 3 and "nothing to discover" in told.stderr


def test_a_catalogue_is_asked_for_once(shelf: Workspace) -> None:
    """The answer is kept until the plugin or the configuration file changes, or somebody asks anew."""

    def kept() -> tuple[int, float]:
        with contextlib.closing(sqlite3.connect(next(shelf.home.rglob("ledger.db")))) as db:
            query = "SELECT count(*), max(stored_at) FROM documents WHERE kind = 'catalog'"
            count, stored_at = db.execute(query).fetchone()
            return count, stored_at

    arguments = ("read", "tap", "--config", "kept.json")
    (shelf.folder / "kept.json").write_text('{"rows": 1}')
    assert ask(shelf, *arguments).status == 0
    first = kept()
    assert ask(shelf, *arguments).status == 0 and kept() == first
    assert ask(shelf, *arguments, "--refresh-catalog").status == 0
    again = kept()
    assert again[0] == first[0] and again[1] > first[1]
    (shelf.folder / "kept.json").write_text('{"rows": 2}')
    assert ask(shelf, *arguments).status == 0
    assert kept()[0] == first[0] + 1


def test_a_schema_that_cannot_be_translated_is_the_plugins(shelf: Workspace) -> None:
    folder = shelf.folder / "plugins/remote"
    folder.mkdir()
    text = (ROOT / "examples/plugins/resumable/source.py").read_text()
    text = text.replace(
        '"id": {"type": "integer"}', '"id": {"$ref": "http://example.invalid/id.json"}'
    )
    (folder / "source.py").write_text(text)
    manifest = (ROOT / "examples/plugins/resumable/plugin.yaml").read_text()
    (folder / "plugin.yaml").write_text(manifest.replace("name: resumable", "name: remote"))
    catalog = shelf.folder / "all.json"
    catalog.write_text(
        '{"streams": [{"tap_stream_id": "numbers", "stream": "numbers", "schema": {}}]}'
    )
    for more in ((), ("--catalog", "all.json")):
        told = ask(shelf, "read", "remote", "--config", "ten.json", "--as", "singer", *more)
        assert (told.status, told.stdout) == (7, ""), told.stderr
        assert "plugin remote" in told.stderr and "another document" in told.stderr
        assert "all.json" not in told.stderr
