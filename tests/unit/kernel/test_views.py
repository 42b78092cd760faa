"""Views of committed tables are DuckDB's own SQL, whatever their names; files of a dataset are read by field ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dativo.kernel.reader import views
from dativo.protocol.events import LiveFile, Table, TableColumn
from dativo.protocol.state import Stream

NESTED = {
    "type": "struct",
    "fields": [
        {"property": "X", "column": "x", "type": "int", "field_id": 4},
        {"property": "q", "column": 'sel"ect', "type": "decimal(9,2)", "field_id": 5},
    ],
}
COLUMNS: dict[str, Any] = {
    "boolean": "boolean",
    "int": "int",
    "long": "long",
    "float": "float",
    "double": "double",
    "decimal": "decimal(38,9)",
    "date": "date",
    "time": "time",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
    "string": "string",
    "binary": "binary",
    "struct": NESTED,
    "list": {"type": "list", "element_id": 90, "element": NESTED},
    "map": {"type": "map", "key_id": 91, "value_id": 92, "value": "binary"},
    "it's": "string",
}


def dataset(files: list[Path], columns: dict[str, Any], name: str = "shop.users") -> Table:
    live = tuple(LiveFile(str(path), 1, 1) for path in files)
    numbered = enumerate(columns.items(), 1)
    listed = tuple(TableColumn(number, name, kind) for number, (name, kind) in numbered)
    return Table("0", Stream("", "users"), name, None, live, listed)


def write(path: Path, **columns: tuple[int, Any]) -> Path:
    """Write a file of one row: value and field id of each column."""
    arrays = {name: pa.array([value]) for name, (_, value) in columns.items()}
    fields = [
        pa.field(name, arrays[name].type, metadata={"PARQUET:field_id": str(number)})
        for name, (number, _) in columns.items()
    ]
    pq.write_table(pa.table(list(arrays.values()), schema=pa.schema(fields)), path)
    return path


def test_every_type_and_name_is_understood(tmp_path: Path) -> None:
    file = write(tmp_path / "it's a.parquet", int=(2, 7))
    connection = duckdb.connect()
    for line in views([dataset([file], COLUMNS, 'shop.a"b')]):
        connection.execute(line)
    relation = connection.sql('SELECT * FROM "a""b"')
    assert relation.columns == list(COLUMNS)
    kinds = [str(kind) for kind in relation.types]
    assert kinds[:6] == ["BOOLEAN", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL(38,9)"]
    assert kinds[6:12] == [
        *("DATE", "TIME", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "VARCHAR", "BLOB")
    ]
    struct = 'STRUCT(x INTEGER, "sel""ect" DECIMAL(9,2))'
    assert kinds[12:] == [struct, f"{struct}[]", "MAP(VARCHAR, BLOB)", "VARCHAR"]
    [row] = relation.fetchall()
    assert [value for value in row if value is not None] == [7]


def test_names_of_older_files_do_not_count(tmp_path: Path) -> None:
    """A column was renamed, and its old name given to another one since."""
    old = write(tmp_path / "1.parquet", id=(1, 1), mail=(2, "a"))
    new = write(tmp_path / "2.parquet", mail=(3, 7), e_mail=(2, "b"), id=(1, 2))
    columns = {"id": "long", "e_mail": "string", "mail": "long"}
    connection = duckdb.connect()
    for line in views([dataset([old], columns), dataset([new], {})]):
        connection.execute(line)
    found = connection.execute("SELECT * FROM users ORDER BY id").fetchall()
    assert found == [(1, "a", None), (2, "b", 7)]


@pytest.mark.parametrize("location", ["/lake/it's/1.metadata.json", None])
def test_tables_without_files(location: str | None) -> None:
    table = Table("0", Stream("", "users"), "shop.users", location, ())
    shown = views([table])
    if location is None:
        assert shown == []
    else:
        assert shown == [
            "CREATE OR REPLACE VIEW \"users\" AS SELECT * FROM iceberg_scan('/lake/it''s/1.metadata.json');"
        ]
