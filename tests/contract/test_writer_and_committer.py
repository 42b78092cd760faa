"""A real writer and a real committer, the kernel's relaying played: nested columns that change while a tap runs."""

from __future__ import annotations

import json
from typing import Any

from tests.contract.writer_kernel import Event, Writer, opening
from tests.faults.committers import Committer, Warehouse

CONTRACT = {"schema": "evolve", "conflict": "new_column", "rename": {"mail": "email"}}


def of(**properties: Any) -> Event:
    """Return the schema of an object; a name stands for the schema of that type."""
    schemas = {k: {"type": v} if isinstance(v, str) else v for k, v in properties.items()}
    return {"type": "object", "properties": schemas}


def items(schema: Any) -> Event:
    return {"type": "array", "items": schema}


def lines(schema: Event, *rows: Event) -> bytes:
    messages = [{"type": "SCHEMA", "stream": "t", "schema": schema, "key_properties": []}]
    messages += [{"type": "RECORD", "stream": "t", "record": row} for row in rows]
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def relay(committer: Committer, data: bytes) -> list[Event]:
    """Have ``data`` written and committed; return the plans."""
    plans: list[Event] = []

    def plan(schema: Event) -> Event:
        committer.send(**{**schema, "contract": CONTRACT})
        plans.append(committer.receive())
        assert plans[-1]["type"] == "stream_plan", plans[-1]
        return plans[-1]

    open_ = opening("singer", committer.staging, [], undeclared="accept")
    with Writer(open_, plan=plan) as writer:
        writer.feed(data)
        writer.close_stdin()
        writer.finish()
        sealed = writer.expect("sealed")
        committer.send(**sealed)
        committed = committer.receive()
        assert committed["type"] == "committed", committed
        writer.send(committed)
        writer.drain()
        assert writer.status == 0
    return plans


def test_a_schema_that_changes_while_a_tap_runs(warehouse: Warehouse) -> None:
    first = of(
        n="integer",
        mail="string",
        a=of(x="integer", Old="string", at=of(lat="number")),
        l=items(of(p="integer")),
        m={"type": "object", "additionalProperties": {"type": "integer"}},
        free={"type": "object"},
    )
    second = of(
        n="integer",
        email="string",
        a=of(x="string", new=items({"type": "boolean"}), at="string"),
        l=items(of(q="number", p="integer")),
        m={"type": "object", "additionalProperties": {"type": "string"}},
        free=of(k="integer"),
    )
    one = {"n": 1, "mail": "a", "l": [{"p": 1}, None], "m": {"k": 1}, "free": {"k": 1}}
    one["a"] = {"x": 1, "Old": "o", "at": {"lat": 0.5}}
    two = {"n": 2, "email": "b", "l": [{"q": 2.5, "p": 2}], "m": {"k": "2"}, "free": {"k": 2}}
    two["a"] = {"x": "two", "new": [True, None], "at": "here"}
    three: Event = {"n": 3, "a": None, "l": [], "m": {}}
    committer = warehouse.opened()
    plans = relay(committer, lines(first, one) + lines(second, two, three))
    assert [plan["schema_id"] for plan in plans] == [0, 1]
    assert committer.close() == 0
    # A later run goes on where it was, and the older schema finds its own columns.
    committer = warehouse.opened()
    again = relay(committer, lines(second, two) + lines(first, {**one, "n": 4, "mail": None}))
    assert again[0]["columns"] == plans[1]["columns"]
    assert committer.close() == 0

    found = warehouse.rows(
        "t", "n, a.x, a.old, a.at.lat, a.x__string, a.new, a.at__string, l, m, m__map, free"
    )
    text = json.dumps({"k": 2})
    assert found == [
        (1, 1, "o", 0.5, None, None, None, [{"p": 1, "q": None}, None], {"k": 1}, None, '{"k": 1}'),
        *[
            (
                2,
                *[None] * 3,
                "two",
                [True, None],
                "here",
                [{"p": 2, "q": 2.5}],
                None,
                {"k": "2"},
                text,
            )
        ]
        * 2,
        (3, *[None] * 6, [], None, {}, None),
        (4, 1, "o", 0.5, None, None, None, [{"p": 1, "q": None}, None], {"k": 1}, None, '{"k": 1}'),
    ]
    if warehouse.plugin == "iceberg":  # which has one column for both names, by its id
        assert warehouse.rows("t", "n, email") == [
            (1, "a"),
            (2, "b"),
            (2, "b"),
            (3, None),
            (4, None),
        ]
