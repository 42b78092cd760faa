from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dativo.plugins.commit import identifiers
from dativo.plugins.commit.faults import CommitFault
from dativo.protocol.state import Stream

LEGAL = re.compile(r"[a-z_][a-z0-9_]{0,127}")
NAMES = st.text(min_size=1) | st.from_regex(
    r"_{0,3}(dativo)?[A-Za-z0-9_ ./\\-]{0,200}", fullmatch=True
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("users", "users"),
        ("user_id", "user_id"),
        ("UserId", "userid"),
        ("user id", "user_id"),
        ("../../etc/passwd", "______etc_passwd"),
        ("2fa", "_2fa"),
        ("ﬁeld①", "field1"),
        ("a" * 128, "a" * 128),
        ("_private", "_private"),
        ("_dativo_epoch", "dativo_epoch"),
        ("_DATIVO", "dativo"),
        ("İ", "i_"),
    ],
)
def test_fold(name: str, expected: str) -> None:
    assert identifiers.fold(name) == expected


def test_names_without_a_letter_are_kept_apart() -> None:
    folded = {identifiers.fold(name) for name in ("日本", "中国", "__", "", "-")}
    assert len(folded) == 5


def test_long_names_that_begin_alike_are_kept_apart() -> None:
    first, second = ("x" * 300 + end for end in "ab")
    assert identifiers.fold(first) != identifiers.fold(second)


def check(name: str) -> None:
    for folded in (identifiers.fold(name), identifiers.hashed(name)):
        assert LEGAL.fullmatch(folded)
        assert not folded.startswith("_dativo")
        assert identifiers.is_identifier(folded)
    assert identifiers.fold(identifiers.fold(name)) == identifiers.fold(name)
    if identifiers.is_identifier(name):
        assert identifiers.fold(name) == name


@given(NAMES)
def test_every_name_becomes_legal(name: str) -> None:
    check(name)


@given(st.lists(NAMES, unique=True, max_size=30))
def test_names_never_meet(names: list[str]) -> None:
    taken: set[str] = set()
    for name in names:
        identifier = identifiers.unused(name, taken)
        assert LEGAL.fullmatch(identifier)
        assert identifier not in taken
        taken.add(identifier)


def test_occupied_suffixes_do_not_help_an_attacker() -> None:
    taken: set[str] = set()
    for _ in range(5):
        taken.add(identifiers.unused("User Id", taken))
    assert len(taken) == 5


@given(st.builds(Stream, st.text(), st.text(min_size=1)))
def test_table_names_are_legal(stream: Stream) -> None:
    plain, hashed = identifiers.table_names(stream)
    assert LEGAL.fullmatch(plain)
    assert LEGAL.fullmatch(hashed)


def test_table_names_of_streams_that_read_alike() -> None:
    one = identifiers.table_names(Stream("a", "b__c"))
    other = identifiers.table_names(Stream("a__b", "c"))
    assert one[0] == other[0]
    assert one[1] != other[1]


@pytest.mark.parametrize("namespace", ["", "Shop", "a.b", "..", "_dativo", "_dativo_x", "a/b", "é"])
def test_namespace_of_the_job_is_never_folded(namespace: str) -> None:
    with pytest.raises(CommitFault) as raised:
        identifiers.check_namespace(namespace)
    assert raised.value.code == "config.namespace"


def test_naughty_strings() -> None:
    corpora = os.environ.get("DATIVO_CORPORA")
    if corpora is None:
        pytest.skip("DATIVO_CORPORA names no folder of corpora")
    names = json.loads((Path(corpora) / "naughty-strings.json").read_text())
    assert len(names) > 400
    for name in names:
        check(name)


def test_rejects_alone_have_a_reserved_name() -> None:
    name = "_dativo_rejects"
    assert identifiers.table_names(Stream("", name)) == (name, name)
    plain, hashed = identifiers.table_names(Stream("x", name))
    assert plain == "x___dativo_rejects" and hashed.startswith(plain)
    assert identifiers.table_names(Stream("", "_DATIVO_rejects"))[0] == "dativo_rejects"
