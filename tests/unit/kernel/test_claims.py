"""What a writer may claim: streams, sequences, counts. Its lies end to end: tests/integration/test_lying_writer.py."""

from __future__ import annotations

import pytest

from dativo.kernel.claims import Claims
from dativo.protocol import events
from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.state import Stream

USERS, OTHERS = Stream("", "users"), Stream("", "others")


def claims(*, declare: bool = False) -> Claims:
    return Claims("airbyte", [USERS], declare=declare, max_streams=2, max_state_bytes=10)


def sealed(sequence: int = 1, *, final: bool = False, rows: int = 3) -> events.Sealed:
    files = (events.StagedFile(USERS, "a.parquet", rows, 10),)
    counts = (events.Counts(USERS, rows, rows, 0, 0),)
    return events.Sealed("0", sequence, final, files, (), counts)


def test_epochs_in_order_are_taken_and_the_last_follows_finish() -> None:
    taken = claims()
    taken.take_sealed(sealed(1), finishing=False)
    taken.take_sealed(sealed(2), finishing=True)
    taken.take_sealed(sealed(3, final=True), finishing=True)
    with pytest.raises(ProtocolViolation, match="after its last one"):
        taken.take_sealed(sealed(4), finishing=True)


@pytest.mark.parametrize("sequence", [0, 2, 2**62])
def test_a_sequence_that_does_not_follow(sequence: int) -> None:
    with pytest.raises(ProtocolViolation, match="follows sealed 0"):
        claims().take_sealed(sealed(sequence), finishing=False)


def test_the_last_epoch_before_the_end() -> None:
    with pytest.raises(ProtocolViolation, match="before the input was done"):
        claims().take_sealed(sealed(final=True), finishing=False)


def test_streams_declare_themselves_where_they_may_and_not_without_end() -> None:
    def declare(taken: Claims, stream: Stream) -> None:
        taken.take_schema(events.StreamSchema("0", stream, 1, 1))

    with pytest.raises(ProtocolViolation, match="others, which was not declared"):
        declare(claims(), OTHERS)
    open_to_all = claims(declare=True)
    for stream in (OTHERS, OTHERS, USERS):
        declare(open_to_all, stream)
    with pytest.raises(ProtocolViolation, match="third, which was not declared"):
        declare(open_to_all, Stream("", "third"))
