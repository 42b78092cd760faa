"""Who reads the relay's output, and how it ends; on this kernel, and on one whose pipes cannot be asked not to wait."""

from __future__ import annotations

import fcntl
import os
import platform
import sys
import termios
import time
from pathlib import Path

import pytest
from tests.contract.relay_kernel import DEADLINE_S, Relay, opening, play, stream

USERS = stream("users", schema={"type": "object", "properties": {"id": {"type": "integer"}}})
SINGER_SCHEMA = (
    '{"type":"SCHEMA","stream":"users","schema":{"properties":{"id":{}}},"key_properties":["id"]}'
)
# Before Linux 6.5 pwritev2(2) answers RWF_NOWAIT on a pipe with EOPNOTSUPP: here a seccomp filter does (SECCOMP_RET_ERRNO).
PWRITEV2 = {"x86_64": 328, "aarch64": 287}[platform.machine()]
BEFORE_6_5 = f"""
import ctypes, os, signal, struct, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
code = [(0x20, 0, 0, 0), (0x15, 0, 1, {PWRITEV2}), (0x06, 0, 0, 0x5005F), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
prctl = ctypes.CDLL(None, use_errno=True).prctl
described = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program))
if prctl(38, 1, 0, 0, 0) or prctl(22, 2, described):
    raise OSError(ctypes.get_errno(), "no filter")
os.execv(sys.argv[1], sys.argv[1:])
"""
KERNELS = {
    "this kernel": (),
    "before 6.5": (sys.executable, "-I", "-S", "-c", BEFORE_6_5),
}


@pytest.fixture(params=KERNELS.values(), ids=list(KERNELS))
def through(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What the relay is started through."""
    started: tuple[str, ...] = request.param
    return started


def text(*lines: str) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


def singer(data: str) -> str:
    return f'{{"type":"RECORD","stream":"users","record":{data}}}'


@pytest.mark.parametrize("end", ["abort", "lost kernel", "killed", "error", "half line"])
def test_whatever_does_not_succeed_ends_with_half_a_line(
    through: tuple[str, ...], end: str
) -> None:
    whole = text(SINGER_SCHEMA, singer('{"id":1}'))
    with Relay(opening("singer", "singer", [USERS]), through=through) as relay:
        relay.feed(whole)
        relay.wait_for(len(whole) - 2)
        if end == "abort":
            relay.send({"type": "abort"})
        elif end == "lost kernel":
            relay.close_control()
        elif end == "killed":
            os.kill(relay.pid, 9)
        elif end == "error":
            relay.feed(b"{]\n")
        else:
            relay.feed(b'{"type":')
            relay.close_stdin()
            relay.finish()
        relay.wait()
        expected = {"abort": 0, "lost kernel": 1, "killed": -9, "error": 7, "half line": 7}
        assert relay.status == expected[end]
    assert relay.output == whole[:-2]


def test_an_output_that_fails_before_its_first_line_is_not_empty(through: tuple[str, ...]) -> None:
    relay = play(opening("singer", "singer", [USERS]), b"{]\n", through=through)
    assert relay.status == 7 and relay.output == b"{"
    with Relay(opening("singer", "singer", [USERS]), through=through) as relay:
        relay.expect("hello")
        relay.send({"type": "abort"})
        relay.drain()
    assert relay.output == b"{"


def test_a_slow_reader_that_took_whole_lines_sees_half_a_line(through: tuple[str, ...]) -> None:
    # A pipe of one page, filled to the last byte by lines that divide it: what stdout has taken ends with a line.
    page, length = os.sysconf("SC_PAGE_SIZE"), 64
    line = singer('{"id":1,"x":"' + "y" * (length - 1 - len(singer('{"id":1,"x":""}'))) + '"}')
    titled = SINGER_SCHEMA.replace('{"properties"', '{"title":"","properties"')
    padding = "x" * (-(len(titled) + 1) % length)
    schema = titled.replace('"title":""', f'"title":"{padding}"')
    with Relay(opening("singer", "singer", [USERS]), read=False, through=through) as relay:
        fcntl.fcntl(relay.stdout, fcntl.F_SETPIPE_SZ, page)
        relay.feed(text(schema, *[line] * 200))
        deadline = time.monotonic() + DEADLINE_S
        while fcntl.ioctl(relay.stdout, termios.FIONREAD, b"\0" * 4) != page.to_bytes(
            4, sys.byteorder
        ):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        relay.feed(b"{nonsense}\n")
        while relay.next() is not None:
            pass
        assert relay.error()["code"] == "json.invalid"
        taken = bytearray()
        while data := os.read(relay.stdout, 1 << 16):
            taken += data
        assert taken[:page].endswith(b"}\n") and taken[page:] == b"{"
        assert relay.wait() == 7


def test_an_empty_source_gives_an_empty_output(through: tuple[str, ...]) -> None:
    relay = play(opening("singer", "singer", [USERS]), through=through)
    assert relay.status == 0 and relay.output == b""


def test_a_reader_that_is_gone_ends_the_run_even_while_the_source_is_silent(
    through: tuple[str, ...],
) -> None:
    with Relay(opening("singer", "singer", [USERS]), read=False, through=through) as relay:
        relay.expect("hello")
        relay.close_stdout()
        relay.drain()
    assert relay.status == 5
    assert (relay.error()["code"], relay.error()["blame"]) == ("target.closed", "user")


def test_a_reader_that_goes_away_in_the_middle_ends_the_run(through: tuple[str, ...]) -> None:
    with Relay(opening("singer", "singer", [USERS]), read=False, through=through) as relay:
        relay.feed_all(iter([text(SINGER_SCHEMA), *[text(singer('{"id":1}')) * 1000] * 100]))
        os.read(relay.stdout, 100_000)
        relay.close_stdout()
        relay.drain()
    assert relay.status == 5 and relay.error()["code"] == "target.closed"


def test_a_reader_that_takes_nothing_blocks_the_source_but_not_the_kernel(
    through: tuple[str, ...],
) -> None:
    with Relay(opening("singer", "singer", [USERS]), read=False, through=through) as relay:
        relay.feed_all(iter([text(SINGER_SCHEMA), *[text(singer('{"id":1}')) * 1000] * 1000]))
        stats = relay.expect("stats")
        while stats["blocked_s"] < 0.5:
            stats = relay.expect("stats")
        assert stats["bytes"] < 2_000_000 and stats["idle_s"] == 0
        assert relay.peak_bytes < 16_000_000
        relay.send({"type": "abort"})
        relay.drain()
        assert relay.status == 0
        taken = b""
        while data := os.read(relay.stdout, 1 << 16):
            taken += data
    assert not taken.endswith(b"}\n") and taken.startswith(SINGER_SCHEMA.encode())


def test_an_output_that_cannot_be_asked_not_to_wait_is_written_in_small_pieces(
    tmp_path: Path,
) -> None:
    """As on a kernel whose pipes do not know RWF_NOWAIT; a file takes the same way."""
    rows = [singer(f'{{"id":{number}}}') for number in range(20_000)]
    with (tmp_path / "out").open("wb") as file:
        with Relay(opening("singer", "singer", [USERS]), sink=file.fileno()) as relay:
            relay.feed_all(iter([text(SINGER_SCHEMA, *rows)]))
            relay.finish()
            relay.drain()
        assert relay.status == 0
    assert (tmp_path / "out").read_bytes() == text(SINGER_SCHEMA, *rows)


def test_the_readers_pipe_stays_as_it_is(through: tuple[str, ...]) -> None:
    """O_NONBLOCK belongs to the open file description, which others may share."""
    with Relay(opening("singer", "singer", [USERS]), through=through) as relay:
        relay.feed(text(SINGER_SCHEMA))
        relay.wait_for(len(SINGER_SCHEMA) - 1)
        for fd in (0, 1):
            flags = (
                Path(f"/proc/{relay.pid}/fdinfo/{fd}").read_text().split("flags:\t")[1].split()[0]
            )
            assert not int(flags, 8) & os.O_NONBLOCK
        relay.send({"type": "abort"})
        relay.drain()
