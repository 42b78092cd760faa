"""Both public connectors into both targets: Airbyte's faker and a Singer tap, Iceberg and Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.conftest import Workspace, plain_flags

FAKER = """\
pipeline: shop
source:
  connector: airbyte:source-faker
  config: {{count: 500, seed: 7, always_updated: false, parallelism: 2}}
  streams: [users, products]
target:
  connector: {target}
  config: {{warehouse: ./{target}-lake, namespace: shop}}
"""
TAP = """\
pipeline: lines
source:
  connector: singer:tap-jsonl
  config: {{path: "${{JOB_DIR}}/lines.jsonl", primary_keys: [id]}}
  streams: ["*", "!jsonl.secret"]
  grants: {{read: [./lines.jsonl]}}
target:
  connector: {target}
  config: {{warehouse: ./{target}-lake, namespace: lines}}
"""
LINES: list[dict[str, Any]] = [
    {"id": i, "text": f"line {i} “ü”", "ratio": i / 8, "secret": "never lands", "list": [i]}
    for i in range(300)
]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with both connectors installed, once for this file."""
    folder = tmp_path_factory.mktemp("shelf")
    made = Workspace(folder / "workspace", folder / "home", flags=plain_flags())
    made.folder.mkdir()
    made.home.mkdir(mode=0o700)
    for reference in ("airbyte:source-faker==7.2.1", "singer:tap-jsonl==0.3.1"):
        added = made.dativo("plugin", "add", reference, *made.flags, timeout_s=900)
        assert added.status == 0, added.stderr
    (made.folder / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    yield made


def lake(shelf: Workspace, target: str) -> Workspace:
    """The same workspace, its ``lake`` being this target's warehouse."""
    found = Workspace(shelf.folder, shelf.home, flags=shelf.flags)
    found.lake_name = f"{target}-lake"
    return found


@pytest.mark.parametrize("target", ["iceberg", "parquet"])
def test_airbyte(shelf: Workspace, target: str) -> None:
    shelf.job(FAKER.format(target=target), f"faker-{target}.yaml")
    first = shelf.run(f"faker-{target}.yaml")
    assert first.status == 0, first.stderr
    found = lake(shelf, target)
    for stream in first.report["streams"]:
        name, job = stream["stream"], f"faker-{target}.yaml"
        assert stream["read"] == stream["written"] > 0
        assert found.read(target, f"shop.{name}", job=job) == stream["written"]
    again = shelf.run(f"faker-{target}.yaml")
    assert again.status == 0 and all(s["read"] == 0 for s in again.report["streams"])
    assert found.read(target, "shop.users", job=f"faker-{target}.yaml") == 500


@pytest.mark.parametrize("target", ["iceberg", "parquet"])
def test_singer(shelf: Workspace, target: str) -> None:
    job = f"tap-{target}.yaml"
    shelf.job(TAP.format(target=target), job)
    assert shelf.run(job).status == 8
    assert shelf.dativo("grants", "approve", job).status == 0
    told = shelf.run(job)
    assert told.status == 0, told.stderr
    [stream] = told.report["streams"]
    assert (stream["stream"], stream["read"], stream["written"]) == ("jsonl", 300, 300)
    found = lake(shelf, target)
    what = "count(*), count(DISTINCT id), sum(ratio), max(text)"
    truth = (300, 300, sum(line["ratio"] for line in LINES), max(line["text"] for line in LINES))
    assert found.read(target, "lines.jsonl", what, job=job) == truth
    state = json.loads(shelf.dativo("state", "show", job, *shelf.flags).stdout)
    assert [entry["kind"] for entry in state["states"]] == ["singer"]
    columns = found.read(target, "lines.jsonl", "COLUMNS(*)", job=job)
    assert "never lands" not in map(str, columns)
