"""Columns that go on under the new names of their properties, as the operator's contract says; their field ids stay."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from dativo.plugins.commit import identifiers, types
from dativo.plugins.commit.contracts import Contract
from dativo.plugins.commit.faults import config_fault
from dativo.plugins.commit.messages import StreamSchema
from dativo.plugins.commit.types import Column


def renamed(
    schema: StreamSchema,
    contract: Contract,
    table: Sequence[Column],
    reserved: AbstractSet[str] = frozenset(),
) -> tuple[Column, ...]:
    """Return ``table`` with the columns of renamed properties under their new names, none of them ``reserved``.

    Once only: a property that the source does not send is not given to, and one that has a column keeps it. Raises CommitFault
    ``config.rename`` when the source sends old and new name at once.
    """
    sent = {part.property for part in schema.columns}
    held = {column.property for column in table}
    moves = {
        old: new
        for old, new in contract.rename.items()
        if old in held and new in sent and new not in held
    }
    for old in moves.keys() & sent:
        raise config_fault(
            "rename",
            f"stream {schema.stream} has both {old!r} and {moves[old]!r}, which its contract calls one renamed property",
            value=f"{old}: {moves[old]}",
            stream=schema.stream,
            hint="Remove it from the contract's rename: the new property then gets a column of its own.",
        )
    taken = {*reserved, *(column.name for column in table if column.property not in moves)}
    firsts: dict[str, str] = {}
    columns: dict[int, Column] = {}
    # The oldest column of a property has the name that those of other types are called after.
    for column in sorted(table, key=lambda column: column.field_id):
        if column.property in moves:
            new = moves[column.property]
            text = f"{firsts[new]}__{types.kind(column.type)}" if new in firsts else new
            column = replace(column, property=new, name=identifiers.unused(text, taken))
            firsts.setdefault(new, column.name)
            taken.add(column.name)
        columns[column.field_id] = column
    return tuple(columns[column.field_id] for column in table)
