"""Files that a source leaves for a foreign target in the run's exchange folder."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from tests.integration.conftest import ROOT, Result, Workspace, reader

JOB = """\
pipeline: files
source:
  connector: ./plugins/batches
  config: {{root: {root}, rows: 1000, files: 4, mode: {mode}}}
  grants: {{{source}}}
target:
  connector: ./plugins/target
  config: {{path: "${{JOB_DIR}}/out", mode: {target_mode}}}
  grants: {{write: [./out], {target}}}
"""
WITHIN_S = 60


@pytest.fixture
def place(workspace: Workspace) -> Workspace:
    workspace.plugin(ROOT / "tests/plugins/batches", "batches")
    workspace.plugin(ROOT / "tests/plugins/target", "target")
    return workspace


def write_job(
    place: Workspace,
    *,
    mode: str = "good",
    root: str = "/exchange",
    source: str = "exchange: 10MiB",
    target: str = "exchange: 10MiB",
    target_mode: str = "good",
) -> None:
    place.job(
        JOB.format(root=root, mode=mode, source=source, target=target, target_mode=target_mode)
    )


def run(place: Workspace) -> Result:
    approved = place.dativo("grants", "approve", "job.yaml")
    assert approved.status == 0, approved.stderr
    return place.run()


def stored(place: Workspace) -> list[int]:
    file = place.folder / "out" / "numbers.jsonl"
    text = file.read_text() if file.exists() else ""
    return [json.loads(line)["id"] for line in text.splitlines()]


def left(place: Workspace) -> list[Path]:
    return list((place.home / "dativo" / "state" / "exchange").glob("*"))


def test_rows_go_by_files_that_are_gone_afterwards(place: Workspace) -> None:
    write_job(place)
    asked = place.run()
    assert asked.status == 8 and asked.stderr.count("limit exchange 10MiB") == 2
    result = run(place)
    assert result.status == 0, result.stderr
    assert stored(place) == list(range(1000))
    assert left(place) == []
    assert any("exchange folder" in notice for notice in result.report["notices"])
    state = place.dativo("state", "show", "job.yaml", *place.flags)
    assert r"{\"files\": 4}" in state.stdout or '"files"' in state.stdout


def test_without_the_grant_there_is_no_folder_and_no_batch(place: Workspace) -> None:
    write_job(place, source="", target="")
    result = run(place)
    assert result.status == 4 and "/exchange" in result.stderr
    # Its own /tmp: the file is there, and nobody is told of it.
    write_job(place, source="", target="", root="/tmp")
    result = run(place)
    assert result.status == 7 and "message.batch" in result.stderr
    assert stored(place) == []


@pytest.mark.parametrize(
    ("mode", "status", "said"),
    [
        ("outside", 7, "no plain file:// path below the exchange folder"),
        ("link", 4, "exit status 1"),
        ("fills", 6, "the exchange folder holds more than 10MiB"),
    ],
)
def test_hostile_sources(place: Workspace, mode: str, status: int, said: str) -> None:
    write_job(place, mode=mode)
    result = run(place)
    assert result.status == status and said in result.stderr, result.stderr
    assert mode != "link" or "PermissionError" in result.stderr
    assert stored(place) == [] and left(place) == []


@pytest.mark.parametrize(
    ("source", "target", "lacking"),
    [("exchange: 1MiB", "", "target"), ("", "exchange: 1MiB", "source")],
)
def test_one_alone_has_nobody_to_exchange_with(
    place: Workspace, source: str, target: str, lacking: str
) -> None:
    write_job(place, source=source, target=target)
    result = run(place)
    assert result.status == 3 and f"Write {lacking}.grants.exchange: 1MiB" in result.stderr


OWN = """\
pipeline: files
source:
  connector: ./plugins/batches
  config: {{root: {root}, rows: 1000, files: 4, mode: {mode}}}
  grants: {{{source}}}
target:
  connector: {target}
  config: {{warehouse: ./lake, namespace: files}}
  epoch: {{rows: 1}}
"""


def own(
    place: Workspace,
    target: str = "parquet",
    *,
    mode: str = "good",
    root: str = "/exchange",
    source: str = "exchange: 10MiB",
) -> None:
    place.job(OWN.format(root=root, mode=mode, source=source, target=target))


@pytest.mark.parametrize("target", ["parquet", "iceberg"])
def test_dativos_own_targets_read_the_files_as_rows(place: Workspace, target: str) -> None:
    own(place, target)
    asked = place.run()
    assert asked.status == 8 and asked.stderr.count("limit exchange 10MiB") == 1
    result = run(place)
    assert result.status == 0, result.stderr
    assert [(s["read"], s["written"]) for s in result.report["streams"]] == [(1000, 1000)]
    if target == "iceberg":
        source = f"iceberg_scan('{place.metadata('files.numbers')}')"
    else:
        source = f"read_parquet('{place.lake}/files/numbers/*.parquet')"
    query = f"SELECT count(*), count(DISTINCT id), min(id), max(id) FROM {source}"
    assert reader().execute(query).fetchall() == [(1000, 1000, 0, 999)]
    assert left(place) == []


def test_files_go_once_their_rows_are_committed(place: Workspace) -> None:
    """Together they would not fit: each is removed in time for the next."""
    own(place, mode="waits", source="exchange: 4MiB")
    result = run(place)
    assert result.status == 0, result.stderr
    assert result.report["streams"][0]["written"] == 4


@pytest.mark.parametrize(
    ("mode", "status", "said"),
    [
        ("outside", 7, "no plain file:// path below the exchange folder"),
        ("link", 4, "exit status 1"),
        ("fills", 6, "the exchange folder holds more than 10MiB"),
    ],
)
def test_hostile_sources_of_own_targets(
    place: Workspace, mode: str, status: int, said: str
) -> None:
    own(place, mode=mode)
    result = run(place)
    assert result.status == status and said in result.stderr, result.stderr
    assert left(place) == []


def test_own_targets_take_no_batch_without_the_grant(place: Workspace) -> None:
    own(place, source="", root="/tmp")
    result = run(place)
    assert result.status == 7 and "message.batch" in result.stderr


def test_own_targets_take_no_files_of_an_airbyte_source(place: Workspace) -> None:
    place.plugin(ROOT / "tests/plugins/documents", "documents")
    place.job(
        "pipeline: files\n"
        "source: {connector: ./plugins/documents, config: {names: [a]}, grants: {exchange: 1MiB}}\n"
        "target: {connector: parquet, config: {warehouse: ./lake, namespace: files}}\n"
    )
    result = run(place)
    assert result.status == 3 and "no files of an Airbyte source" in result.stderr, result.stderr


def test_what_a_killed_run_has_left_goes_with_the_next(place: Workspace) -> None:
    write_job(place, target_mode="never_ends")
    assert place.dativo("grants", "approve", "job.yaml").status == 0
    with place.start("run", "job.yaml", *place.flags) as killed:
        deadline = time.monotonic() + WITHIN_S
        while len(stored(place)) < 1000:
            assert time.monotonic() < deadline, "nothing was stored"
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
    [rubble] = left(place)
    assert sorted(path.name for path in rubble.iterdir()) == [
        f"numbers-{number}.json.gz" for number in range(4)
    ]
    write_job(place)
    assert run(place).status == 0
    assert left(place) == []


DOCUMENTS = """\
pipeline: documents
source:
  connector: ./plugins/documents
  config: {{names: {names}}}
  grants: {{exchange: 1MiB}}
target:
  connector: ./plugins/archive
  config: {{path: "${{JOB_DIR}}/out"}}
  grants: {{write: [./out], exchange: 1MiB}}
"""


def test_files_of_airbyte_go_the_same_way(workspace: Workspace) -> None:
    names = ["a.pdf", "deep/er/100% [1];#?.txt", "ü"]
    for plugin in ("documents", "archive"):
        workspace.plugin(ROOT / "tests/plugins" / plugin, plugin)
    workspace.job(DOCUMENTS.format(names=json.dumps(names)))
    result = run(workspace)
    assert result.status == 0, result.stderr
    stored = {name: (workspace.folder / "out" / name).read_text() for name in names}
    assert stored == {name: f"content of {name}" for name in names}
    assert left(workspace) == []
    workspace.job(DOCUMENTS.format(names='["x/../../up"]'))
    result = run(workspace)
    assert result.status == 7 and "message.file_reference" in result.stderr
    assert not (workspace.folder / "up").exists()
