"""What a job can say of its tables: numbers, metadata, evolution and rejects, read back by DuckDB, Iceberg by Polars too.

Types are in test_types; overwrite, before and after its swap, in test_overwrite_job; ACTIVATE_VERSION in test_standalone.
"""

from __future__ import annotations

import itertools
import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from tests.integration import polars_reader
from tests.integration.conftest import ROOT, Workspace
from tests.integration.test_evolution_job import rows_of, send

JOB = """\
pipeline: types
source:
  connector: ./plugins/types
  numbers: {numbers}
target:
  connector: {target}
  config: {{warehouse: ./lake, namespace: types}}
  metadata: {metadata}
contracts:
  "*": {{values: {values}, rename: {rename}}}
"""
PRICE = {"type": "string", "format": "x-singer.decimal", "scale": 2}
ADDED = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}}},
}  # fmt: skip
BEFORE = {
    "n": "integer",
    "amount": "number",
    "price": {**PRICE, "precision": 6},
    "mail": "string",
    "kind": "integer",
}
AFTER = {
    "n": "integer",
    "amount": "number",
    "price": {**PRICE, "precision": 12},
    "email": "string",
    "kind": "string",
    "added": ADDED,
}
# The prices of 2 and 4 are none.
FIRST: list[dict[str, Any]] = [
    {"n": 1, "amount": 1234567890123.25, "price": "1234.56", "mail": "a", "kind": 1},
    {"n": 2, "amount": 0.5, "price": "12345.678", "mail": "b", "kind": 2},
]
SECOND: list[dict[str, Any]] = [
    {"n": 3, "amount": -1e-7, "price": "1234567890.12", "email": "c", "kind": "three",
     "added": {"tags": ["t", None], "x": 7}},
    {"n": 4, "price": [], "kind": ""},
]  # fmt: skip
COLUMNS = "n, amount, price, email, kind, kind__string, added"
ROWS = {
    1: ("1234567890123.25", Decimal("1234.56"), "a", 1, None, None),
    2: ("0.5", None, "b", 2, None, None),
    3: ("-1e-07", Decimal("1234567890.12"), "c", None, "three", {"x": 7, "tags": ["t", None]}),
    4: (None, None, None, None, "", None),
}
NUMBERS = {"double": float, "decimal": Decimal, "text": str}
METADATA = {
    "dativo": "_dativo_id, _dativo_epoch > 0, _dativo_loaded_at > '2020-01-01', _dativo_extracted_at",
    "airbyte": "_airbyte_raw_id, _airbyte_meta.changes = [], _airbyte_generation_id = 0, _airbyte_extracted_at",
    "singer": "n, _sdc_sequence = epoch_ms(_sdc_received_at), _sdc_batched_at <= _sdc_received_at, _sdc_extracted_at",
}
"""What is different in each row, two things that are true, and when the source read the row, at 1970 for Airbyte's."""
ALL = [*itertools.product(("iceberg", "parquet"), NUMBERS, METADATA)]
# Every night all of them; else each of both for each target. Doubles are the default everywhere else.
FEW = [
    ("iceberg", "decimal", "dativo"),
    ("iceberg", "text", "singer"),
    ("parquet", "decimal", "airbyte"),
    ("parquet", "text", "dativo"),
]


@pytest.mark.parametrize(
    ("target", "numbers", "metadata"), ALL if os.environ.get("DATIVO_NIGHTLY") else FEW
)
def test_it_is_read_back(workspace: Workspace, target: str, numbers: str, metadata: str) -> None:
    values = "discard_row" if metadata == "singer" else "discard_value"
    dialect = "airbyte" if metadata == "airbyte" else "singer"
    workspace.plugin(ROOT / "tests/plugins/types", "types")
    manifest = workspace.folder / "plugins/types/plugin.yaml"
    manifest.write_text(manifest.read_text().replace("airbyte", dialect))

    def run(schema: dict[str, Any], rows: list[dict[str, Any]], rename: str) -> None:
        send(workspace, schema, *rows)
        said = {"numbers": numbers, "metadata": metadata, "values": values, "rename": rename}
        workspace.job(JOB.format(target=target, **said))
        ran = workspace.run()
        assert ran.status == 0, ran.stderr
        assert ran.report["rejects"]["rows"] == 1

    run(BEFORE, FIRST, "{}")
    run(AFTER, SECOND, "{mail: email}")
    read = NUMBERS[numbers]
    wanted = [
        (n, None if amount is None else read(amount), *rest)
        for n, (amount, *rest) in ROWS.items()
        if values == "discard_value" or n in (1, 3)
    ]
    found = rows_of(workspace, target, f"{COLUMNS}, {METADATA[metadata]}")
    assert [row[:7] for row in found] == wanted
    assert len({row[7] for row in found}) == len(wanted)
    at = datetime(1970, 1, 1, tzinfo=UTC) if dialect == "airbyte" else None
    assert {row[8:] for row in found} == {(True, True, at)}
    what = "list((field, value) ORDER BY value)"
    rejects = workspace.read(target, "types._dativo_rejects", what)
    assert rejects == [("price", '"12345.678"'), ("price", "[]")]

    if target == "iceberg":
        table = polars_reader.iceberg(workspace.metadata("types.types"))
        assert table.sort("n").select(COLUMNS.split(", ")).collect().rows() == wanted
