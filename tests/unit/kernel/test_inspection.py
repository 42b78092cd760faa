"""Epochs that wait for the inspector, without processes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dativo.kernel.inspection import Inspection
from dativo.protocol import control, events
from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.state import Stream

USERS = Stream("", "users")


def sealed(sequence: int, *names: str) -> tuple[control.Event, events.Sealed]:
    files = tuple(events.StagedFile(USERS, name, 3, 400, "0" * 64) for name in names)
    event = {"type": "sealed", "sequence": sequence, "files": [{"path": name} for name in names]}
    return event, events.Sealed("0", sequence, final=False, files=files, states=(), counts=())


def found(sequence: int, name: str) -> events.Inspected:
    return events.Inspected("0", sequence, name, 3, 400, "0" * 64)


def test_an_epoch_goes_on_when_its_last_file_is_inspected() -> None:
    inspection = Inspection()
    event, message = sealed(1, "a", "b")
    order = inspection.add(event, message)
    assert order == {"type": "inspect", "input": "0", "sequence": 1, "files": event["files"]}
    at_hand = [inspection.at_hand]
    for name in ("a", "b"):
        assert list(inspection.passed()) == []
        inspection.take(found(1, name))
        at_hand.append(inspection.at_hand)
    assert at_hand == ["a", "b", None]
    assert list(inspection.passed()) == [event]
    assert list(inspection.passed()) == []


def test_epochs_stay_in_order() -> None:
    inspection = Inspection()
    first, empty, last = sealed(1, "a"), sealed(2), sealed(3, "c")
    for each in (first, empty, last):
        inspection.add(*each)
    assert list(inspection.passed()) == []
    inspection.take(found(1, "a"))
    assert list(inspection.passed()) == [first[0], empty[0]]
    inspection.take(found(3, "c"))
    assert list(inspection.passed()) == [last[0]]


@pytest.mark.parametrize(
    "change",
    [{"sequence": 2}, {"path": "b"}, {"rows": 4}, {"bytes": 1}, {"sha256": "1" * 64}],
    ids=str,
)
def test_another_file_than_was_sealed(change: dict[str, Any]) -> None:
    inspection = Inspection()
    inspection.add(*sealed(1, "a", "b"))
    with pytest.raises(ProtocolViolation, match="not a as it was sealed"):
        inspection.take(replace(found(1, "a"), **change))
    assert inspection.at_hand == "a"


def test_a_file_that_nobody_named() -> None:
    inspection = Inspection()
    inspection.add(*sealed(1))
    with pytest.raises(ProtocolViolation, match="nobody named"):
        inspection.take(found(1, "a"))


def test_what_cannot_be_passed_on_is_its_writers_fault() -> None:
    event, message = sealed(1)
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(ProtocolViolation, match="nested too deeply"):
        Inspection().add({**event, "x": deep}, message)
