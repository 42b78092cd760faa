"""Which states a foreign target has made durable: what went to it against what it says, by order and content.

A Singer target prints the value of a state once everything before it is stored, and may skip older ones; some (pipelinewise's and
their kin) also print states of their own making, out of bookmarks of several: nothing is saved of these. An Airbyte destination
echoes every STATE, in order: per stream for states of streams, in all for the others. What comes back is compared as JSON, since
targets write it anew (measured: the CDK drops unknown keys, ids and nulls); what is saved is the source's own text.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from dativo.kernel import show
from dativo.kernel.limits import MAX_UNACKNOWLEDGED_BYTES, MAX_UNACKNOWLEDGED_STATES
from dativo.protocol import events, jsontext
from dativo.protocol.catalog import Dialect
from dativo.protocol.errors import LimitExceeded, ProtocolViolation
from dativo.protocol.state import StateEntry, Stream

# Keys of an Airbyte state that orchestrators and destinations add and CDKs drop (airbyte-protocol AirbyteStateMessage).
_NOT_CONTENT: Final = frozenset({"id", "sourceStats", "destinationStats"})


@dataclass(frozen=True, slots=True)
class _Sent:
    """One state that the target was sent: what it must say, and what is then saved."""

    digest: bytes
    state: StateEntry


class Acknowledgements:
    """The states that were sent to one target and are not known to be durable yet. Bounded in number and bytes.

    ``made_up`` counts states that a Singer target has put together out of those that it was sent.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._queues: dict[Stream | None, deque[_Sent]] = {}
        self._bytes = 0
        self._last: _Sent | None = None
        self.made_up = 0

    @property
    def waiting(self) -> int:
        """How many states were sent and not acknowledged."""
        return sum(len(queue) for queue in self._queues.values())

    @property
    def must_be_empty(self) -> bool:
        """Whether every state has to come back: an Airbyte destination echoes each, a Singer target may skip."""
        return self._dialect == "airbyte"

    def sent(self, message: events.StatePassed) -> None:
        """Note a state that has gone to the target. Raises LimitExceeded when too many wait."""
        digest = self._digest(message.sent, "a state of the source")
        key = None if self._dialect == "singer" else message.state.stream
        self._queues.setdefault(key, deque()).append(_Sent(digest, message.state))
        self._bytes += len(message.state.text)
        if self.waiting > MAX_UNACKNOWLEDGED_STATES or self._bytes > MAX_UNACKNOWLEDGED_BYTES:
            raise LimitExceeded(
                f"the target has not acknowledged {self.waiting} states ({self._bytes} bytes)",
                hint="It may acknowledge only at the end of its input; let the source send fewer states",
            )

    def acknowledge(self, text: str) -> list[StateEntry]:
        """Return the states that ``text`` makes durable, oldest first; none for one that is repeated.

        Raises ProtocolViolation for a state that was not sent, or out of its order.
        """
        digest = self._digest(text, "an acknowledged state")
        if self._dialect == "singer":
            return self._singer(digest, text)
        for queue in self._queues.values():
            if queue and queue[0].digest == digest:
                return [self._pop(queue)]
        behind = any(entry.digest == digest for queue in self._queues.values() for entry in queue)
        raise ProtocolViolation(
            "the target acknowledged a state out of order, before an earlier one of its stream"
            if behind
            else "the target acknowledged a state that it was not sent",
            value=show.foreign(text),
        )

    def _singer(self, digest: bytes, text: str) -> list[StateEntry]:
        queue = self._queues.get(None, deque())
        position = next((i for i, entry in enumerate(queue) if entry.digest == digest), None)
        if position is not None:
            self._last = queue[position]
            return [self._pop(queue) for _ in range(position + 1)]
        if self._last is not None and digest == self._last.digest:
            return []
        if self._is_made_up(text, queue):
            self.made_up += 1
            return []
        raise ProtocolViolation(
            "the target acknowledged a state that it was not sent, or an older one",
            value=show.foreign(text),
        )

    def _is_made_up(self, text: str, queue: Iterable[_Sent]) -> bool:
        """Tell whether every bookmark of a state was sent since the last one that was acknowledged, or with it."""
        missing = _bookmarks(text)
        if not missing:
            return False
        known = (self._last, *queue) if self._last is not None else queue
        for entry in known:
            missing -= _bookmarks(entry.state.text) if entry.state.kind == "singer" else set()
            if not missing:
                return True
        return False

    def _pop(self, queue: deque[_Sent]) -> StateEntry:
        entry = queue.popleft()
        self._bytes -= len(entry.state.text)
        return entry.state

    def _digest(self, text: str, what: str) -> bytes:
        value = jsontext.loads(text, what)
        content = value if self._dialect == "singer" else _content(value)
        return hashlib.sha256(_canonical(content).encode("utf-8", "surrogatepass")).digest()


def _bookmarks(text: str) -> set[str]:
    """Return the bookmarks of a Singer state of the common form, each as a text that is the same for equal ones."""
    value = jsontext.loads(text, "a state")
    bookmarks = value.get("bookmarks") if isinstance(value, dict) else None
    if not isinstance(bookmarks, dict):
        return set()
    return {_canonical([name, bookmark]) for name, bookmark in bookmarks.items()}


def _content(state: jsontext.Json) -> jsontext.Json:
    """Return what of an Airbyte state is its meaning; an absent type is LEGACY, null is absent, "" is no namespace."""
    if not isinstance(state, dict):
        return state
    kept = {key: value for key, value in state.items() if key not in _NOT_CONTENT}
    kind = kept.get("type") or "LEGACY"
    if kind == "STREAM":
        return [kind, _stream(kept.get("stream"))]
    if kind == "GLOBAL":
        whole = kept.get("global")
        parts = whole.get("stream_states") if isinstance(whole, dict) else None
        shared = whole.get("shared_state") if isinstance(whole, dict) else None
        return [kind, shared, [_stream(part) for part in parts] if isinstance(parts, list) else []]
    return [kind, kept.get("data")]


def _stream(part: jsontext.Json) -> jsontext.Json:
    if not isinstance(part, dict):
        return part
    descriptor = part.get("stream_descriptor")
    names = descriptor if isinstance(descriptor, dict) else {}
    return [names.get("name"), names.get("namespace") or None, part.get("stream_state")]


def _canonical(value: jsontext.Json) -> str:
    """Return JSON text that is the same for equal values: keys sorted, numbers by value.

    1, 1.0 and 1e0 are one number, and so are fractions that one double stands for, since targets read and write them as doubles.
    """
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(f"{jsontext.dumps(key)}:{_canonical(value[key])}" for key in sorted(value))
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(_canonical(item) for item in value) + "]"
    if isinstance(value, Decimal):
        _, digits, exponent = value.as_tuple()
        text = "".join(map(str, digits)).rstrip("0")
        scale = int(exponent) + len(digits) - len(text)
        if text and scale < 0:
            return repr(float(value))
        return _integer(value.is_signed(), text, scale)
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(abs(value))
        bare = text.rstrip("0")
        return _integer(value < 0, bare, len(text) - len(bare))
    return jsontext.dumps(value)


def _integer(negative: bool, digits: str, zeros: int) -> str:
    """Return a whole number without writing its zeros, of which 1e999999999 has many."""
    return f"{'-' if negative and digits else ''}{digits or 0}e{zeros if digits else 0}"
