"""What is no tap's output at all, without end or in excess: an early end with words, bounded memory, no hang.

Full size with DATIVO_NIGHTLY=1.
"""

from __future__ import annotations

import itertools
import json
import random
import subprocess
from collections.abc import Iterable, Iterator

from tests.conformance import readback
from tests.conformance.conftest import NIGHTLY
from tests.conformance.pipes import MB, Ended, Target
from tests.integration.conftest import DATIVO

GB = 1 << 30
MAX_WRITER_BYTES = 256 * MB
MAX_KERNEL_BYTES = 128 * MB
SCHEMA = {
    "type": "SCHEMA",
    "stream": "s",
    "key_properties": [],
    "schema": {"properties": {"id": {"type": "integer"}}},
}


def bounded(ended: Ended) -> None:
    """Nothing grew with the input."""
    assert ended.peak_bytes["dativo-writer"] <= MAX_WRITER_BYTES, ended.peak_bytes
    assert max(ended.peak_bytes.values()) <= MAX_WRITER_BYTES + MAX_KERNEL_BYTES, ended.peak_bytes
    assert "Traceback" not in ended.stderr and len(ended.stderr) < 16_000


def refused(ended: Ended, *codes: str, at_most: int) -> None:
    """It ended early, by one of ``codes``, with nothing on stdout."""
    bounded(ended)
    assert any(code in ended.stderr for code in codes), ended.stderr
    assert ended.status == (6 if "limit." in codes[0] else 7), ended.stderr
    assert ended.stdout == ""
    assert ended.accepted <= at_most


def endless(chunk: bytes) -> Iterator[bytes]:
    return itertools.repeat(chunk)


def test_yes(target: Target) -> None:
    refused(target.load(endless(b"y\n" * 4096)), "limit.text_lines", at_most=8 * MB)


def test_random_bytes(parquet: Target) -> None:
    size = GB if NIGHTLY else 64 * MB
    noise = random.Random(7)
    chunks = (noise.randbytes(MB) for _ in range(size // MB))
    codes = ("framing.", "json.", "message.")
    refused(parquet.load(chunks), *codes, at_most=8 * MB)


def test_random_bytes_of_the_machine(parquet: Target) -> None:
    """Whatever the machine's own noise is: exit 6 or 7, never another."""
    with open("/dev/urandom", "rb") as noise:
        ended = parquet.load(noise.read(MB) for _ in range(16))
    bounded(ended)
    assert ended.status in (6, 7) and ended.stdout == "", ended.stderr


def test_a_line_without_end(parquet: Target) -> None:
    """10 GB in one message: it ends at the limit, not at the end."""
    start = b'{"type":"RECORD","stream":"s","record":{"text":"'
    sent = itertools.chain([start], itertools.repeat(b"a" * MB, 10 * GB // MB))
    ended = parquet.load(sent, timeout_s=60)
    refused(ended, "framing.line_too_long", at_most=64 * MB)


def test_text_without_end(parquet: Target) -> None:
    ended = parquet.load(itertools.repeat(b"a" * MB, 10 * GB // MB), timeout_s=60)
    refused(ended, "framing.line_too_long", at_most=64 * MB)


def test_deep_nesting(parquet: Target) -> None:
    ended = parquet.load(endless(b'{"type":' * 4096), timeout_s=60)
    refused(ended, "json.too_deep", "framing.line_too_long", at_most=64 * MB)


def test_zeros(parquet: Target) -> None:
    """``/dev/zero``: NUL bytes without a line's end."""
    refused(parquet.load(endless(bytes(MB)), timeout_s=60), "framing.", at_most=64 * MB)


def tiny_rows(count: int) -> Iterable[bytes]:
    yield json.dumps(SCHEMA).encode() + b"\n"
    for first in range(0, count, 10_000):
        yield b"".join(
            b'{"type":"RECORD","stream":"s","record":{"id":%d}}\n' % i
            for i in range(first, first + 10_000)
        )
    yield b'{"type":"STATE","value":%d}\n' % count


def test_tiny_rows(parquet: Target) -> None:
    count = 10_000_000 if NIGHTLY else 1_000_000
    ended = parquet.load(tiny_rows(count), timeout_s=600)
    bounded(ended)
    assert (ended.status, ended.states) == (0, [str(count)]), ended.stderr
    assert readback.total(parquet, "s") == (count, count * (count - 1) // 2)


def test_blank_lines(parquet: Target) -> None:
    """They are tolerated, counted and told."""
    count = 10_000_000 if NIGHTLY else 1_000_000
    ended = parquet.load(itertools.repeat(b"\n" * 10_000, count // 10_000))
    bounded(ended)
    assert (ended.status, ended.stdout) == (0, ""), ended.stderr
    shown = subprocess.run(
        [DATIVO, "runs", "show", ended.stderr.split()[-1]],
        env=parquet.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(shown.stdout)["oddities"] == {"blank_line": count}


def test_tiny_states(parquet: Target) -> None:
    """A state is a commit at most, never a growing list."""
    count = 1_000_000 if NIGHTLY else 100_000
    states = (b'{"type":"STATE","value":%d}\n' % number for number in range(count))
    lines = (b"".join(itertools.islice(states, 1000)) for _ in range(count // 1000))
    ended = parquet.load(lines)
    bounded(ended)
    assert ended.status == 0 and ended.states[-1] == str(count - 1), ended.stderr


def test_one_stream_after_another(parquet: Target) -> None:
    """Schemas without end: streams are bounded."""
    lines = (json.dumps({**SCHEMA, "stream": f"s{i}"}).encode() + b"\n" for i in itertools.count())
    ended = parquet.load(lines, timeout_s=120)
    refused(ended, "limit.streams", at_most=8 * MB)


def test_a_shell_pipe(parquet: Target) -> None:
    """The same by a shell: ``yes | dativo-target-parquet``; yes ends by SIGPIPE, the target with its own status."""
    config = str(parquet.config())
    done = subprocess.run(
        ["bash", "-c", 'yes | "$0" --config "$1"; echo "${PIPESTATUS[@]}"', parquet.program, config],
        cwd=parquet.folder,
        env=parquet.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert done.stdout == "141 6\n", (done.stdout, done.stderr)
