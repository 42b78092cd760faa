"""The bounded tail of stderr."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from dativo.sandbox.stderr import MAX_KEPT_LINES, MAX_LINE_BYTES, StderrTail


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    out, into = os.pipe()
    os.set_blocking(into, False)
    yield out, into
    os.close(out)


def test_lines_come_whole(pipe: tuple[int, int]) -> None:
    out, into = pipe
    tail = StderrTail(out, 100)
    os.write(into, b"one\ntw")
    assert tail.read() == [b"one"]
    assert tail.read() == []
    os.write(into, b"o\nrest")
    assert tail.read() == [b"two"]
    os.close(into)
    assert tail.read() == [b"rest"]
    assert tail.closed
    assert tail.tail() == b"one\ntwo\nrest"
    assert tail.read() == []


def test_lines_that_were_drained_come_with_the_next_read(pipe: tuple[int, int]) -> None:
    out, into = pipe
    tail = StderrTail(out, 100)
    os.write(into, b"one\n")
    tail.drain()
    os.write(into, b"two\nthr")
    tail.drain()
    os.close(into)
    tail.drain()
    assert tail.closed
    assert tail.read() == [b"one", b"two", b"thr"]
    assert tail.read() == []


def test_drained_lines_are_bounded(pipe: tuple[int, int]) -> None:
    out, into = pipe
    tail = StderrTail(out, 100)
    for _ in range(3):
        os.write(into, b"x\n" * 900)
        tail.drain()
    assert len(tail.read()) == MAX_KEPT_LINES
    os.close(into)


def test_long_lines_are_cut_and_the_tail_is_bounded(pipe: tuple[int, int]) -> None:
    out, into = pipe
    tail = StderrTail(out, 10)
    for _ in range(5):
        os.write(into, b"x" * 60000)
        assert tail.read() == []
    os.write(into, b"\nnext\n")
    assert tail.read() == [b"x" * MAX_LINE_BYTES, b"next"]
    assert tail.tail() == b"xxxx\nnext\n"
    os.close(into)
