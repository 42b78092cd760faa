"""A second reader beside DuckDB: Polars, whose Parquet reader is its own, in Rust.

A scan of an Iceberg table is planned by pyiceberg, since Polars' own planner is a package apart; the files are read by Polars.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

os.environ.setdefault("POLARS_ICEBERG_PLANNER", "pyiceberg")

TYPES: Final[dict[str, pl.DataType]] = {
    "BOOLEAN": pl.Boolean(),
    "BIGINT": pl.Int64(),
    "DOUBLE": pl.Float64(),
    "DECIMAL(38,0)": pl.Decimal(38, 0),
    "DECIMAL(38,2)": pl.Decimal(38, 2),
    "DECIMAL(38,4)": pl.Decimal(38, 4),
    "DECIMAL(38,9)": pl.Decimal(38, 9),
    "DECIMAL(10,3)": pl.Decimal(10, 3),
    "DECIMAL(4,4)": pl.Decimal(4, 4),
    "VARCHAR": pl.String(),
    "BLOB": pl.Binary(),
    "DATE": pl.Date(),
    "TIME": pl.Time(),
    "TIMESTAMP": pl.Datetime("us"),
    "TIMESTAMP WITH TIME ZONE": pl.Datetime("us", "UTC"),
    "STRUCT(b BIGINT, c DATE)": pl.Struct({"b": pl.Int64(), "c": pl.Date()}),
    "DOUBLE[]": pl.List(pl.Float64()),
    "MAP(VARCHAR, BIGINT)": pl.Map(pl.String(), pl.Int64()),
    "STRUCT(x VARCHAR[])[]": pl.List(pl.Struct({"x": pl.List(pl.String())})),
}
"""What Polars calls DuckDB's types of ``type_table``."""


def files(paths: Sequence[str]) -> pl.LazyFrame:
    """Scan Parquet files."""
    return pl.scan_parquet(list(paths))


def iceberg(metadata: str) -> pl.LazyFrame:
    """Scan an Iceberg table as its metadata file has it."""
    return pl.scan_iceberg(metadata, reader_override="native")


def not_found(frame: pl.LazyFrame, values: Sequence[tuple[str, Any]]) -> list[str]:
    """Return those of ``values`` (column, value) that a filter finds in no row, by way of the files' statistics."""
    types = frame.collect_schema()
    queries = [
        frame.filter(pl.col(name) == pl.lit(_in_utc(value), types[name])).select(pl.len())
        for name, value in values
    ]
    counts = [found.item() for found in pl.collect_all(queries)]
    return [f"{name} = {value!r}" for (name, value), n in zip(values, counts, strict=True) if not n]


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value
