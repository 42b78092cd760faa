"""What a writer may claim: streams, sequences, counts. Its lies end to end: tests/integration/test_lying_writer.py."""

from __future__ import annotations

import pytest

from dativo.kernel.claims import Claims
from dativo.kernel.contracts import REJECTS, Contract, Contracts
from dativo.protocol import events
from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.state import Stream

USERS, OTHERS = Stream("", "users"), Stream("", "others")


def claims(*, declare: bool = False) -> Claims:
    return Claims("airbyte", [USERS], declare=declare, max_streams=2, max_state_bytes=10)


def sealed(sequence: int = 1, *, final: bool = False, rows: int = 3) -> events.Sealed:
    files = (events.StagedFile(USERS, "a.parquet", rows, 10, "0" * 64),)
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


# --- rejects

ROWS = Contract(values="discard_row", max_rejects=5)
VALUES = Contract(values="discard_value", max_rejects=5)


def rejecting(contract: Contract) -> Claims:
    contracts = Contracts((("users", contract),))
    return Claims(
        "airbyte",
        [USERS, OTHERS],
        declare=False,
        max_streams=2,
        max_state_bytes=10,
        contracts=contracts,
    )


def rejected(
    count: int, kept: int | None = None, *, values: int = 0, stream: Stream = USERS
) -> events.Sealed:
    """One epoch of a stream with 3 rows, ``count`` rejected records and ``values`` discarded values; ``kept`` in a file."""
    files = (
        events.StagedFile(stream, "a.parquet", 3, 10, "0" * 64),
        events.StagedFile(
            REJECTS, "b.parquet", count + values if kept is None else kept, 10, "0" * 64
        ),
    )
    counts = (events.Counts(stream, 3 + count, 3, count, 0, values),)
    return events.Sealed("0", 1, False, files, (), counts)


def test_rejects_that_a_contract_allows_are_taken_with_their_table() -> None:
    taken = rejecting(VALUES)
    taken.take_schema(events.StreamSchema("0", REJECTS, 1, 9))
    taken.take_sealed(rejected(2, values=3), finishing=False)


def test_a_table_of_rejects_where_nothing_may_be_rejected() -> None:
    with pytest.raises(ProtocolViolation, match="no contract lets it"):
        claims().take_schema(events.StreamSchema("0", REJECTS, 1, 9))


@pytest.mark.parametrize(
    ("contract", "epoch", "message"),
    [
        (ROWS, rejected(2, 1), "2 rejects, and 1 in files"),
        (ROWS, rejected(0, 1), "0 rejects, and 1 in files"),
        (ROWS, rejected(6), "6 rejects, and 5 may be"),
        (Contract(), rejected(1), "1 rejects, and 0 may be"),
        (ROWS, rejected(1, stream=OTHERS), "1 rejects, and 0 may be"),
        (ROWS, rejected(1, values=1), "without their rows"),
    ],
)
def test_rejects_that_cannot_be(contract: Contract, epoch: events.Sealed, message: str) -> None:
    with pytest.raises(ProtocolViolation, match=message):
        rejecting(contract).take_sealed(epoch, finishing=False)


def test_max_rejects_holds_for_the_whole_run() -> None:
    taken = rejecting(ROWS)
    taken.take_sealed(rejected(3), finishing=False)
    second = rejected(3)
    with pytest.raises(ProtocolViolation, match="6 rejects, and 5 may be"):
        taken.take_sealed(
            events.Sealed("0", 2, False, second.files, (), second.counts), finishing=False
        )


@pytest.mark.parametrize("part", ["counts", "activations"])
def test_only_files_are_of_rejects(part: str) -> None:
    counts = (events.Counts(REJECTS, 1, 1, 0, 0),) if part == "counts" else ()
    activations = (events.Activation(REJECTS, 1),) if part == "activations" else ()
    epoch = events.Sealed("0", 1, False, (), (), counts, activations=activations)
    with pytest.raises(ProtocolViolation, match="was not declared"):
        rejecting(ROWS).take_sealed(epoch, finishing=False)


@pytest.mark.parametrize(("read", "fits"), [(5, True), (6, False), (4, False)])
def test_a_complete_run_accounts_for_all_that_was_read(read: int, fits: bool) -> None:
    taken = rejecting(ROWS)
    first = rejected(2)
    last = events.Sealed("0", 1, True, first.files, (), first.counts, complete=True)
    stats = events.Stats("0", 1, 1, 0, 0.0, 0.0, 0, True, (events.Counts(USERS, read, 0, 2, 0),))
    if fits:
        taken.take_sealed(last, finishing=True, stats=stats)
        return
    with pytest.raises(ProtocolViolation, match=f"{read} records read, and 5 in all epochs"):
        taken.take_sealed(last, finishing=True, stats=stats)
