"""Contracts through a whole run: rows and values that do not fit, and the table that keeps them, once, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.integration.conftest import DATIVO, ROOT, Result, Workspace, reader
from tests.integration.test_kill_and_resume import DEADLINE_S, VICTIMS, find, wait_for_commit

ROWS = 1000
DAYS, IDS = ROWS // 10, ROWS // 100
JOB = """\
pipeline: shop
source:
  connector: ./plugins/misfits
  config: {config}
target:
  connector: {target}
  config: {{warehouse: ./lake, namespace: shop}}
  mode: {mode}
  epoch: {{rows: 200}}
contracts:
  "*": {{values: discard_row}}
  orders: {contract}
"""
TABLE = "shop._dativo_rejects"


def job(
    workspace: Workspace,
    contract: str,
    *,
    target: str = "iceberg",
    mode: str = "append",
    config: str = "{}",
) -> None:
    if not (workspace.folder / "plugins").exists():
        workspace.plugin(ROOT / "tests/plugins/misfits", "misfits")
    workspace.job(JOB.format(contract=contract, target=target, mode=mode, config=config))


def rejects(workspace: Workspace, target: str = "iceberg") -> list[tuple[Any, ...]]:
    """Return stream, line, code, field, value and text of every reject, as DuckDB reads them."""
    what = "stream, line, code, field, value, text"
    if target == "iceberg":
        source = f"iceberg_scan('{workspace.metadata(TABLE)}')"
        return reader().execute(f"SELECT {what} FROM {source} ORDER BY line, field").fetchall()
    listed = workspace.dativo("files", "job.yaml", "--view", *workspace.flags)
    assert listed.status == 0, listed.stderr
    connection = duckdb.connect()
    connection.execute(listed.stdout)
    return connection.execute(f"SELECT {what} FROM _dativo_rejects ORDER BY line, field").fetchall()


def stream(result: Result, name: str = "orders") -> tuple[int, ...]:
    """Return read, written, rejected and discarded of a stream."""
    [found] = [each for each in result.report["streams"] if each["stream"] == name]
    return tuple(found[key] for key in ("read", "written", "rejected", "discarded"))


@pytest.mark.parametrize("target", ["iceberg", "parquet"])
def test_rows_are_rejected_and_kept(workspace: Workspace, target: str) -> None:
    job(workspace, "{values: discard_row, keep_text: true}", target=target)
    result = workspace.run()
    assert result.status == 0, result.stderr
    lost = DAYS + IDS
    assert stream(result) == (ROWS, ROWS - lost, lost, 0)
    assert stream(result, "users") == (ROWS, ROWS, 0, 0)
    told = result.report["rejects"]
    assert (told["table"], told["rows"]) == (TABLE, lost)
    assert workspace.read(target, "shop.orders") == ROWS - lost
    kept = rejects(workspace, target)
    assert Counter(row[:1] + row[2:4] for row in kept) == {
        ("orders", "record.value", "day"): DAYS,
        ("orders", "record.value", "id"): IDS,
    }
    line = kept[0][1]
    assert kept[0] == ("orders", line, "record.value", "day", '"2026-02-30"', kept[0][5])
    assert json.loads(kept[0][5])["record"]["data"]["card"] == "4111"

    listed = workspace.dativo("files", "job.yaml", "--stream", "_dativo_rejects", *workspace.flags)
    assert listed.status == 0, listed.stderr
    files = listed.stdout.splitlines()
    assert files and all(Path(file).parent.is_relative_to(workspace.lake) for file in files)
    again = workspace.run()
    assert again.status == 0 and again.report["rejects"] is None
    assert len(rejects(workspace, target)) == lost


def test_values_become_null_and_their_rows_are_written(workspace: Workspace) -> None:
    job(workspace, "{values: discard_value}")
    result = workspace.dativo("run", "job.yaml", *workspace.flags)
    assert result.status == 0, result.stderr
    assert f"discarded: 0 rows, {DAYS + IDS} values; kept in {TABLE}" in result.stdout
    nulls = "count(*), count(*) FILTER (id IS NULL), count(*) FILTER (day IS NULL)"
    assert workspace.count("shop.orders", nulls) == (ROWS, IDS, DAYS)
    kept = rejects(workspace)
    assert len(kept) == DAYS + IDS and {row[5] for row in kept} == {None}


def test_one_reject_too_many_ends_the_run_and_what_was_committed_stays(
    workspace: Workspace,
) -> None:
    job(workspace, "{values: discard_row, max_rejects: 50}")
    result = workspace.run()
    assert result.status == 7
    error = result.report["error"]
    assert error["message"].startswith("record.value: expected a date")
    assert "takes 50 rejects" in error["hint"] and "_dativo_rejects" in error["hint"]
    read, written, rejected, _ = stream(result)
    assert read >= written + rejected and rejected == result.report["rejects"]["rows"]
    assert len(rejects(workspace)) == rejected < 50
    assert workspace.count("shop.orders") == written

    # The next run goes on from the last state, and counts anew.
    for _ in range(3):
        result = workspace.run()
    assert result.status == 0, result.stderr
    assert workspace.count("shop.orders") == ROWS - DAYS - IDS
    assert len(rejects(workspace)) == DAYS + IDS


def test_without_a_contract_the_first_misfit_ends_the_run(workspace: Workspace) -> None:
    job(workspace, "{}")
    result = workspace.run()
    assert result.status == 7 and result.report["error"]["hint"] is None
    assert workspace.tables() == ["shop.orders", "shop.users"]


@pytest.mark.parametrize("victim", ["writer", "committer"])
def test_rejects_are_kept_once_whatever_is_killed(workspace: Workspace, victim: str) -> None:
    job(workspace, "{values: discard_row}", config="{pause_s: 0.3}")
    kernel = workspace.start("run", "job.yaml", "--output", "json", *workspace.flags)
    wait_for_commit(kernel, workspace.lake / "shop/_dativo_rejects/data")
    os.kill(find(kernel.pid, VICTIMS[victim]), signal.SIGKILL)
    _communicate(kernel)
    before = len(rejects(workspace))
    assert 0 < before < DAYS + IDS

    job(workspace, "{values: discard_row}")
    result = workspace.run()
    assert result.status == 0, result.stderr
    kept = rejects(workspace)
    assert len(kept) == DAYS + IDS
    # Lines count anew in each run; of the orders that were no number each stands once in the values.
    assert sorted(row[4] for row in kept if row[3] == "id") == sorted(
        f'"no {i}"' for i in range(50, ROWS, 100)
    )
    assert workspace.count("shop.orders", "count(*), count(DISTINCT id)") == (
        ROWS - DAYS - IDS,
        ROWS - DAYS - IDS,
    )


@pytest.mark.parametrize("target", ["iceberg", "parquet"])
def test_rejects_append_where_streams_overwrite(workspace: Workspace, target: str) -> None:
    for run in (1, 2):
        job(workspace, "{values: discard_row}", mode="overwrite", target=target)
        result = workspace.run()
        assert result.status == 0, result.stderr
        assert workspace.read(target, "shop.orders") == ROWS - DAYS - IDS
        assert len(rejects(workspace, target)) == run * (DAYS + IDS)


def test_a_contract_for_no_stream_is_an_error(workspace: Workspace) -> None:
    job(workspace, "{values: discard_row}\n  order: {schema: freeze}")
    result = workspace.dativo("plan", "job.yaml", *workspace.flags)
    assert result.status == 3
    assert "the contract of 'order' meets no stream" in result.stderr
    assert "The source has: orders, users" in result.stderr


def test_a_plan_shows_the_contracts(workspace: Workspace) -> None:
    job(workspace, "{values: discard_value, max_rejects: 7}")
    shown = workspace.dativo("plan", "job.yaml", *workspace.flags)
    assert shown.status == 0, shown.stderr
    contracts = json.loads(shown.stdout)["target"]["contracts"]
    assert contracts["orders"]["values"] == "discard_value"
    assert (contracts["orders"]["max_rejects"], contracts["users"]["max_rejects"]) == (7, 1000)


def test_a_tap_in_a_pipe(workspace: Workspace) -> None:
    """Streams that declare themselves have contracts by their names all the same."""
    schema = {"properties": {"id": {"type": "integer"}}}
    said: list[dict[str, Any]] = []
    for name in ("orders", "users"):
        said.append({"type": "SCHEMA", "stream": name, "schema": schema, "key_properties": []})
        said += [{"type": "RECORD", "stream": name, "record": {"id": i}} for i in (1, 2)]
    said.append({"type": "RECORD", "stream": "orders", "record": {"id": "three"}})
    config = {
        "warehouse": "./lake",
        "namespace": "shop",
        "contracts": {"orders": {"values": "discard_row"}},
    }
    (workspace.folder / "c.json").write_text(json.dumps(config))

    def pipe(*more: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        lines = "".join(json.dumps(message) + "\n" for message in (*said, *more))
        return subprocess.run(
            [
                str(DATIVO.with_name("dativo-target-iceberg")),
                "--config",
                "c.json",
                *workspace.flags,
            ],
            input=lines,
            cwd=workspace.folder,
            env=workspace.environment(),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )

    done = pipe()
    assert done.returncode == 0, done.stderr
    assert workspace.count("shop.orders") == 2
    assert [row[4] for row in rejects(workspace)] == ['"three"']
    done = pipe({"type": "RECORD", "stream": "users", "record": {"id": "x"}})
    assert done.returncode == 7 and "record.value" in done.stderr


def _communicate(kernel: subprocess.Popen[str]) -> None:
    _, stderr = kernel.communicate(timeout=DEADLINE_S)
    assert kernel.returncode != 0, stderr
