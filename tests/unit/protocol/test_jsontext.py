"""Documents keep their numbers and bytes, and hostile ones are refused with a place."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dativo.protocol import jsontext
from dativo.protocol.errors import ProtocolViolation

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.decimals(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read_back_digit_for_digit(value: jsontext.Json) -> None:
    text = jsontext.dumps(value)
    again = jsontext.loads(text, "value")
    assert jsontext.dumps(again) == text or isinstance(value, Decimal)
    assert json.loads(text, parse_float=Decimal) == value


def test_long_numbers_survive() -> None:
    text = '{"n":1.00000000000000000001,"i":123456789012345678901234567890}'
    assert jsontext.dumps(jsontext.loads(text, "x")) == text


def test_members_are_the_source_text() -> None:
    parts = jsontext.members('{ "a" : 1.50 , "b":[1,  {"c":"]}"}], "c":"\\u00e9"}', "x")
    assert parts == {"a": "1.50", "b": '[1,  {"c":"]}"}]', "c": '"\\u00e9"'}
    assert jsontext.elements('[ 1.0, "a,b" ,{"x": []}]', "x") == ["1.0", '"a,b"', '{"x": []}']
    assert jsontext.members("{}", "x") == {} and jsontext.elements(" [ ] ", "x") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a":1,"a":2}',
        "[1,]",
        "NaN",
        '{"a":Infinity}',
        "{} {}",
        "[" * 65 + "]" * 65,
        "[" * 100_000,
        '{"a":' * 5000 + "1" + "}" * 5000,
    ],
)
def test_bad_documents_are_violations(text: str) -> None:
    with pytest.raises(ProtocolViolation):
        jsontext.loads(text, "document")


def test_huge_integers_are_a_violation_not_a_crash() -> None:
    with pytest.raises(ProtocolViolation):
        jsontext.loads("9" * 10_000, "document")
