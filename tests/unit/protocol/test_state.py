"""States keep their bytes and merge as their kind says."""

import pytest

from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.state import (
    StateEntry,
    Stream,
    airbyte_state_file,
    digest,
    merge,
    singer_state_file,
)


def stream(name: str, text: str) -> StateEntry:
    return StateEntry("stream", Stream("", name), text)


def test_streams_replace_their_own_and_others_replace_all() -> None:
    first = merge((), [stream("a", "1"), stream("b", "1")])
    second = merge(first, [stream("a", "2")])
    assert [entry.text for entry in second] == ["2", "1"]
    assert merge(second, [StateEntry("global", None, "G")]) == (StateEntry("global", None, "G"),)
    assert (
        merge([StateEntry("singer", None, "1")], [StateEntry("singer", None, "2")])[0].text == "2"
    )
    assert merge(second, ()) == second


def test_digest_tells_entries_apart() -> None:
    assert digest([stream("a", "bc")]) != digest([stream("ab", "c")])
    assert digest([stream("a", "1")]) == digest([stream("a", "1")])


def test_files_hold_the_bytes_as_they_came() -> None:
    assert airbyte_state_file([stream("a", '{"x": 1.50}'), stream("b", "{}")]) == '[{"x": 1.50},{}]'
    assert singer_state_file([StateEntry("singer", None, '{"a" :1}')]) == '{"a" :1}'
    with pytest.raises(ProtocolViolation):
        singer_state_file([])


def test_empty_namespace_is_no_namespace() -> None:
    assert Stream.from_event({"name": "a", "namespace": ""}) == Stream.from_event(
        {"name": "a", "namespace": None}
    )
    assert Stream.from_event({"name": "a"}).to_event() == {"namespace": None, "name": "a"}


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"kind": "stream", "stream": None, "text": ""},
        {"kind": "global", "stream": {"name": "a"}, "text": ""},
        {"kind": "odd", "stream": None, "text": ""},
        {"kind": "singer", "stream": None, "text": {}},
    ],
)
def test_bad_entries_are_violations(value: object) -> None:
    with pytest.raises(ProtocolViolation):
        StateEntry.from_event(value)
