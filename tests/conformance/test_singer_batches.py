"""BATCH between a tap and a target that singer-sdk makes, unmodified: files in the run's exchange folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.conformance.environments import kept
from tests.integration.conftest import Workspace, plain_flags

ROWS = 25
TAP = """\
import sys
sys.path[:0] = [{site!r}]
from singer_sdk import Stream, Tap
from singer_sdk import typing as th


class Numbers(Stream):
    name = "numbers"
    primary_keys = ("id",)
    schema = th.PropertiesList(th.Property("id", th.IntegerType), th.Property("text", th.StringType)).to_dict()

    def get_records(self, context):
        yield from ({{"id": i, "text": f"row {{i}}"}} for i in range({rows}))


class TapNumbers(Tap):
    name = "tap-numbers"
    config_jsonschema = th.PropertiesList().to_dict()

    def discover_streams(self):
        return [Numbers(tap=self)]


TapNumbers.cli()
"""
TARGET = """\
import json, sys
sys.path[:0] = [{site!r}]
from singer_sdk import BatchSink, Target
from singer_sdk import typing as th


class Lines(BatchSink):
    def process_batch(self, context):
        with open(self.config["path"] + "/" + self.stream_name + ".jsonl", "a") as file:
            file.writelines(json.dumps(record) + "\\n" for record in context["records"])


class TargetLines(Target):
    name = "target-lines"
    default_sink_class = Lines
    config_jsonschema = th.PropertiesList(th.Property("path", th.StringType)).to_dict()


TargetLines.cli()
"""
MANIFEST = """\
name: {name}
version: 0.1.0
type: {type}
language: python
protocol: singer
entry_point: {{file: main.py}}
api_version: "1"
"""
JOB = """\
pipeline: batches
source:
  connector: ./plugins/tap
  config:
    batch_config:
      encoding: {{format: jsonl, compression: gzip}}
      storage: {{root: "file:///exchange"}}
      batch_size: 10
  grants: {{read: ["{site}"], exchange: 10MiB}}
target:
  connector: ./plugins/lines
  config: {{path: "${{JOB_DIR}}/out"}}
  grants: {{read: ["{site}"], write: [./out], exchange: 10MiB}}
"""


@pytest.fixture
def site(request: pytest.FixtureRequest) -> str:
    """The packages of the locked SDK, which both plugins are granted to read."""
    [found] = kept("singer-sdk", request.config).folder.glob("lib/python3*/site-packages")
    return str(found.resolve())


@pytest.fixture
def place(tmp_path: Path, site: str) -> Workspace:
    made = Workspace(tmp_path / "workspace", tmp_path / "home", flags=plain_flags())
    made.home.mkdir(mode=0o700)
    for name, kind, code in (("tap", "reader", TAP), ("lines", "writer", TARGET)):
        folder = made.folder / "plugins" / name
        folder.mkdir(parents=True)
        (folder / "plugin.yaml").write_text(MANIFEST.format(name=name, type=kind))
        (folder / "main.py").write_text(code.format(site=site, rows=ROWS))
    return made


def test_rows_pass_in_files(place: Workspace, site: str) -> None:
    place.job(JOB.format(site=site))
    assert place.dativo("grants", "approve", "job.yaml").status == 0
    result = place.run()
    assert result.status == 0, result.stderr
    stored = (place.folder / "out" / "numbers.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in stored] == [
        {"id": i, "text": f"row {i}"} for i in range(ROWS)
    ]
