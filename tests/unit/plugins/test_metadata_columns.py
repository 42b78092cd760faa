"""Metadata columns of a table: under their own names, apart from every property of the source."""

from __future__ import annotations

import pytest

from dativo.plugins.commit.columns import Evolution, evolve
from dativo.plugins.commit.contracts import Contract
from dativo.plugins.commit.faults import CommitFault
from dativo.plugins.commit.messages import StreamSchema
from dativo.plugins.commit.types import Wanted, WantedColumn, wanted_column
from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.state import Stream

ID = WantedColumn("_dativo_id", "string", metadata=True)
SEQUENCE = WantedColumn("_sdc_sequence", "long", metadata=True)


def grow(
    *columns: WantedColumn, table: Evolution | None = None, contract: Contract | None = None
) -> Evolution:
    asked = StreamSchema(Stream("", "users"), 1, columns, contract)
    before = table or Evolution((), (), 0, False)
    return evolve(asked, before.columns, before.last_field_id)


def plain(name: str, kind: Wanted = "string") -> WantedColumn:
    return WantedColumn(name, kind)


def pairs(growth: Evolution) -> list[tuple[str, str]]:
    return [(column.property, column.name) for column in growth.planned]


def test_a_metadata_column_has_the_name_that_no_property_may_have() -> None:
    growth = grow(plain("id"), ID)
    assert pairs(growth) == [("id", "id"), ("_dativo_id", "_dativo_id")]
    again = grow(plain("id"), ID, table=growth)
    assert (again.planned, again.changed) == (growth.planned, False)


def test_a_property_of_that_name_stays_apart_in_earlier_and_later_runs() -> None:
    before = grow(plain("_dativo_id"))
    assert pairs(before) == [("_dativo_id", "dativo_id")]
    ours = grow(ID, table=before)
    assert pairs(ours) == [("_dativo_id", "_dativo_id")]
    after = grow(plain("_dativo_id"), table=ours)
    assert pairs(after) == [("_dativo_id", "dativo_id")]
    assert not after.changed


def test_it_goes_before_every_property_that_folds_to_its_name() -> None:
    growth = grow(plain("_SDC_Sequence"), SEQUENCE)
    names = dict(pairs(growth))
    assert names["_sdc_sequence"] == "_sdc_sequence"
    assert names["_SDC_Sequence"].startswith("_sdc_sequence_")


def test_a_name_that_is_taken_ends_the_run() -> None:
    with pytest.raises(CommitFault, match="has the column _sdc_sequence already") as caught:
        grow(SEQUENCE, table=grow(plain("_SDC_Sequence")))
    assert caught.value.code == "schema.reserved"


def test_a_type_that_does_not_fit_is_a_conflict_whatever_the_contract_says() -> None:
    with pytest.raises(CommitFault) as caught:
        grow(SEQUENCE, table=grow(plain("_sdc_sequence")), contract=Contract(new_columns=True))
    assert caught.value.code == "schema.conflict"


@pytest.mark.parametrize("name", ["id", "_dativo", "_sdc_", "_airbyte_Meta", "_sdc_a;b", "_sdc_\n"])
def test_a_writer_cannot_name_columns_as_it_likes(name: str) -> None:
    with pytest.raises(CommitFault) as caught:
        grow(WantedColumn(name, "long", metadata=True))
    assert caught.value.code == "schema.metadata"


def test_the_flag_is_read_from_the_event() -> None:
    event = {"property": "_dativo_id", "type": "string", "metadata": True}
    assert wanted_column(event) == ID
    assert not wanted_column({**event, "metadata": False}).metadata
    with pytest.raises(ProtocolViolation):
        wanted_column({**event, "metadata": "yes"})
