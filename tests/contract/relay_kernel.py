"""Play the kernel's part to the real dativo-relay: a socketpair on descriptor 3, pipes on stdin and stdout."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self

from tests.contract.played import DEADLINE_S as DEADLINE_S
from tests.contract.played import Event as Event
from tests.contract.played import Fed

LIMITS: Final[Mapping[str, int]] = {
    "max_line_bytes": 33554432,
    "max_depth": 64,
    "max_columns": 2000,
    "max_streams": 1000,
    "max_state_bytes": 1048576,
    "max_text_lines": 10000,
    "max_withheld_bytes": 16777216,
}


def stream(
    name: str,
    *,
    namespace: str | None = None,
    out: str | None = None,
    key: Sequence[str] = (),
    schema: object = None,
    drop: Sequence[str] = (),
) -> Event:
    """Return one entry of ``open.streams``; ``out`` is its name in a Singer output, ``schema`` a JSON Schema."""
    return {
        "stream": {"namespace": namespace, "name": name},
        "name": out or name,
        "key": list(key),
        "schema": None if schema is None else json.dumps(schema),
        "drop": list(drop),
    }


def opening(dialect: str, to: str, streams: Sequence[Event], **more: Any) -> Event:
    """Return an ``open`` of the role ``pass`` with defaults but for ``more``; ``limits`` are added to the default ones."""
    limits = more.pop("limits", {})
    return {
        "type": "open",
        "input": "0",
        "role": "pass",
        "dialect": dialect,
        "as": to,
        "strict": False,
        "undeclared": "refuse",
        "streams": list(streams),
        "states": "pass",
        "report_states": False,
        "statuses": False,
        "max_records": None,
        "limits": {**LIMITS, **limits},
        **more,
    }


def acks(dialect: str, *, strict: bool = False, **limits: int) -> Event:
    """Return an ``open`` of the role ``acks``."""
    return {
        "type": "open",
        "role": "acks",
        "input": "0",
        "dialect": dialect,
        "strict": strict,
        "limits": {**LIMITS, **limits},
    }


@dataclass
class Relay(Fed):
    """One relay process.

    Its output is collected in ``output`` unless ``read`` is false: then the test reads the descriptor ``stdout``.
    With ``sink`` it writes to that descriptor instead of a pipe. ``through`` is what it is started through.
    """

    program: ClassVar[str] = "dativo-relay"

    read: bool = True
    sink: int | None = None
    through: Sequence[str] = ()
    output: bytearray = field(default_factory=bytearray, init=False)

    def __enter__(self) -> Self:
        self.stdout, stdout = os.pipe2(os.O_CLOEXEC)
        try:
            self.begin(stdout if self.sink is None else self.sink, self.through)
        finally:
            os.close(stdout)
        if self.read:
            self.beside(self._collect)
        return self

    def _collect(self) -> None:
        while data := os.read(self.stdout, 1 << 16):
            self.output += data

    def close(self) -> None:
        """Close what this side holds."""
        super().close()
        self.close_stdout()

    def finish(self, *, complete: bool = True, at_once: bool = False) -> None:
        """Tell it that the source is done."""
        event = {"type": "finish", "rest": "commit", "complete": complete, "at_once": at_once}
        self.send(event)

    def close_stdout(self) -> None:
        """Be a reader that goes away."""
        fd, self.stdout = self.stdout, -1
        if fd >= 0:
            os.close(fd)

    def lines(self) -> list[str]:
        """Return the lines of its output, which must end with a whole one."""
        text = self.output.decode()
        assert text == "" or text.endswith("\n"), text[-100:]
        return text.split("\n")[:-1]

    def wait_for(self, size: int) -> bytes:
        """Return the output once it has at least ``size`` bytes."""
        deadline = time.monotonic() + DEADLINE_S
        while len(self.output) < size:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{len(self.output)} bytes of output: {bytes(self.output[-200:])!r}"
                )
            time.sleep(0.005)
        return bytes(self.output)


def play(open_: Event, *chunks: bytes, complete: bool = True, through: Sequence[str] = ()) -> Relay:
    """Run a whole source: all of ``chunks``, end of file, ``finish``, until the relay is gone."""
    with Relay(open_, through=through) as relay:
        relay.feed_all(iter(chunks))
        relay.finish(complete=complete)
        relay.drain()
    return relay
