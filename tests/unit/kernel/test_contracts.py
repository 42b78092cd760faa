"""Contracts: which one holds for a stream, what a job may say, and what writer and committer are told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dativo.kernel import limits
from dativo.kernel.contracts import Contract, Contracts
from dativo.kernel.job import load_job
from dativo.kernel.landing import Input, Table, open_writer
from dativo.protocol.errors import ConfigError, Where
from dativo.protocol.state import Stream

USERS = Stream("", "users")
JOB = """\
pipeline: shop
source: {connector: ./plugins/mine}
target: {connector: iceberg, config: {warehouse: ./lake, namespace: shop}}
contracts:
"""


def load(folder: Path, text: str, head: str = JOB) -> Contracts:
    (folder / "job.yaml").write_text(head + text)
    return load_job(folder / "job.yaml", {}).contracts


def test_without_contracts_nothing_is_discarded(tmp_path: Path) -> None:
    contract = load(tmp_path, "", JOB.removesuffix("contracts:\n")).of(USERS)
    assert contract == Contract() and not contract.may_reject
    assert contract.to_committer() == {"schema": "evolve", "conflict": "new_column", "rename": {}}


def test_the_last_pattern_that_meets_a_stream_holds_as_a_whole(tmp_path: Path) -> None:
    contracts = load(
        tmp_path,
        '  "*": {values: discard_row, max_rejects: 5}\n'
        "  us*: {schema: freeze}\n"
        "  public\\.o?ders: {values: discard_value, keep_text: true}\n",
    )
    assert contracts.of(Stream("", "others")) == Contract(values="discard_row", max_rejects=5)
    assert contracts.of(USERS) == Contract(schema="freeze")
    kept = Contract(values="discard_value", max_rejects=limits.MAX_REJECTS, keep_text=True)
    assert contracts.of(Stream("public", "orders")) == kept
    assert contracts.of(Stream("", "Users")).values == "discard_row"


def test_everything_that_a_contract_says(tmp_path: Path) -> None:
    text = (
        "  users: {schema: freeze, conflict: fail, values: fail, rename: {mail: email, n: name}}\n"
    )
    contract = load(tmp_path, text).of(USERS)
    assert contract.document() == {
        "schema": "freeze",
        "conflict": "fail",
        "values": "fail",
        "max_rejects": 0,
        "keep_text": False,
        "rename": {"mail": "email", "n": "name"},
    }


@pytest.mark.parametrize(
    ("text", "message", "pointer"),
    [
        ("  users: {schema: strict}", "`schema`: is not known", "/contracts/users/schema"),
        ("  users: {values: drop}", "`values`: is not known", "/contracts/users/values"),
        ("  users: {value: fail}", "unknown key `value`", "/contracts/users/value"),
        (
            "  users: {max_rejects: 3}",
            "`max_rejects` speaks of what is discarded",
            "/contracts/users/max_rejects",
        ),
        (
            "  users: {values: fail, keep_text: true}",
            "`keep_text` speaks",
            "/contracts/users/keep_text",
        ),
        (
            "  users: {values: discard_row, max_rejects: -1}",
            "expected a whole number",
            "/contracts/users/max_rejects",
        ),
        ("  users: {rename: {a: b, c: b}}", "named twice", "/contracts/users/rename"),
        ("  users: {rename: {a: b, b: c}}", "named twice", "/contracts/users/rename"),
        ("  users: {rename: {a: 1}}", "expected the name of", "/contracts/users/rename/a"),
        ("  users: []", "expected a mapping", "/contracts/users"),
        ('  "": {}', "expected a pattern", "/contracts/"),
    ],
)
def test_what_no_contract_may_say(tmp_path: Path, text: str, message: str, pointer: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        load(tmp_path, text)
    assert error.value.where.pointer == pointer


def test_a_foreign_target_keeps_no_contracts(tmp_path: Path) -> None:
    foreign = (
        "pipeline: shop\nsource: {connector: ./mine}\ntarget: {connector: ./other}\ncontracts:\n"
    )
    with pytest.raises(ConfigError, match="foreign target has its own rules"):
        load(tmp_path, "  users: {schema: freeze}", foreign)


def test_a_pattern_that_meets_no_stream_is_an_error_that_lists_them() -> None:
    contracts = Contracts((("*", Contract()), ("user", Contract(schema="freeze"))))
    with pytest.raises(ConfigError, match="'user' meets no stream") as error:
        contracts.check([USERS, Stream("x", "orders")], Where(pointer="/contracts"))
    assert error.value.hint == "The source has: users, x.orders"
    contracts.check([Stream("", "user")], Where())


def test_the_writer_is_told_only_of_what_may_be_discarded() -> None:
    discards = Contract(values="discard_row", max_rejects=7)
    source = Input(
        "singer",
        (Table(USERS, ("id",)), Table(Stream("", "orders"), ())),
        limits.ReadLimits(),
        contracts=Contracts((("*", Contract(schema="freeze")), ("orders", discards))),
    )
    told: Any = open_writer(source, limits.EpochLimits())["streams"]
    users, orders = told
    assert "contract" not in users
    assert orders["contract"] == {"values": "discard_row", "max_rejects": 7, "keep_text": False}
