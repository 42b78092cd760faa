"""A whole run: what the writer left in staging was inspected, and the table's manifests tell of it."""

from __future__ import annotations

import pytest
from pyiceberg.table import StaticTable
from tests.doubles.puppet import stand_in
from tests.integration.conftest import ROOT, Result, Workspace

ROWS = 5_000
JOB = f"""\
pipeline: numbers
source:
  connector: ./plugins/resumable
  config: {{rows: {ROWS}, state_every: 500}}
target:
  connector: iceberg
  config: {{warehouse: ./lake, namespace: numbers}}
  epoch: {{rows: 1000}}
"""
HELLO = (
    'say {"type":"hello","protocol":"1.0","program":"dativo-inspector","version":"1","features":[]}'
)

pytestmark = pytest.mark.usefixtures("nothing_left")


def run(workspace: Workspace, job: str = JOB) -> Result:
    workspace.plugin(ROOT / "examples/plugins/resumable", "resumable")
    workspace.job(job)
    return workspace.run()


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_scan_opens_the_files_it_needs(workspace: Workspace, mode: str) -> None:
    result = run(workspace, JOB.replace("target:\n", f"target:\n  mode: {mode}\n"))
    assert result.status == 0, result.stderr
    table = StaticTable.from_metadata(workspace.metadata("numbers.numbers"))
    planned = list(table.scan(row_filter=f"id >= {ROWS - 100}").plan_files())
    assert len(planned) < len(list(table.scan().plan_files()))
    assert workspace.count("numbers.numbers", "count(*)") == ROWS
    assert table.scan(row_filter=f"id >= {ROWS - 100}").to_arrow().num_rows == 100
    for file in table.inspect.files().to_pylist():
        assert dict(file["value_counts"]) == dict.fromkeys((1, 2, 3, 4), file["record_count"])
        assert set(dict(file["lower_bounds"])) >= {1, 2, 3}


@pytest.mark.parametrize(
    ("acts", "status", "message"),
    [
        (["kill 9"], 1, "dativo-inspector ended with signal 9"),
        (["exit 0"], 1, "dativo-inspector ended with exit status 0"),
        (['say {"type":"closed"}'], 7, "may not send closed"),
        (['say {"type":"sealed"}'], 7, "sealed.input is not"),
    ],
    ids=["killed", "gone", "closed", "sealed"],
)
def test_an_inspector_that_fails_at_a_file(
    workspace: Workspace, acts: list[str], status: int, message: str
) -> None:
    """Nothing is committed, and the message names the file."""
    begun = [HELLO, "hear", 'wait "inspect"']
    stand_in(workspace, "dativo-inspector", [*begun, *acts, 'wait "nothing"'])
    result = run(workspace)
    assert result.status == status, result.stderr
    assert message in result.stderr
    if status == 1:
        assert "staged file 000001-0000.parquet" in result.stderr
    assert result.report["epoch"] == 0


def test_an_inspector_that_lies(workspace: Workspace) -> None:
    told = (
        '{"type":"inspected","input":"0","sequence":1,"path":"000001-0000.parquet","rows":7,"bytes":7,"sha256":"'
        + "0" * 64
        + '","columns":[]}'
    )
    stand_in(
        workspace, "dativo-inspector", [HELLO, "hear", 'wait "inspect"', f"say {told}", 'wait "no"']
    )
    result = run(workspace)
    assert result.status == 7, result.stderr
    assert "not 000001-0000.parquet as it was sealed" in result.stderr
    assert result.report["epoch"] == 0
