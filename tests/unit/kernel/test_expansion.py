"""``${NAME}``: what is put in, what is refused."""

from pathlib import Path

import pytest

from dativo.kernel.document import parse_yaml
from dativo.kernel.expansion import expand
from dativo.protocol.errors import ConfigError, NotPermitted

LISTED = {"SET": "value", "EMPTY": "", "UNSET": None, "TRICK": "${SET} $$"}


def value(text: str) -> object:
    document = parse_yaml(f"a: '{text}'".encode(), Path("job.yaml"), "job")
    found = expand(document, LISTED).value
    assert isinstance(found, dict)
    return found["a"]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("x ${SET} y ${SET}", "x value y value"),
        ("${EMPTY}", ""),
        ("${UNSET:-none}", "none"),
        ("${EMPTY:-none}", "none"),
        ("${SET:-none}", "value"),
        ("${UNSET:-}", ""),
        ("${SET:?needed}", "value"),
        ("$$", "$"),
        ("$${SET}", "${SET}"),
        ("^a$", "^a$"),
        ("$SET costs 5$", "$SET costs 5$"),
        ("${TRICK}", "${SET} $$"),
    ],
)
def test_expands(text: str, expanded: str) -> None:
    assert value(text) == expanded


@pytest.mark.parametrize("text", ["${SECRET}", "${SECRET:-x}", "${PATH:?}"])
def test_what_is_not_listed_is_not_permitted(text: str) -> None:
    with pytest.raises(NotPermitted, match="not listed by the policy") as error:
        value(text)
    assert (error.value.where.line, error.value.where.pointer) == (1, "/a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${UNSET}", "UNSET is not set"),
        ("${UNSET:?say why}", "say why"),
        ("${EMPTY:?}", "EMPTY is not set"),
        ("${", "does not begin a reference"),
        ("${1A}", "does not begin a reference"),
        ("${SET-x}", "does not begin a reference"),
    ],
)
def test_faults(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        value(text)


def test_keys_numbers_and_secret_references_stay() -> None:
    text = b'{"${SET}": 1.50, "b": {"secret": "env://${SET}"}, "c": ["${SET}"]}'
    found = expand(parse_yaml(text, Path("job.yaml"), "job"), LISTED).value
    assert isinstance(found, dict)
    assert list(found) == ["${SET}", "b", "c"]
    assert (str(found["${SET}"]), found["b"], found["c"]) == (
        "1.50",
        {"secret": "env://${SET}"},
        ["value"],
    )
