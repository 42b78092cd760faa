"""The line that reads a run's tables with DuckDB, an engine that is not ours.

DuckDB's Iceberg extension comes from PyPI here, so the line also works where extensions cannot be downloaded. It names
metadata.json files: DuckDB does not look into our catalogue, and guesses no version.
"""

from __future__ import annotations

import importlib.util
import shlex
import sys

from dativo.kernel.report import Report

_PACKAGES = (
    "duckdb==1.4.4",
    "duckdb-ext-iceberg==1.4.4.20260205",
    "duckdb-ext-avro==1.4.4.20260205",
    "pytz",
)
_OPEN = (
    "import duckdb, pathlib; "
    "e = pathlib.Path(duckdb.__file__).parents[1] / 'duckdb_ext/extensions'; "
    "c = duckdb.connect(config={'extension_directory': str(e)}); "
    "c.execute('LOAD avro; LOAD iceberg'); "
)


def duckdb_line(report: Report) -> str | None:
    """Return one shell line that counts the rows of every table of an Iceberg run; None where it wrote no table."""
    counts = [
        f"SELECT {_sql(stream.table)} AS table, count(*) AS rows FROM iceberg_scan({_sql(stream.metadata_location)})"  # noqa: S608  # quoted, and only printed
        for stream in report.streams
        if stream.table is not None and stream.metadata_location is not None
    ]
    if not counts:
        return None
    code = _OPEN + f"print(c.sql('''{' UNION ALL '.join(counts)}'''))"
    start = (
        [sys.executable]
        if importlib.util.find_spec("duckdb_ext") is not None
        else [
            "uv",
            "run",
            "-q",
            "--no-project",
            *(part for name in _PACKAGES for part in ("--with", name)),
            "python",
        ]
    )
    return f"{shlex.join(start)} -c {_quoted(code)}"


def _sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(code: str) -> str:
    """Quote for a shell; in double quotes where that changes nothing, since the code itself is full of single ones."""
    return shlex.quote(code) if set(code) & set('"$`\\!\n') else f'"{code}"'
