"""Random tables of every type: what the inspector finds is what pyarrow finds, bound by bound."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.conversions import to_bytes
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)
from pyiceberg.utils.truncate import (
    truncate_upper_bound_binary_string,
    truncate_upper_bound_text_string,
)
from tests.contract.inspector_kernel import (
    NAME,
    Event,
    Inspector,
    bounds,
    claimed,
    column,
    opening,
    write,
)

LENGTH = 16


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**precision - 1
    return st.integers(-most, most).map(lambda n: Decimal(f"{n}E-{scale}"))


TYPES: dict[str, tuple[PrimitiveType, st.SearchStrategy[Any]]] = {
    "boolean": (BooleanType(), st.booleans()),
    "int": (IntegerType(), st.integers(-(2**31), 2**31 - 1)),
    "long": (LongType(), st.integers(-(2**63), 2**63 - 1)),
    "float": (FloatType(), st.floats(width=32)),
    "double": (DoubleType(), st.floats()),
    "date": (DateType(), st.dates()),
    "time": (TimeType(), st.times()),
    "timestamp": (TimestampType(), st.datetimes()),
    "timestamptz": (TimestamptzType(), st.datetimes(timezones=st.just(datetime.UTC))),
    "string": (StringType(), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
    "binary": (BinaryType(), st.binary(max_size=20) | st.just(b"\xff" * 18)),
    "decimal(9,2)": (DecimalType(9, 2), decimals(9, 2)),
    "decimal(18,0)": (DecimalType(18, 0), decimals(18, 0)),
    "decimal(38,9)": (DecimalType(38, 9), decimals(37, 9)),
}
IDS = {name: index for index, name in enumerate(TYPES, 1)}
NESTED = 100


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def order(value: Any) -> Any:
    return (value, math.copysign(1, value)) if isinstance(value, float) else value


def expected(kind: str, column: list[Any]) -> Event:
    """Return what is true of a column."""
    primitive, _ = TYPES[kind]
    values = [value for value in column if value is not None]
    ordered = sorted((value for value in values if not is_nan(value)), key=order)
    lower: Any = None
    upper: Any = None
    if ordered:
        lower, upper = ordered[0], ordered[-1]
        if kind == "string":
            lower, upper = lower[:LENGTH], truncate_upper_bound_text_string(upper, LENGTH)
        if kind == "binary":
            lower, upper = lower[:LENGTH], truncate_upper_bound_binary_string(upper, LENGTH)
    return {
        "values": len(column),
        "nulls": len(column) - len(values),
        "nans": sum(map(is_nan, values)) if kind in ("float", "double") else None,
        "bounds": tuple(
            None if each is None else to_bytes(primitive, each) for each in (lower, upper)
        ),
    }


def found(told: Event) -> Event:
    return {
        **{key: told[key] for key in ("values", "nulls", "nans")},
        "bounds": bounds(told),
    }


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspector]:
    with Inspector(opening(tmp_path_factory.mktemp("staging"))) as inspector:
        inspector.expect("hello")
        yield inspector


rows = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, (_, values) in TYPES.items()}),
    max_size=30,
)
settings = st.fixed_dictionaries(
    {
        "use_dictionary": st.booleans(),
        "compression": st.sampled_from(["zstd", "none"]),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "row_group_size": st.sampled_from([1, 7, 1000]),
        "data_page_size": st.sampled_from([1, 1 << 20]),
        "write_batch_size": st.sampled_from([1, 4, 1024]),
        "write_page_index": st.booleans(),
        "write_statistics": st.booleans(),
    }
)


@given(rows=rows, settings=settings)
def test_metrics_are_true(inspector: Inspector, rows: list[Event], settings: Event) -> None:
    flat = [column(name, name, IDS[name]) for name in TYPES]
    inner = [{**each, "field_id": each["field_id"] + NESTED} for each in flat]
    struct = column("inner", {"type": "struct", "fields": inner}, 50)
    items = column("items", {"type": "list", "element_id": 52, "element": "string"}, 51)
    by_key = column("by_key", {"type": "map", "key_id": 54, "value_id": 55, "value": "long"}, 53)
    columns = [*flat, struct, items, by_key]
    # Every third row has no struct at all, and lists and maps are of any length.
    records = [
        {
            **row,
            "inner": None if number % 3 == 2 else row,
            "items": None if row["string"] is None else list(row["string"]),
            "by_key": [(character, row["long"]) for character in set(row["string"] or "")],
        }
        for number, row in enumerate(rows)
    ]
    path = Path(inspector.open_["staging"]) / NAME
    write(path, columns, records, **settings)
    inspector.plan(columns, revision=1)
    told = inspector.answer_to(claimed(path, len(rows)))
    assert told["type"] == "inspected", told
    assert [each["field_id"] for each in told["columns"]] == [
        *IDS.values(),
        *(field_id + NESTED for field_id in IDS.values()),
    ]
    for each in told["columns"]:
        number = each["field_id"]
        kind = list(TYPES)[number % NESTED - 1]
        values = [
            (record if number < NESTED else record["inner"] or {}).get(kind) for record in records
        ]
        assert found(each) == expected(kind, values), (kind, values)
