"""How a run's tables are read with DuckDB, an engine that is not ours.

DuckDB's Iceberg extension comes from PyPI here, so the line also works where extensions cannot be downloaded. It names
metadata.json files: DuckDB looks into no catalogue of ours, and guesses no version. A Parquet dataset is the files that its
commit log names, which ``dativo files`` lists.
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dativo.kernel.report import Report
from dativo.protocol.events import Table

_PACKAGES = (
    "duckdb==1.4.4",
    "duckdb-ext-iceberg==1.4.4.20260205",
    "duckdb-ext-avro==1.4.4.20260205",
    "pytz",
)
_TYPES: Final[Mapping[str, str]] = {
    "int": "INTEGER",
    "long": "BIGINT",
    "string": "VARCHAR",
    "binary": "BLOB",
}
"""DuckDB's names of primitives; it takes the others as they are: boolean, float, double, decimal(p,s), date, time, …"""
_OPEN_ICEBERG = (
    "import duckdb, pathlib; "
    "e = pathlib.Path(duckdb.__file__).parents[1] / 'duckdb_ext/extensions'; "
    "c = duckdb.connect(config={'extension_directory': str(e)}); "
    "c.execute('LOAD avro; LOAD iceberg'); "
)
_OPEN_PARQUET = "import duckdb, sys; c = duckdb.connect(); c.execute(sys.stdin.read()); "


def duckdb_line(report: Report, job: Path) -> str | None:
    """Return one shell line that counts the rows of every table the run wrote; None where it wrote none."""
    written = [s for s in report.streams if s.table is not None and s.metadata_location is not None]
    if not written:
        return None
    if report.target == "iceberg":
        sources = [(s.table, f"iceberg_scan({_text(s.metadata_location or '')})") for s in written]
        before, opening = "", _OPEN_ICEBERG
    else:
        sources = [(s.table, _view_name(s.table or "")) for s in written]
        # What the run needed to be told, the listing needs too: it starts a committer.
        weaker = ["--cgroup", "degraded"] if report.degraded else []
        listed = shlex.join([sys.argv[0], "files", str(job), "--view", *weaker])
        before, opening = f"{listed} | ", _OPEN_PARQUET
    counts = " UNION ALL ".join(
        f"SELECT {_text(table or '')} AS table, count(*) AS rows FROM {source}"  # noqa: S608  # quoted
        for table, source in sources
    )
    code = opening + f"print(c.sql('''{counts}'''))"
    start = (
        [sys.executable]
        if importlib.util.find_spec("duckdb_ext") is not None
        else ["uv", "run", "-q", "--no-project", *_with(_PACKAGES), "python"]
    )
    return f"{before}{shlex.join(start)} -c {_quoted(code)}"


def views(tables: Iterable[Table]) -> list[str]:
    """Return one ``CREATE VIEW`` for each table, over what is committed now."""
    parts: dict[str, list[Table]] = {}
    for table in tables:
        parts.setdefault(table.table, []).append(table)
    return [
        f"CREATE OR REPLACE VIEW {_view_name(name)} AS SELECT * FROM {source};"  # noqa: S608  # quoted
        for name, of in parts.items()
        if (source := _source(of)) is not None
    ]


def _source(parts: Sequence[Table]) -> str | None:
    """Return what DuckDB reads a table from; None for a Parquet dataset without files.

    The files of a dataset are read by field ids: a renamed column has its older name in older files.
    """
    metadata = [part.metadata_location for part in parts if part.metadata_location is not None]
    if metadata:
        return f"iceberg_scan({_text(metadata[-1])})"
    paths = [_text(file.path) for part in parts for file in part.files]
    if not paths:
        return None
    schema = ", ".join(
        f"{column.field_id}: {{'name': {_text(column.name)}, 'type': {_text(_type(column.type))}, 'default_value': NULL}}"
        for part in parts
        for column in part.columns
    )
    return f"read_parquet([{', '.join(paths)}], schema = MAP {{{schema}}})"


def _type(planned: Any) -> str:
    """Return DuckDB's name of a planned type (docs/spec/events.md, Types)."""
    if isinstance(planned, str):
        return _TYPES.get(planned, planned)
    if planned["type"] == "list":
        return f"{_type(planned['element'])}[]"
    if planned["type"] == "map":
        return f"MAP(VARCHAR, {_type(planned['value'])})"
    fields = (f"{_name(field['column'])} {_type(field['type'])}" for field in planned["fields"])
    return f"STRUCT({', '.join(fields)})"


def _with(packages: Iterable[str]) -> list[str]:
    return [part for name in packages for part in ("--with", name)]


def _view_name(table: str) -> str:
    return _name(table.rpartition(".")[2])


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(code: str) -> str:
    """Quote for a shell; in double quotes where that changes nothing, since the code itself is full of single ones."""
    return shlex.quote(code) if set(code) & set('"$`\\!\n') else f'"{code}"'
