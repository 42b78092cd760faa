"""Jobs whose source is `files`: granted folders into both targets, confined, going on file by file."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest
from tests.integration.conftest import ROOT, Result, Workspace
from tests.integration.test_docs import run_blocks
from tests.integration.test_kill_and_resume import find, wait_for_commit

JOB = """\
pipeline: shop
source:
  connector: files
  config:
    streams:
      - {{name: orders, path: "${{JOB_DIR}}/in/*.csv", format: csv, key: [id]{more}}}
  grants: {{read: [{read}]}}
target:
  connector: {target}
  config: {{warehouse: ./lake, namespace: shop}}
  epoch: {{rows: {epoch}}}
"""
TARGETS = ("iceberg", "parquet")


def job(
    workspace: Workspace, target: str, read: str = "./in", epoch: int = 1_000_000, more: str = ""
) -> None:
    workspace.job(JOB.format(target=target, read=read, epoch=epoch, more=more))
    approved = workspace.dativo("grants", "approve", "job.yaml")
    assert approved.status == 0, approved.stderr


def rows(workspace: Workspace, name: str, ids: range) -> None:
    folder = workspace.folder / "in"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    text = "id,total,made,note\n" + "".join(
        f'{i},{i}.25,2026-11-{1 + i % 28:02}T00:00:00Z,"note, {i}"\n' for i in ids
    )
    (folder / name).write_text(text)
    (folder / name).chmod(0o644)


def test_a_job_needs_an_approval_for_its_folder(workspace: Workspace) -> None:
    rows(workspace, "a.csv", range(3))
    workspace.job(JOB.format(target="parquet", read="./in", epoch=1, more=""))
    refused = workspace.run()
    assert refused.status == 8 and "dativo grants approve" in refused.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_the_second_run_reads_only_what_is_new(workspace: Workspace, target: str) -> None:
    rows(workspace, "a.csv", range(100))
    rows(workspace, "b.csv", range(100, 150))
    job(workspace, target)
    first = workspace.run()
    assert first.status == 0, first.stderr
    assert first.report["streams"][0]["read"] == 150
    what = "count(*), sum(id)::BIGINT, sum(total)::DOUBLE, count(DISTINCT note), max(made)::DATE::VARCHAR"
    found = workspace.read(target, "shop.orders", what)
    assert found == (150, sum(range(150)), sum(range(150)) + 150 * 0.25, 150, "2026-11-28")

    again = workspace.run()
    assert again.status == 0 and again.report["streams"][0]["read"] == 0

    rows(workspace, "c.csv", range(150, 160))
    with (workspace.folder / "in/a.csv").open("a") as file:
        file.write("160,0.5,2026-12-01T00:00:00Z,grown\n")
    third = workspace.run()
    assert third.status == 0, third.stderr
    assert third.report["streams"][0]["read"] == 11
    assert workspace.read(target, "shop.orders", "count(*), count(DISTINCT id)") == (161, 161)


def test_rows_come_in_batches(workspace: Workspace) -> None:
    rows(workspace, "a.csv", range(20_000))
    job(workspace, "parquet")
    result = workspace.run()
    assert result.status == 0, result.stderr
    assert result.report["streams"][0]["read"] == 20_000
    # The envelope of a RECORD alone takes more than 60 bytes.
    assert result.report["source_bytes"] < 20_000 * 60


def test_numbers_that_are_to_be_exact_go_as_lines(workspace: Workspace) -> None:
    """A batch has doubles; where they are to be decimals the digits of the file arrive."""
    folder = workspace.folder / "in"
    folder.mkdir(mode=0o755)
    (folder / "a.csv").write_text("id,total\n1,0.123456789\n2,12345678901234567890.5\n")
    job(workspace, "parquet")
    text = (workspace.folder / "job.yaml").read_text()
    workspace.job(text.replace("  connector: files\n", "  connector: files\n  numbers: decimal\n"))
    approved = workspace.dativo("grants", "approve", "job.yaml")
    assert approved.status == 0, approved.stderr
    result = workspace.run()
    assert result.status == 0, result.stderr
    found = workspace.read("parquet", "shop.orders", "sum(total)::VARCHAR")
    assert found == "12345678901234567890.623456789"


def test_the_guide(workspace: Workspace) -> None:
    """The blocks of the guide work as they stand there."""
    written = run_blocks(workspace, (ROOT / "docs/guide/files.md").read_text())
    assert len(written) == 2
    what = "count(*), sum(total)::DOUBLE, count(note)"
    assert workspace.read("parquet", "shop.orders", what, "files.yaml") == (4, 33.4, 3)


def test_a_file_outside_of_the_grants_is_not_there(workspace: Workspace) -> None:
    rows(workspace, "a.csv", range(3))
    secret = workspace.folder / "secret"
    secret.mkdir()
    (secret / "s.csv").write_text("id\n1\n")
    (workspace.folder / "in/link.csv").symlink_to(secret / "s.csv")
    job(workspace, "parquet")
    linked = workspace.run()
    assert linked.status != 0
    assert "link.csv" in linked.stderr and "grants.read must hold it" in linked.stderr
    (workspace.folder / "in/link.csv").unlink()

    workspace.job(
        JOB.format(target="parquet", read="./in", epoch=1, more="").replace("/in/*", "/secret/*")
    )
    approved = workspace.dativo("grants", "approve", "job.yaml")
    assert approved.status == 0, approved.stderr
    refused = workspace.run()
    assert refused.status == 4, refused.stderr
    assert "secret" in refused.stderr and "grants.read must hold it" in refused.stderr


@pytest.mark.parametrize(("victim", "status"), [("source", 4), ("writer", 1)])
def test_every_row_once_after_a_kill(workspace: Workspace, victim: str, status: int) -> None:
    """Many files, a state behind each: whatever dies, the next run goes on behind what is committed."""
    per_file, files = 500, 400
    for number in range(files):
        rows(workspace, f"{number:04}.csv", range(number * per_file, (number + 1) * per_file))
    job(workspace, "iceberg", epoch=2 * per_file)
    kernel = workspace.start("run", "job.yaml", "--output", "json", *workspace.flags)
    wait_for_commit(kernel, workspace.folder / "lake/shop/orders/data")
    marks = {"source": ("dativo-source-files",), "writer": ("dativo-writer",)}
    os.kill(find(kernel.pid, marks[victim]), signal.SIGKILL)
    _, stderr = kernel.communicate(timeout=60)
    assert kernel.returncode == status, stderr
    before = workspace.count("shop.orders")
    assert 0 < before < files * per_file and before % per_file == 0
    result = workspace.run()
    assert result.status == 0, result.stderr
    assert result.report["streams"][0]["read"] == files * per_file - before
    total = files * per_file
    what = "count(*), count(DISTINCT id), sum(id)::BIGINT"
    assert workspace.count("shop.orders", what) == (total, total, total * (total - 1) // 2)


def test_the_verbs(workspace: Workspace) -> None:
    rows(workspace, "a.csv", range(3))
    config: dict[str, Any] = {
        "streams": [{"name": "o", "path": str(workspace.folder / "in/*.csv"), "format": "csv"}]
    }
    (workspace.folder / "config.json").write_text(json.dumps(config))
    granted = ("--config", "config.json", "--ro", str(workspace.folder / "in"), *workspace.flags)

    def ask(*arguments: str) -> Result:
        result = workspace.dativo(*arguments)
        assert result.status == 0, result.stderr
        return result

    assert "connectionSpecification" in ask("spec", "files", *workspace.flags).stdout
    assert "SUCCEEDED" in ask("check", "files", *granted).stdout
    assert '"note"' in ask("discover", "files", *granted).stdout
    # A reader that takes no batches gets lines, and a tap of either dialect.
    singer = ask("read", "files", "--as", "singer", *granted).stdout.splitlines()
    assert [line.count('"RECORD"') for line in singer].count(1) == 3


LIAR = """\
import json, os, sys
SCHEMA = {"properties": {"id": {"type": "integer"}}}
verb = sys.argv[1]
if verb == "spec":
    print(json.dumps({"type": "SPEC", "spec": {"connectionSpecification": {"type": "object"}}}))
elif verb == "discover":
    streams = [{"name": "s", "json_schema": SCHEMA, "supported_sync_modes": ["full_refresh"]}]
    print(json.dumps({"type": "CATALOG", "catalog": {"streams": streams}}))
elif verb == "read":
    assert os.environ["DATIVO_BATCHES"] == "arrow-ipc"
    sys.stdout.write('{"type":"ARROW_BATCH","batch":{"stream":"s","rows":3,"bytes":64}}\\n')
    sys.stdout.write("x" * 64)
"""
LIAR_MANIFEST = """\
name: liar
version: 0.1.0
type: reader
language: python
protocol: airbyte
entry_point: {file: source.py}
api_version: "1"
features: [batches]
"""


def test_a_plugin_that_lies_in_a_batch_ends_its_run(workspace: Workspace) -> None:
    folder = workspace.folder / "plugins/liar"
    folder.mkdir(parents=True)
    (folder / "source.py").write_text(LIAR)
    (folder / "plugin.yaml").write_text(LIAR_MANIFEST)
    text = "pipeline: p\nsource: {connector: liar}\ntarget:\n  connector: parquet\n"
    workspace.job(text + "  config: {warehouse: ./lake, namespace: p}\n")
    result = workspace.run()
    assert result.status == 7, result.stderr
    error = result.report["error"]
    assert "message.batch" in error["message"] and "continuation marker" in error["message"]
    assert (error["where"]["line"], error["where"]["stream"]) == (1, "s"), error
