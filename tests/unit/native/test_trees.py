"""Whatever a schema's tree and wherever a read ends, decoding equals an independent reading of the same lines."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("dativo.native", reason="dativo.native is not built: uv sync")

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.native.trees import Numbers, differences, kind_of, read_json, streams

from dativo import native

NUMBERS: st.SearchStrategy[Numbers] = st.sampled_from(["double", "decimal", "text"])


class Trickle:
    """A file that gives a few bytes at a time."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._sizes, self._at, self._reads = data, sizes, 0, 0

    def read(self, size: int, /) -> bytes:
        step = min(size, self._sizes[self._reads % len(self._sizes)])
        part = self._data[self._at : self._at + step]
        self._at, self._reads = self._at + len(part), self._reads + 1
        return part


@given(st.data())
def test_any_tree_is_read_as_json_reads_it(data: st.DataObject) -> None:
    numbers = data.draw(NUMBERS)
    tree = data.draw(streams(numbers))
    lines = data.draw(st.lists(tree.texts, max_size=4))
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    options: dict[str, Any] = {"numbers": numbers, "batch_rows": data.draw(st.integers(1, 4))}
    source = Trickle("".join(line + "\n" for line in lines).encode(), sizes)
    table = pa.table(native.read_jsonl(source, tree.node, **options))
    table.validate(full=True)
    assert ("struct", tuple((f.name, kind_of(f.type)) for f in table.schema)) == tree.kind
    rows = table.to_pylist()
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        assert differences(row, tree.meaning(read_json(line)), line) == []
