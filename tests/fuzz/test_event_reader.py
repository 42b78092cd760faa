"""The kernel's reader of events, on its corpus, on changes of it, and on bytes of no kind (event_reader.py)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.event_reader import changed, check, corpus

POOL = corpus()
CHANGES = 60


@pytest.mark.parametrize("number", range(len(POOL)))
def test_the_corpus_and_changes_of_it(number: int) -> None:
    chance = random.Random(number)
    check(POOL[number], 7)
    data = POOL[number]
    for turn in range(CHANGES):
        if turn % 4 == 0:
            data = POOL[number]
        data = changed(data, POOL, chance)
        check(data, chance.randint(1, 300))


def test_events_of_a_good_run_are_taken() -> None:
    taken = [check(data, 100) for data in POOL]
    assert sum(taken) >= 20  # else everything is refused and nothing is looked at


@given(st.binary(max_size=200), st.integers(1, 50))
def test_bytes_of_no_kind(data: bytes, chunk: int) -> None:
    check(data, chunk)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["type", "stream", "files", "counts", "states", "input", "text", "name"]
                )
                | st.text(max_size=5),
                inner,
                max_size=6,
            )
        ),
        max_leaves=20,
    ),
    st.sampled_from(["sealed", "stream_schema", "stats", "error", "committed", "x"]),
    st.integers(1, 50),
)
def test_json_of_no_kind(value: object, kind: str, chunk: int) -> None:
    import json

    event = {**value, "type": kind} if isinstance(value, dict) else value
    check(json.dumps(event).encode() + b"\n", chunk)
