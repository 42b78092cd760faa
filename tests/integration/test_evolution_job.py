"""A source whose schema changes between runs, under the contracts of a job, through the whole of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.integration.conftest import ROOT, Result, Workspace, reader
from tests.integration.test_types import scan

JOB = """\
pipeline: types
source:
  connector: ./plugins/types
target:
  connector: {target}
  config: {{warehouse: ./lake, namespace: types}}
contracts:
  "*": {contract}
"""
LAST = {"n": "integer", "amount": "string", "email": "string"}


def send(workspace: Workspace, properties: dict[str, str], *rows: dict[str, Any]) -> None:
    """Have the source send ``rows`` of such properties from now on."""
    schema = {"type": "object", "properties": {k: {"type": v} for k, v in properties.items()}}
    table = {"schema": schema, "records": [json.dumps(row) for row in rows]}
    (workspace.folder / "plugins/types/table.json").write_text(json.dumps(table))


@pytest.mark.parametrize(("dialect", "target"), [("airbyte", "iceberg"), ("singer", "parquet")])
def test_a_schema_that_changes(workspace: Workspace, dialect: str, target: str) -> None:
    def run(contract: str) -> Result:
        workspace.job(JOB.format(target=target, contract=contract))
        return workspace.run()

    workspace.plugin(ROOT / "tests/plugins/types", "types")
    manifest = workspace.folder / "plugins/types/plugin.yaml"
    manifest.write_text(manifest.read_text().replace("airbyte", dialect))
    send(
        workspace,
        {"n": "integer", "amount": "integer", "mail": "string"},
        {"n": 1, "amount": 1, "mail": "a"},
    )
    assert run("{}").status == 0

    send(workspace, LAST, {"n": 2, "amount": "two", "email": "b"})
    ended = run("{conflict: fail}")
    assert ended.status == 7
    assert "column amount is long in the table, the source now declares string" in ended.stderr
    ended = run("{schema: freeze}")
    assert ended.status == 7
    assert "would be new, and its contract freezes the table" in ended.stderr
    for _ in range(2):
        ended = run("{rename: {mail: email}}")
        assert ended.status == 0, ended.stderr
    assert run("{schema: freeze}").status == 0

    source = scan(workspace, target)
    if target == "iceberg":
        query = f"SELECT n, amount, amount__string, email FROM {source} ORDER BY ALL"
    else:  # by name, as files have them: what was written before the rename keeps its old one
        source = source[:-1] + ", union_by_name=true)"
        query = (
            f"SELECT n, amount, amount__string, coalesce(email, mail) FROM {source} ORDER BY ALL"
        )
    rows = reader().execute(query).fetchall()
    assert rows == [(1, 1, None, "a"), *[(2, None, "two", "b")] * 3]
