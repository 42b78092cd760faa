"""What a target acknowledges, held against what it was sent."""

import json
from typing import Any, cast

import pytest

from dativo.kernel import acknowledgements as module
from dativo.kernel.acknowledgements import Acknowledgements
from dativo.protocol.catalog import Dialect
from dativo.protocol.errors import LimitExceeded, ProtocolViolation
from dativo.protocol.events import StatePassed
from dativo.protocol.state import StateEntry, StateKind, Stream


def stream_state(name: str, value: Any, **more: Any) -> str:
    stream = {"stream_descriptor": {"name": name, **more}, "stream_state": value}
    return json.dumps({"type": "STREAM", "stream": stream})


def sent(
    waiting: Acknowledgements,
    *texts: str,
    kind: str = "singer",
    stream: str | None = None,
    as_sent: str | None = None,
) -> None:
    for number, text in enumerate(texts, 1):
        entry = StateEntry(cast(StateKind, kind), Stream("", stream) if stream else None, text)
        waiting.sent(StatePassed("0", number, entry, as_sent or text))


def acknowledge(waiting: Acknowledgements, text: str) -> list[str]:
    return [entry.text for entry in waiting.acknowledge(text)]


# --- Singer ----------------------------------------------------------------------------------------------------------------


def test_a_singer_target_may_skip_and_repeat() -> None:
    waiting = Acknowledgements("singer")
    sent(waiting, '{"n":1}', '{"n":2}', '{"n":3}')
    assert acknowledge(waiting, '{"n": 2}') == ['{"n":1}', '{"n":2}']
    assert acknowledge(waiting, '{"n":2}') == []
    assert waiting.waiting == 1 and not waiting.must_be_empty
    assert acknowledge(waiting, '{"n":3}') == ['{"n":3}']


@pytest.mark.parametrize(
    "text", ['{"n":9}', '{"n":1}', "null", "[]", '{"n":"2"}', '{"n":2,"m":null}']
)
def test_what_was_not_sent_or_is_older_is_refused(text: str) -> None:
    waiting = Acknowledgements("singer")
    sent(waiting, '{"n":1}', '{"n":2}', '{"n":3}')
    acknowledge(waiting, '{"n":2}')
    with pytest.raises(ProtocolViolation, match="not sent, or an older one"):
        waiting.acknowledge(text)
    assert waiting.waiting == 1


def test_the_oldest_of_equal_states_is_meant() -> None:
    waiting = Acknowledgements("singer")
    sent(waiting, '{"n":1}', '{"n":2}', '{"n":1}')
    assert acknowledge(waiting, '{"n":1}') == ['{"n":1}']
    assert acknowledge(waiting, '{"n":1}') == ['{"n":2}', '{"n":1}']


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"a":1,"b":2}', '{ "b" : 2 , "a" : 1 }'),
        ('{"a":1.0}', '{"a":1}'),
        ('{"a":1e3}', '{"a":1000}'),
        ('{"a":1e400}', '{"a":1' + "0" * 400 + "}"),
        ('{"a":-0.0}', '{"a":0}'),
        ('{"a":0.1234567890123456789}', '{"a":0.12345678901234568}'),
        ('{"a":"\\u00fc\\ud83d\\ude00"}', '{"a":"ü😀"}'),
        ('{"a":1e999999999}', '{"a":10e999999998}'),
    ],
)
def test_a_state_is_known_by_its_value(written: str, read: str) -> None:
    waiting = Acknowledgements("singer")
    sent(waiting, written)
    assert acknowledge(waiting, read) == [written]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"a":1}', '{"a":true}'),
        ('{"a":9007199254740993}', '{"a":9007199254740992}'),
        ('{"a":[1,2]}', '{"a":[2,1]}'),
        ('{"a":"1"}', '{"a":1}'),
        ('{"a":-1}', '{"a":1}'),
        ('{"a":10}', '{"a":1}'),
    ],
)
def test_other_values_are_other_states(written: str, read: str) -> None:
    waiting = Acknowledgements("singer")
    sent(waiting, written)
    with pytest.raises(ProtocolViolation):
        waiting.acknowledge(read)


def test_what_is_saved_is_the_source_s_own_text() -> None:
    waiting = Acknowledgements("singer")
    sent(waiting, stream_state("a", 1), kind="stream", stream="a", as_sent='{"airbyte_states":[1]}')
    assert acknowledge(waiting, '{"airbyte_states":[1]}') == [stream_state("a", 1)]


def test_a_state_put_together_out_of_others_is_passed_over() -> None:
    """target-duckdb and its family: the bookmark of the stream that was flushed goes on, the others stay."""
    waiting = Acknowledgements("singer")
    sent(waiting, *(json.dumps({"bookmarks": {"a": {"n": n}, "b": {"n": -n}}}) for n in (1, 2, 3)))
    assert acknowledge(waiting, '{"bookmarks":{"a":{"n":2},"b":{"n":-1}}}') == []
    assert (waiting.made_up, waiting.waiting) == (1, 3)
    for invented in (
        '{"bookmarks":{"a":{"n":9}}}',
        '{"bookmarks":{}}',
        '{"bookmarks":{"b":{"n":2}}}',
    ):
        with pytest.raises(ProtocolViolation):
            waiting.acknowledge(invented)
    assert len(acknowledge(waiting, '{"bookmarks":{"a":{"n":3},"b":{"n":-3}}}')) == 3
    with pytest.raises(ProtocolViolation):  # older than what is saved
        waiting.acknowledge('{"bookmarks":{"a":{"n":2},"b":{"n":-3}}}')


# --- Airbyte ---------------------------------------------------------------------------------------------------------------


def test_a_destination_acknowledges_each_stream_in_order() -> None:
    waiting = Acknowledgements("airbyte")
    for n in (1, 2):
        for name in ("a", "b"):
            sent(waiting, stream_state(name, n), kind="stream", stream=name)
    assert waiting.must_be_empty
    assert acknowledge(waiting, stream_state("b", 1)) == [stream_state("b", 1)]
    assert acknowledge(waiting, stream_state("a", 1)) == [stream_state("a", 1)]
    assert acknowledge(waiting, stream_state("b", 2)) == [stream_state("b", 2)]
    assert waiting.waiting == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (stream_state("a", 2), "out of order"),
        (stream_state("a", 9), "not sent"),
        (stream_state("c", 1), "not sent"),
        ('{"type":"LEGACY","data":{"a":1}}', "not sent"),
        (stream_state("a", 1, namespace="x"), "not sent"),
    ],
)
def test_a_destination_may_not_reorder_or_invent(text: str, message: str) -> None:
    waiting = Acknowledgements("airbyte")
    sent(waiting, stream_state("a", 1), stream_state("a", 2), kind="stream", stream="a")
    with pytest.raises(ProtocolViolation, match=message):
        waiting.acknowledge(text)


def test_what_orchestrators_add_and_cdks_drop_says_nothing() -> None:
    """Measured with CDK 6 and 7: id, unknown keys and nulls are dropped; destinationStats is added."""
    waiting = Acknowledgements("airbyte")
    written = json.loads(stream_state("a", None, namespace=None, extra=1))
    written |= {"id": 7, "sourceStats": {"recordCount": 3.0}, "global": None}
    sent(waiting, json.dumps(written), kind="stream", stream="a")
    descriptor = {"stream_descriptor": {"name": "a", "namespace": ""}}
    answer = {"type": "STREAM", "stream": descriptor, "destinationStats": {"recordCount": 3}}
    assert acknowledge(waiting, json.dumps(answer)) == [json.dumps(written)]


def test_global_and_legacy_states() -> None:
    waiting = Acknowledgements("airbyte")
    parts = [json.loads(stream_state(name, {"n": 1}))["stream"] for name in ("a", "b")]
    whole = {"type": "GLOBAL", "global": {"shared_state": {"x": 1}, "stream_states": parts}}
    sent(waiting, json.dumps(whole), kind="global")
    sent(waiting, '{"data":{"n":1}}', kind="legacy")
    assert len(acknowledge(waiting, json.dumps(whole))) == 1
    assert len(acknowledge(waiting, '{"type":"LEGACY","data":{"n":1.0}}')) == 1


def test_equal_states_of_a_stream_are_counted() -> None:
    waiting = Acknowledgements("airbyte")
    sent(waiting, *[stream_state("a", 1)] * 2, kind="stream", stream="a")
    assert acknowledge(waiting, stream_state("a", 1)) and acknowledge(waiting, stream_state("a", 1))
    with pytest.raises(ProtocolViolation):
        waiting.acknowledge(stream_state("a", 1))


# --- bounds ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["singer", "airbyte"])
def test_a_target_may_not_let_everything_wait(
    dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNACKNOWLEDGED_STATES", 3)
    waiting = Acknowledgements(dialect)
    texts = [json.dumps({"type": "LEGACY", "data": n}) for n in range(4)]
    sent(waiting, *texts[:3], kind="legacy")
    with pytest.raises(LimitExceeded, match="has not acknowledged 4 states"):
        sent(waiting, texts[3], kind="legacy")
    monkeypatch.setattr(module, "MAX_UNACKNOWLEDGED_BYTES", 50)
    monkeypatch.setattr(module, "MAX_UNACKNOWLEDGED_STATES", 100)
    with pytest.raises(LimitExceeded):
        sent(waiting, texts[3], kind="legacy")


def test_a_state_that_is_no_json_is_refused() -> None:
    waiting = Acknowledgements("singer")
    with pytest.raises(ProtocolViolation):
        waiting.acknowledge("{")
