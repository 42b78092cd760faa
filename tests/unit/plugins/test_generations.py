from __future__ import annotations

from pathlib import Path

import pytest

from dativo.plugins.commit.changes import Holdings
from dativo.plugins.commit.faults import CommitFault
from dativo.plugins.commit.generations import Overwrites
from dativo.plugins.commit.identifiers import REJECTS
from dativo.plugins.commit.messages import Open
from dativo.plugins.commit.target import Generation, Head, Intent, PlacedFile
from dativo.protocol.state import StateEntry, Stream

A, B = Stream("", "a"), Stream("", "b")
WHOLE = StateEntry("global", None, "{}")


def asked(mode: str = "append", **overwrites: int | None) -> Open:
    numbers = {Stream("", name): number for name, number in overwrites.items()}
    lake = Path("/srv/lake")
    return Open("0", "r", "shop", "", "default/shop", lake, "shop", lake, mode, numbers)


def at(stream: Stream, text: str = "1") -> StateEntry:
    return StateEntry("stream", stream, text)


def head(
    states: tuple[StateEntry, ...] = (),
    pending: tuple[StateEntry, ...] = (),
    *generations: Generation,
) -> Head:
    return Head(1, "", states, pending, generations)


@pytest.mark.parametrize(
    ("generations", "number"),
    [
        ((), 1),
        ((Generation(A, 3, None),), 4),
        ((Generation(A, 3, 4),), 4),
        ((Generation(A, 3, 4), Generation(B, 0, 4)), 4),
        # A caller's own numbers, met by mode overwrite: never one that some stream has behind it.
        ((Generation(A, 7, None), Generation(B, 0, 4)), 8),
    ],
)
def test_number_of_mode_overwrite(generations: tuple[Generation, ...], number: int) -> None:
    overwrites = Overwrites(asked("overwrite"), head((), (WHOLE,), *generations))
    assert (overwrites.number(A), overwrites.number(B)) == (number, number)


@pytest.mark.parametrize(
    ("kept", "number"),
    [((), 1), ((Generation(A, 3, None),), 4), ((Generation(A, 3, 5), Generation(B, 9, None)), 5)],
)
def test_number_of_a_stream_that_the_caller_does_not_number(
    kept: tuple[Generation, ...], number: int
) -> None:
    overwrites = Overwrites(asked(a=None), head((), (at(A),), *kept))
    assert (overwrites.number(A), overwrites.number(B)) == (number, None)
    assert overwrites.ended == frozenset()


@pytest.mark.parametrize(
    ("kept", "number", "pending", "ended"),
    [
        (Generation(A, 0, 2), 2, (at(A),), False),
        (Generation(A, 0, 2), 2, (WHOLE,), False),
        (Generation(A, 0, 2), 2, (), True),
        (Generation(A, 0, 2), 2, (at(B),), True),
        (Generation(A, 0, 2), 3, (at(A),), True),
        (Generation(A, 2, None), 2, (), False),
        (Generation(A, 2, 2), 2, (at(A),), False),
    ],
)
def test_a_generation_goes_on_or_ends(
    kept: Generation, number: int, pending: tuple[StateEntry, ...], ended: bool
) -> None:
    overwrites = Overwrites(asked(a=number), head((), pending, kept))
    assert (A in overwrites.ended) == ended
    assert overwrites.pending == tuple(s for s in pending if s.stream == B or not ended)


def test_states_of_the_whole_source_end_with_any_older_generation() -> None:
    kept = (Generation(A, 0, 1), Generation(B, 0, 1))
    assert Overwrites(asked(a=2, b=1), head((), (WHOLE,), *kept)).pending == ()
    assert Overwrites(asked(a=1, b=1), head((), (WHOLE,), *kept)).pending == (WHOLE,)


@pytest.mark.parametrize("kept", [Generation(A, 3, None), Generation(A, 0, 3), Generation(A, 2, 3)])
def test_older_number(kept: Generation) -> None:
    with pytest.raises(CommitFault) as raised:
        Overwrites(asked(a=2), head((), (), kept))
    assert raised.value.code == "conflict.generation"
    assert raised.value.exit_status == 10


def test_states_go_where_their_rows_go() -> None:
    overwrites = Overwrites(asked(a=1), head())
    states, pending = overwrites.add(head((at(A, "old"),)), [at(A), at(B), WHOLE])
    assert (states, pending) == ((at(A, "old"), at(B)), (WHOLE,))
    assert overwrites.swapped(states, pending) == ((WHOLE,), ())
    assert overwrites.swapped((at(A, "old"), at(B)), (at(A),)) == ((at(B), at(A)), ())
    # The old state of a stream that sent none speaks for rows that are gone.
    assert overwrites.swapped((at(A, "old"), at(B)), ()) == ((at(B),), ())


def test_appending_waits_for_nothing() -> None:
    overwrites = Overwrites(asked(), head((), (at(A),), Generation(A, 0, 1)))
    assert (overwrites.any, overwrites.ended, overwrites.number(A)) == (False, frozenset(), None)
    assert overwrites.add(head(), [WHOLE]) == ((WHOLE,), ())
    assert overwrites.swapped((WHOLE,), (at(A),)) == ((WHOLE,), (at(A),))


def placed(name: str, *, version: int | None = None, generation: int | None = None) -> PlacedFile:
    return PlacedFile(A, name, 0, 1, 100, "", version, generation)


def intent(*files: PlacedFile, **more: object) -> Intent:
    return Intent(2, "t", "r", files, (), **more)  # type: ignore[arg-type]


def test_hidden_files_wait_and_are_added_together() -> None:
    holdings = Holdings([], [placed("old")])
    (change,) = changes = holdings.changes(intent(placed("h1", generation=1)))
    assert [file.path for file in change.hidden] == ["h1"]
    assert not change.is_visible
    holdings.apply(changes)
    (change,) = changes = holdings.changes(intent(placed("h2", generation=1), swaps=frozenset({A})))
    assert change.kept == ()
    assert change.added == (placed("h1"), placed("h2"))
    holdings.apply(changes)
    assert holdings.live(A) == (placed("h1"), placed("h2"))
    (change,) = holdings.changes(intent(swaps=frozenset({A})))
    assert (change.added, change.kept) == ((), ())


def test_dropped_files_are_discarded() -> None:
    holdings = Holdings([placed("h1", generation=1)], [placed("old")])
    (change,) = holdings.changes(intent(placed("h2", generation=2), dropped=frozenset({A})))
    assert [file.path for file in change.discarded] == ["h1"]
    assert [file.path for file in change.hidden] == ["h2"]
    (change,) = holdings.changes(intent(dropped=frozenset({A}), swaps=frozenset({A})))
    assert (change.added, change.kept, [f.path for f in change.discarded]) == ((), (), ["h1"])


def test_activation_discards_what_nobody_saw() -> None:
    holdings = Holdings([], [placed("v1", version=1), placed("v2", version=2), placed("none")])
    files = (placed("new1", version=1), placed("new2", version=2))
    (change,) = holdings.changes(intent(*files, activations={A: 2}))
    assert change.arrived == files
    assert [file.path for file in change.added] == ["new2"]
    assert [file.path for file in change.kept or ()] == ["v2"]
    assert [file.path for file in change.discarded] == ["new1"]


def test_rejects_append_whatever_overwrites() -> None:
    everything = Overwrites(asked("overwrite"), head())
    assert not everything.includes(REJECTS) and everything.includes(A)
    assert everything.number(REJECTS) is None and everything.number(A) == 1
    assert everything.streams([A, REJECTS]) == {A}
