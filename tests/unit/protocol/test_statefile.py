"""States as users have them in files, for a plugin of either dialect."""

import json
import os
from pathlib import Path

import pytest

from dativo.protocol import state, statefile
from dativo.protocol.catalog import Dialect
from dativo.protocol.errors import ConfigError, ProtocolViolation
from dativo.protocol.state import Stream

USERS = (
    '{"type":"STREAM","stream":{"stream_descriptor":{"name":"users"},"stream_state":{"at": 1.50}}}'
)
LOGS = '{"type":"STREAM","stream":{"stream_descriptor":{"name":"logs","namespace":null},"stream_state":{}}}'
OLDER = LOGS.replace("{}", '{"older":1}')
WHOLE = (
    '{"type":"GLOBAL","global":{"shared_state":{"lsn": 12345678901234567890},"stream_states":[]}}'
)
VALUE = '{"bookmarks": {"orders": {"at": 1.50}}}'
WRAPPED = (
    f'{{"type":"GLOBAL","global":{{"shared_state":{{"singer_state":{VALUE}}},"stream_states":[]}}}}'
)


@pytest.mark.parametrize(
    "text",
    [
        f"[{USERS}, {LOGS}]",
        f'{{"airbyte_states": [{USERS},\n{LOGS}]}}',
        f'{{"type":"STATE","value":{{"airbyte_states":[{USERS},{LOGS}]}}}}',
        f"[{OLDER},{USERS},{LOGS}]",
    ],
)
def test_airbyte_states_keep_their_bytes(text: str) -> None:
    entries = statefile.load(text, "airbyte")
    assert {entry.stream: entry.text for entry in entries} == {
        Stream("", "users"): USERS,
        Stream("", "logs"): LOGS,
    }
    assert json.loads(state.airbyte_state_file(entries))


@pytest.mark.parametrize("text", [WHOLE, f"[{WHOLE}]", f'{{"type":"STATE","state":{WHOLE}}}'])
def test_a_state_of_the_whole_source(text: str) -> None:
    (entry,) = statefile.load(text, "airbyte")
    assert (entry.kind, entry.text) == ("global", WHOLE)


def test_the_old_form_of_airbyte() -> None:
    (entry,) = statefile.load('[{"data":{"users":{"at":1}}}]', "airbyte")
    assert entry.kind == "legacy"


@pytest.mark.parametrize(
    "text", [VALUE, f'{{"type":"STATE","value":{VALUE}}}', WRAPPED, f"[{WRAPPED}]", f'{{"type": "STATE", "state": {WRAPPED}}}']
)  # fmt: skip
def test_a_singer_state_keeps_its_bytes(text: str) -> None:
    entries = statefile.load(text, "singer")
    assert state.singer_state_file(entries) == VALUE


@pytest.mark.parametrize("value", ['"cursor"', "7", '{"type":"STATE"}', '{"type":"STREAM"}'])
def test_any_value_is_a_singer_state(value: str) -> None:
    assert state.singer_state_file(statefile.load(value, "singer")) == value


@pytest.mark.parametrize("text", ["", " \n", "null", "{}", "[]", " [ ] \n"])
@pytest.mark.parametrize("dialect", ["airbyte", "singer"])
def test_no_state(text: str, dialect: Dialect) -> None:
    assert statefile.load(text, dialect) == ()


@pytest.mark.parametrize(
    ("text", "dialect", "kind", "message"),
    [
        (VALUE, "airbyte", ConfigError, "not a state of an Airbyte connector"),
        (WRAPPED, "airbyte", ConfigError, "state of a Singer tap"),
        (f"[{WRAPPED}]", "airbyte", ConfigError, "state of a Singer tap"),
        (f"[{USERS}]", "singer", ConfigError, "state of an Airbyte source"),
        (f'{{"airbyte_states":[{USERS}]}}', "singer", ConfigError, "state of an Airbyte source"),
        (WHOLE, "singer", ConfigError, "state of an Airbyte source"),
        (f"[{WRAPPED},{WRAPPED}]", "singer", ConfigError, "state of an Airbyte source"),
        ('{"users":{"at":1}}', "airbyte", ConfigError, "not a state of an Airbyte"),
        ("7", "airbyte", ProtocolViolation, "not an array"),
        ('[{"type":"STREAM"}]', "airbyte", ProtocolViolation, "without its payload"),
        (
            '[{"type":"STREAM","stream":{}}]',
            "airbyte",
            ProtocolViolation,
            "without stream_descriptor",
        ),
        ('[{"type":"SIDEWAYS"}]', "airbyte", ProtocolViolation, "not a state object"),
        ('[{"type":"GLOBAL","global":7}]', "airbyte", ProtocolViolation, "without its payload"),
        ("[7]", "airbyte", ProtocolViolation, "not a state object"),
        ('{"a":NaN}', "singer", ProtocolViolation, "NaN"),
        ('{"a":1} x', "singer", ProtocolViolation, "after its end"),
    ],
)
def test_what_is_refused(text: str, dialect: Dialect, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        statefile.load(text, dialect)


@pytest.mark.parametrize("capture", ["pipelinewise-tap-mysql", "meltanolabs-tap-postgres"])
def test_captured_states_go_through_airbyte_and_back(capture: str) -> None:
    folder = os.environ.get("DATIVO_CAPTURES")
    if folder is None:
        pytest.skip("DATIVO_CAPTURES is not set: captured output of public connectors")
    lines = Path(folder, capture, "final-states.jsonl").read_text().splitlines()
    assert lines
    for line in lines:
        (entry,) = statefile.load(line, "singer")
        wrapped = f'[{{"type":"GLOBAL","global":{{"shared_state":{{"singer_state":{entry.text}}},"stream_states":[]}}}}]'
        assert statefile.load(wrapped, "singer") == (entry,)
