"""Sums over committed epochs only, in bounded memory, and no epoch that was not sealed."""

import pytest

from dativo.kernel.contracts import REJECTS
from dativo.kernel.limits import MAX_EPOCHS_WAITING
from dativo.kernel.report import Course, render, stream_reports
from dativo.kernel.tally import Tally
from dativo.protocol import events
from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.state import StateEntry, Stream

USERS = Stream("", "users")


def sealed(sequence: int, rows: int, *, final: bool = False, state: str = "1") -> events.Sealed:
    counts = (events.Counts(USERS, rows + 2, rows, 1, 1),)
    states = (StateEntry("stream", USERS, state),)
    return events.Sealed("0", sequence, final, (), states, counts)


def committed(sequence: int, epoch: int, rows: int) -> events.Committed:
    table = events.TableCommit(USERS, "shop.users", rows, 1, 100, "7", f"/m{epoch}.json")
    return events.Committed("0", sequence, epoch, (table,) if rows else ())


def test_sums_states_and_the_last_epoch() -> None:
    tally = Tally()
    tally.take_opened(events.Opened("0", 4, (StateEntry("stream", USERS, "0"),), ()))
    tally.take_plan(events.StreamPlan("0", USERS, 1, "shop.users"))
    tally.take_sealed(sealed(1, 10))
    assert not tally.take_committed(committed(1, 5, 10)).final
    tally.take_sealed(sealed(2, 5, final=True, state="2"))
    assert tally.epoch == 5 and tally.states[0].text == "1" and tally.written() == 10
    assert tally.take_committed(committed(2, 6, 5)).final
    [report] = stream_reports(tally)
    assert (report.read, report.written, report.rejected, report.filtered) == (19, 15, 2, 2)
    assert report.read == report.written + report.rejected + report.filtered
    assert (report.files, report.bytes, report.metadata_location) == (2, 200, "/m6.json")
    assert (tally.commits, tally.epoch, tally.states[0].text) == (2, 6, "2")


def test_rows_that_were_read_and_not_committed_show_in_read_alone() -> None:
    tally = Tally()
    tally.take_sealed(sealed(1, 10))
    tally.take_committed(committed(1, 1, 10))
    tally.stats = events.Stats("0", 1, 1, 0, 0, 0, 0, True, (events.Counts(USERS, 40, 10, 0, 0),))
    [report] = stream_reports(tally)
    assert (report.read, report.written) == (40, 10)


def test_an_epoch_is_committed_once_and_only_when_it_was_sealed() -> None:
    tally = Tally()
    with pytest.raises(ProtocolViolation):
        tally.take_committed(committed(1, 1, 10))
    tally.take_sealed(sealed(1, 10))
    tally.take_committed(committed(1, 1, 10))
    with pytest.raises(ProtocolViolation):
        tally.take_committed(committed(1, 2, 10))


def test_a_writer_that_floods_epochs_is_stopped() -> None:
    tally = Tally()
    with pytest.raises(ProtocolViolation):
        for sequence in range(1, MAX_EPOCHS_WAITING + 5):
            tally.take_sealed(sealed(sequence, 1))


@pytest.mark.parametrize(("rows", "told"), [(10, "committed"), (0, "no new rows")])
def test_an_epoch_of_states_alone_is_told_as_such(rows: int, told: str) -> None:
    course = Course("r1", "shop", "airbyte:source-x==1", "iceberg", warehouse="/lake")
    course.tally.take_opened(events.Opened("0", 1, (), ()))
    course.tally.take_sealed(sealed(1, rows, final=True))
    course.tally.take_committed(committed(1, 2, rows))
    text = render(course.report(None), reader=None)
    assert f"  {told}: epoch 2, 1 state\n" in text
    assert f"from the source, {'1 commit' if rows else '0 commits'}" in text


def test_rejects_are_told_with_their_table_and_are_no_stream() -> None:
    course = Course("r1", "shop", "airbyte:source-x==1", "iceberg", warehouse="/lake")
    tally = course.tally
    tally.take_opened(events.Opened("0", 0, (), ()))
    tally.take_plan(events.StreamPlan("0", REJECTS, 1, "shop._dativo_rejects"))
    assert course.report(None).rejects is None  # a table, and nothing of it committed
    files = (events.StagedFile(REJECTS, "b.parquet", 3, 10, "0" * 64),)
    counts = (events.Counts(USERS, 12, 11, 1, 0, 2),)
    tally.take_sealed(events.Sealed("0", 1, True, files, (), counts))
    rows = events.TableCommit(USERS, "shop.users", 11, 1, 100, "7", "/m.json")
    kept = events.TableCommit(REJECTS, "shop._dativo_rejects", 3, 1, 50, "8", "/r.json")
    tally.take_committed(events.Committed("0", 1, 1, (rows, kept)))
    report = course.report(None)
    [stream] = report.streams
    assert (stream.stream, stream.written, stream.rejected, stream.discarded) == ("users", 11, 1, 2)
    assert report.rejects is not None
    assert (report.rejects.table, report.rejects.rows) == ("shop._dativo_rejects", 3)
    assert report.summary().startswith("11 rows, ")
    told = "discarded: 1 row, 2 values; kept in shop._dativo_rejects (dativo files JOB --stream _dativo_rejects)"
    assert told in render(report, reader=None)


def test_what_a_source_changed_itself_is_told() -> None:
    course = Course("r1", "shop", "airbyte:source-x==1", "iceberg", warehouse="/lake")
    tally = course.tally
    tally.take_opened(events.Opened("0", 0, (), ()))
    for sequence, changed in ((1, 2), (2, 1)):
        files = (events.StagedFile(USERS, f"{sequence}.parquet", 5, 10, "0" * 64),)
        counts = (events.Counts(USERS, 5, 5, 0, 0, changed=changed),)
        tally.take_sealed(events.Sealed("0", sequence, sequence == 2, files, (), counts))
        tally.take_committed(committed(sequence, sequence, 5))
    report = course.report(None)
    assert [stream.changed for stream in report.streams] == [3]
    assert "  changed by the source itself: users 3 values\n" in render(report, reader=None)
