"""What holds for any bytes that a confined process writes to its control socket, and a fuzzer of it.

    python -m tests.fuzz.event_reader SECONDS

changes the committed corpus (tests/fuzz/corpus/events), as bytes and as JSON, for so long. An input that breaks what must hold
is written below tests/fuzz/found and ends it with status 1.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from dativo.kernel.claims import Claims
from dativo.kernel.tally import Tally
from dativo.plugins.commit.faults import CommitFault
from dativo.plugins.commit.messages import Sealed, StreamSchema
from dativo.protocol import control, events
from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.state import Stream

CORPUS: Final = Path(__file__).with_name("corpus") / "events"
FOUND: Final = Path(__file__).with_name("found")
USERS: Final = Stream("", "users")
_COMMITTER: Final = {"sealed": Sealed.from_event, "stream_schema": StreamSchema.from_event}
_ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, 1e308, 0.5, "", "0", "users", "\0", "../x", "\x1b[2J", "\ud7ff"),
    *([], {}, [[]], {"": None}, "x" * 2000, [0] * 100),
)  # fmt: skip


def corpus() -> list[bytes]:
    """The committed inputs, in the order of their names."""
    return [path.read_bytes() for path in sorted(CORPUS.iterdir())]


def check(data: bytes, chunk: int) -> int:
    """Read ``data`` as the kernel does; returns how many events were taken. Raises whatever must not be raised.

    Events and the refusal are the same however the bytes arrive. Each event is taken or refused by ProtocolViolation; what is
    taken is of bounded size; what would be passed on is written and read again as it was, and the committer takes or refuses it.
    """
    heard, refused = hear(data, len(data) or 1)
    assert hear(data, chunk) == (heard, refused)
    claims, tally = writer()
    for event in heard:
        try:
            message = events.parse(event)
            take(claims, tally, message)
            line = control.encode(event)
        except ProtocolViolation as violation:
            assert violation.message and len(violation.value or "") <= 1000
            return heard.index(event)
        # A number that no double holds is written as null: it is in no field that is looked at.
        assert orjson.loads(line)["type"] == event["type"]
        commit(control.decode(line.removesuffix(b"\n")))
    return len(heard)


def hear(data: bytes, chunk: int) -> tuple[list[control.Event], str | None]:
    """Return the events of ``data``, read in pieces, and why the rest was refused."""
    buffer, heard = control.LineBuffer(), []
    try:
        for at in range(0, len(data), chunk):
            for event in buffer.feed(data[at : at + chunk]):
                heard.append(event)
    except ProtocolViolation as violation:
        return heard, violation.message
    return heard, None


def writer() -> tuple[Claims, Tally]:
    claims = Claims("airbyte", [USERS], declare=False, max_streams=10, max_state_bytes=1000)
    return claims, Tally()


def take(claims: Claims, tally: Tally, message: events.ControlMessage) -> None:
    """Do with a message what a run into dativo's own target does."""
    match message:
        case events.StreamSchema():
            claims.take_schema(message)
        case events.Sealed():
            claims.take_sealed(message, finishing=True)
            tally.take_sealed(message)
            rows = sum(file.rows for file in message.files)
            assert rows == sum(count.written for count in message.counts)
            assert all(state.stream in (None, USERS) for state in message.states)
        case events.Committed():
            tally.take_committed(message)


def commit(event: Mapping[str, Any]) -> None:
    """Let the committer read what the kernel has passed on."""
    if (read := _COMMITTER.get(event["type"])) is not None:
        try:
            read(event)
        except (CommitFault, ProtocolViolation):
            return


# --- changes ---------------------------------------------------------------------------------------------------------------


def changed(data: bytes, pool: list[bytes], chance: random.Random) -> bytes:
    """Return ``data`` with a few bytes or values changed, or with lines of another input."""
    lines = data.splitlines(keepends=True) or [b""]
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(lines))
        how = chance.randrange(4)
        if how == 0:
            lines[at] = _bytes(lines[at], chance)
        elif how == 1:
            lines.insert(at, chance.choice(chance.choice(pool).splitlines(keepends=True) or [b""]))
        else:
            lines[at] = _values(lines[at], chance)
    return b"".join(lines)


def _bytes(line: bytes, chance: random.Random) -> bytes:
    new = bytearray(line)
    at = chance.randrange(len(new) + 1)
    new[at : at + chance.randrange(3)] = chance.choice(
        [b"", b"\n", b'"', b"{", b"}", b"[" * 200, b"\xff", b"\0", b"-", b"9" * 30, b"\\ud800", b"e999"]
    )  # fmt: skip
    return bytes(new)


def _values(line: bytes, chance: random.Random) -> bytes:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return line
    at: Any = event
    for _ in range(chance.randint(0, 4)):
        below = [*at.values()] if isinstance(at, dict) else at if isinstance(at, list) else []
        folders = [each for each in below if isinstance(each, dict | list)]
        if not folders:
            break
        at = chance.choice(folders)
    if isinstance(at, dict) and at:
        key = chance.choice([*at])
        if chance.random() < 0.2:
            del at[key]
        else:
            at[key] = chance.choice(_ODD)
    elif isinstance(at, list):
        at.insert(0, chance.choice([*_ODD, *at]))
    return json.dumps(event).encode() + b"\n"


def main(seconds: float) -> int:
    """Change inputs for ``seconds``; print how many, and how many events were taken."""
    seed = time.time_ns()
    chance, pool = random.Random(seed), corpus()
    end, runs, taken = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        data = changed(chance.choice(pool), pool, chance)
        try:
            taken += check(data, chance.randint(1, 300))
        except Exception:
            FOUND.mkdir(exist_ok=True)
            file = FOUND / hashlib.sha256(data).hexdigest()[:12]
            file.write_bytes(data)
            print(f"seed {seed}, run {runs}: {file}", file=sys.stderr)
            raise
        runs += 1
        # What is taken whole is changed further.
        if len(pool) < 5000 and runs % 50 == 0 and len(data) < 20_000:
            pool.append(data)
    print(f"events: {runs} runs, {taken} events taken, seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
