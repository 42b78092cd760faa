"""Every type through both dialects into both targets, confined, read back by DuckDB and by Polars.

What must come back stands in ``type_table``; nothing of ours computes it. A value that is none of its type ends the run with its
place, and nothing of the epoch is there.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.integration import polars_reader
from tests.integration.conftest import ROOT, Workspace, reader
from tests.integration.type_table import COLUMNS, SCHEMA, records

JOB = """\
pipeline: types
source:
  connector: ./plugins/types
target:
  connector: {target}
  config: {{warehouse: ./lake, namespace: types}}
"""
DIALECTS = ("airbyte", "singer")
TARGETS = ("iceberg", "parquet")
# A real run for each: every night all of them, else one of each column.
BAD_OF_EACH = None if os.environ.get("DATIVO_NIGHTLY") else 1
BAD = [(column.name, text) for column in COLUMNS for text in column.bad[:BAD_OF_EACH]]


def prepare(workspace: Workspace, dialect: str, target: str, texts: list[str]) -> Path:
    """Put the source and its records into the workspace, and return the source's file."""
    workspace.plugin(ROOT / "tests/plugins/types", "types")
    folder = workspace.folder / "plugins/types"
    manifest = folder / "plugin.yaml"
    manifest.write_text(manifest.read_text().replace("airbyte", dialect))
    table = {"schema": SCHEMA, "records": texts}
    (folder / "table.json").write_text(json.dumps(table, ensure_ascii=False))
    workspace.job(JOB.format(target=target))
    return folder / "source.py"


def scan(workspace: Workspace, target: str) -> str:
    """Return what DuckDB reads: an Iceberg table by its pointer, or the files that the Parquet log names."""
    if target == "iceberg":
        return f"iceberg_scan('{workspace.metadata('types.types')}')"
    return f"read_parquet({logged(workspace)})"


def logged(workspace: Workspace) -> list[str]:
    """Return the files that the Parquet log names."""
    dataset = workspace.lake / "types"
    entries = sorted(dataset.glob("_dativo/*/log/*.json"))
    files = [
        str(dataset / file["path"]) for e in entries for file in json.loads(e.read_text())["added"]
    ]
    assert files
    return files


def same(got: Any, wanted: object) -> bool:
    """Tell whether both are one value of one type; -0.0 is not 0.0, and NaN is NaN."""
    if got is None or wanted is None:
        return got is wanted
    if isinstance(wanted, float):
        if math.isnan(wanted):
            return isinstance(got, float) and math.isnan(got)
        return repr(got) == repr(wanted)
    return type(got) is type(wanted) and got == wanted


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_value_comes_back(workspace: Workspace, dialect: str, target: str) -> None:
    texts, rows = records()
    prepare(workspace, dialect, target, texts)
    result = workspace.run()
    assert result.status == 0, result.stderr
    assert {entry["name"] for entry in result.report["processes"] if entry["walls"]} == {
        "source",
        "writer",
        "inspector",
        "committer",
    }

    engine = reader()
    engine.execute("SET TimeZone = 'UTC'")
    source = scan(workspace, target)
    described = engine.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    types = {name: kind for name, kind, *_ in described}
    assert types == {"n": "BIGINT"} | {column.name: column.engine_type for column in COLUMNS}

    found = engine.execute(f"SELECT * FROM {source} ORDER BY n").fetchall()
    assert differences([dict(zip(types, values, strict=True)) for values in found], rows) == []

    # By way of the files' statistics: bounds that are too narrow would hide rows from a filter.
    lost = [
        f"{name} = {value!r}"
        for name, value in scalars(rows)
        if not engine.execute(
            f'SELECT 1 FROM {source} WHERE "{name}" = CAST(? AS {types[name]})',
            [str(value) if isinstance(value, Decimal) else value],
        ).fetchone()
    ]
    assert not lost, "\n".join(lost)
    agrees_with_polars(workspace, target, types, rows)


def agrees_with_polars(
    workspace: Workspace, target: str, types: dict[str, str], rows: list[dict[str, object]]
) -> None:
    """Hold Polars' reading of the same files, and of the table, against the same types and rows."""
    if target == "iceberg":
        paths = sorted(map(str, workspace.lake.glob("types/types/data/*.parquet")))
        table = polars_reader.iceberg(workspace.metadata("types.types"))
        frames = [table, polars_reader.files(paths)]
    else:
        frames = [polars_reader.files(logged(workspace))]
    for frame in frames:
        read = frame.sort("n").collect()
        assert dict(read.schema) == {name: polars_reader.TYPES[of] for name, of in types.items()}
        assert differences(read.to_dicts(), rows) == []
        assert polars_reader.not_found(frame, scalars(rows)) == []


def differences(found: list[dict[str, Any]], rows: list[dict[str, object]]) -> list[str]:
    """Return where rows that were read are not those that are wanted."""
    assert len(found) == len(rows)
    return [
        f"{name} of row {row['n']}: wanted {row[name]!r}, read {got[name]!r}"
        for got, row in zip(found, rows, strict=True)
        for name in row
        if not same(got[name], row[name])
    ]


def scalars(rows: list[dict[str, object]]) -> list[tuple[str, Any]]:
    """Return each value, with its column, that a filter can look for."""
    return [
        (column.name, value)
        for column in COLUMNS
        if not isinstance(column.values[0][1], dict | list)
        for value in {row[column.name] for row in rows} - {None}
    ]


@pytest.mark.parametrize(
    ("number", "name", "text"),
    [(number, *case) for number, case in enumerate(BAD)],
    ids=[f"{name}-{text[:20]}" for name, text in BAD],
)
def test_a_bad_value_ends_the_run_at_its_place(
    workspace: Workspace, number: int, name: str, text: str
) -> None:
    dialect, target = DIALECTS[number % 2], TARGETS[number // 2 % 2]
    texts = ['{"n":0}', f'{{"n":1,"{name}":{text}}}', '{"n":2}']
    source = prepare(workspace, dialect, target, texts)
    result = workspace.run()
    assert result.status == 7, result.stderr
    error = result.report["error"]
    assert error["message"].startswith("record.value: expected ")
    assert error["message"].endswith(f" in field {name}")
    assert error["blame"] == "plugin" and error["value"] == text[:200]

    read = ["read"] if dialect == "airbyte" else ["--catalog", "none"]
    output = subprocess.run(
        [sys.executable, "-I", str(source), *read], capture_output=True, check=True, timeout=60
    ).stdout
    byte = output.rindex(b"\n", 0, output.index(texts[1].encode())) + 1
    assert error["where"] == {
        "plugin": "source",
        "stream": "types",
        "line": output.count(b"\n", 0, byte) + 1,
        "byte": byte,
    }

    # A state had come before the bad value; the open epoch is dropped with its row all the same.
    assert result.report["epoch"] == 0 and result.report["commits"] == 0
    assert not list(workspace.lake.rglob("*.parquet"))
    assert not list((workspace.lake / "_dativo/staging").iterdir())
    if target == "iceberg":
        assert workspace.count("types.types") == 0
    else:
        assert not list(workspace.lake.glob("types/_dativo/*/log/*"))
