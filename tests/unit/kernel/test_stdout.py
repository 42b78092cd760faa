"""Lines on a descriptor whose reader is slow, gone, or never reads."""

from __future__ import annotations

import os
import threading

import pytest

from dativo.kernel.limits import MAX_STDOUT_BACKLOG_BYTES
from dativo.kernel.stdout import Lines

LINE = "x" * 99_999


def never() -> bool:
    return False


@pytest.fixture
def ends() -> tuple[int, int]:
    return os.pipe()


def test_a_slow_reader_is_not_waited_for(ends: tuple[int, int]) -> None:
    lines = Lines(ends[1], never, never)
    lines.write([LINE] * 10)
    collected = bytearray()

    def read() -> None:
        while data := os.read(ends[0], 65536):
            collected.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    lines.flush()
    os.close(ends[1])
    reader.join()
    os.close(ends[0])
    assert collected.decode() == f"{LINE}\n" * 10
    assert lines.failure is None


def test_a_reader_that_is_gone_is_no_failure(ends: tuple[int, int]) -> None:
    os.close(ends[0])
    lines = Lines(ends[1], never, never)
    lines.write(["a"])
    lines.write(["b"])
    lines.flush()
    assert lines.failure is None
    os.close(ends[1])


def test_a_full_disk_is_a_failure() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    lines = Lines(fd, never, never)
    lines.write(["a"])
    lines.write(["b"])
    lines.flush()
    assert lines.failure is not None and "No space left" in lines.failure.message
    os.close(fd)


def test_a_reader_that_never_reads_is_given_up_on_a_signal(ends: tuple[int, int]) -> None:
    asked: list[str] = []

    def say(what: str) -> bool:
        asked.append(what)
        return len(asked) % 2 == 0

    lines = Lines(ends[1], lambda: say("hurried"), lambda: say("given up"))
    lines.write([LINE] * (MAX_STDOUT_BACKLOG_BYTES // 100_000 + 2))
    assert asked == ["hurried"] * 2
    lines.flush()
    assert asked[2:] == ["given up"] * 2
    for fd in ends:
        os.close(fd)


def test_order_and_bytes_are_kept(ends: tuple[int, int]) -> None:
    lines = Lines(ends[1], never, never)
    lines.write(['{"a": "\u202e"}', "b"])
    lines.push()
    assert os.read(ends[0], 100).decode() == '{"a": "\u202e"}\nb\n'
    for fd in ends:
        os.close(fd)
