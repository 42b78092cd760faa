"""Whatever the real writer writes, the real inspector lets pass: flat and nested, full of nulls and odd floats."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.contract.inspector_kernel import Inspector
from tests.contract.inspector_kernel import opening as opening_inspector
from tests.contract.writer_kernel import Event, Writer, opening, plan_for, stream

NUMBER = {"type": ["null", "number"]}
TEXT = {"type": ["null", "string"]}
ITEM = {"type": ["null", "object"], "properties": {"p": NUMBER, "q": TEXT}}
SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": ["null", "integer"]},
        "f": NUMBER,
        "b": {"type": ["null", "boolean"]},
        "t": TEXT,
        "d": {"type": ["null", "string"], "format": "date-time"},
        "x": {"type": ["null", "string"], "contentEncoding": "base64"},
        "o": ITEM,
        "l": {"type": ["null", "array"], "items": ITEM},
        "ll": {"type": ["null", "array"], "items": {"type": ["null", "array"], "items": NUMBER}},
        "m": {"type": ["null", "object"], "additionalProperties": TEXT},
    },
}

# Texts that begin alike, that cannot be cut, and that are long.
texts = st.none() | st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.sampled_from(["", "a" * 40, "a" * 100, "\x7f" * 80, "\U0010ffff" * 30, "ä" * 40]),
)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3)
items = st.none() | st.fixed_dictionaries({}, optional={"p": numbers, "q": texts})
records = st.fixed_dictionaries(
    {},
    optional={
        "n": st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3),
        "f": numbers,
        "b": st.none() | st.booleans(),
        "t": texts,
        "d": st.none() | st.datetimes().map(lambda at: at.isoformat() + "Z"),
        "x": st.none()
        | (st.binary(max_size=3) | st.just(b"\xff" * 80)).map(
            lambda data: base64.b64encode(data).decode()
        ),
        "o": items,
        "l": st.none() | st.lists(items, max_size=4),
        "ll": st.none() | st.lists(st.none() | st.lists(numbers, max_size=3), max_size=3),
        "m": st.none()
        | st.dictionaries(st.text(st.characters(codec="ascii"), max_size=3), texts, max_size=3),
    },
)


@given(rows=st.lists(records, min_size=1, max_size=40), group=st.sampled_from([1, 3, 1000]))
def test_what_the_writer_writes_passes(rows: list[Event], group: int) -> None:
    lines = [
        {"type": "RECORD", "record": {"stream": "s", "emitted_at": 1, "data": row}} for row in rows
    ]
    plans: list[Event] = []

    def plan(schema: Event) -> Event:
        plans.append(plan_for(schema))
        return plans[-1]

    with tempfile.TemporaryDirectory() as folder:
        staging = Path(folder)
        settings = {"row_group_rows": group}
        open_ = opening("airbyte", staging, [stream("s", SCHEMA)], parquet=settings)
        with Writer(open_, plan=plan) as writer:
            writer.feed_all(iter([b"".join(json.dumps(line).encode() + b"\n" for line in lines)]))
            writer.finish()
            writer.drain()
        assert not writer.of("error"), writer.of("error")
        files = writer.files("s")
        told: Any = {}
        with Inspector(opening_inspector(staging)) as inspector:
            inspector.expect("hello")
            inspector.send(plans[-1])
            told = inspector.answer_to(*files)
    assert told["type"] == "inspected", told
    assert sum(file["rows"] for file in files) == len(rows)
