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


def of(**properties: Any) -> dict[str, Any]:
    """Return the schema of an object; a name stands for the schema of that type."""
    schemas = {k: {"type": v} if isinstance(v, str) else v for k, v in properties.items()}
    return {"type": "object", "properties": schemas}


def send(workspace: Workspace, properties: dict[str, Any], *rows: dict[str, Any]) -> None:
    """Have the source send ``rows`` of such properties from now on."""
    table = {"schema": of(**properties), "records": [json.dumps(row) for row in rows]}
    (workspace.folder / "plugins/types/table.json").write_text(json.dumps(table))


def rows_of(workspace: Workspace, target: str, columns: str) -> list[Any]:
    """Return the table's rows as DuckDB finds them, in a Parquet dataset by the view that ``dativo files`` makes of it."""
    source, connection = scan(workspace, target), reader()
    if target == "parquet":
        listed = workspace.dativo("files", "job.yaml", "--view", *workspace.flags)
        assert listed.status == 0, listed.stderr
        connection.execute(listed.stdout)
        source = "types"
    return connection.execute(f"SELECT {columns} FROM {source} ORDER BY n").fetchall()


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

    rows = rows_of(workspace, target, "n, amount, amount__string, email")
    assert rows == [(1, 1, None, "a"), *[(2, None, "two", "b")] * 3]


@pytest.mark.parametrize(("dialect", "target"), [("singer", "iceberg"), ("airbyte", "parquet")])
def test_a_schema_that_changes_inside(workspace: Workspace, dialect: str, target: str) -> None:
    workspace.plugin(ROOT / "tests/plugins/types", "types")
    manifest = workspace.folder / "plugins/types/plugin.yaml"
    manifest.write_text(manifest.read_text().replace("airbyte", dialect))
    workspace.job(JOB.format(target=target, contract="{}"))
    first = of(x="integer", Old="string", at=of(lat="number"))
    send(
        workspace,
        {"n": "integer", "a": first, "l": {"type": "array", "items": of(p="integer")}},
        {"n": 1, "a": {"x": 1, "Old": "o", "at": {"lat": 0.5}}, "l": [{"p": 1}, None]},
    )
    ran = workspace.run()
    assert ran.status == 0, ran.stderr
    second = of(x="string", new={"type": "array", "items": {"type": "boolean"}}, at="string")
    lines = {"type": "array", "items": of(p="integer", q="number")}
    send(
        workspace,
        {"n": "integer", "a": second, "l": lines},
        {"n": 2, "a": {"x": "two", "new": [True], "at": "here"}, "l": [{"q": 2.5, "p": 2}]},
        {"n": 3, "a": None, "l": []},
    )
    for _ in range(2):
        ran = workspace.run()
        assert ran.status == 0, ran.stderr
    inside = "a.x, a.old, a.at.lat, a.x__string, a.new, a.at__string"
    found = rows_of(workspace, target, f"n, {inside}, l")
    assert found == [
        (1, 1, "o", 0.5, None, None, None, [{"p": 1, "q": None}, None]),
        *[(2, None, None, None, "two", [True], "here", [{"p": 2, "q": 2.5}])] * 2,
        *[(3, *[None] * 6, [])] * 2,
    ]
