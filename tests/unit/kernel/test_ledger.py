"""The ledger remembers runs, epochs and documents, and forgets the oldest."""

import resource
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from dativo.kernel.audit import Audit, AuditFailed
from dativo.kernel.ledger import Ledger
from dativo.protocol.errors import InternalError
from dativo.protocol.state import StateEntry, Stream


def test_runs_and_epochs(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.begin("r1", tmp_path, "shop")
        ledger.begin("r2", tmp_path, "shop")
        ledger.end("r1", 4, "0 rows", "{}")
        newest, oldest = ledger.runs(limit=10)
        assert (newest.run, newest.status, oldest.status) == ("r2", None, 4)
        assert ledger.run("r1") == oldest and ledger.run("r") is None and ledger.run("x") is None
        ledger.remember(tmp_path, "shop", tmp_path / "lake", 3, "abc")
        assert ledger.remembered_epoch(tmp_path, "shop", tmp_path / "lake") == 3
        assert ledger.remembered_epoch(tmp_path, "other", tmp_path / "lake") is None
    with Ledger(tmp_path) as again:
        assert again.remembered_epoch(tmp_path, "shop", tmp_path / "lake") == 3
    assert (tmp_path / "ledger.db").stat().st_mode & 0o077 == 0


def test_documents(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        assert ledger.document("spec", "k") is None
        ledger.store_document("spec", "k", "1")
        ledger.store_document("spec", "k", "2")
        assert ledger.document("spec", "k") == "2" and ledger.document("catalog", "k") is None


def test_audit_only_grows_and_is_private(tmp_path: Path) -> None:
    audit = Audit.below(tmp_path)
    audit.write("one", path=Path("/x"))
    before = audit.path.read_bytes()
    audit.write("two", text="a\nb")
    assert audit.path.read_bytes().startswith(before)
    assert len(audit.path.read_text().splitlines()) == 2
    assert audit.path.stat().st_mode & 0o077 == 0


def test_a_part_of_an_event_is_no_audit(tmp_path: Path) -> None:
    """A full disk takes what fits, as this limit does, and says nothing of the rest."""
    audit = Audit.below(tmp_path)
    audit.write("one")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (audit.path.stat().st_size + 20, limits[1]))
    try:
        with pytest.raises(AuditFailed, match="too large"):
            audit.write("two")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


STATES = (
    StateEntry("stream", Stream("", "users"), '{"n": 1.50}'),
    StateEntry("stream", Stream("shop", "users"), '{"ü": "\\u0000"}'),
)


def test_acknowledged_states_are_kept_by_pipeline_and_target(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        assert ledger.saved_states(tmp_path, "shop", "singer:target-csv") == ()
        ledger.save_states(tmp_path, "shop", "singer:target-csv", STATES, run="r1")
        ledger.save_states(tmp_path, "other", "singer:target-csv", STATES[:1], run="r1")
    with Ledger(tmp_path) as ledger:
        assert ledger.saved_states(tmp_path, "shop", "singer:target-csv") == STATES
        assert ledger.saved_states(tmp_path, "shop", "singer:target-jsonl") == ()
        assert ledger.saved_states(tmp_path / "elsewhere", "shop", "singer:target-csv") == ()
        newer = (StateEntry("singer", None, "3"),)
        ledger.save_states(tmp_path, "shop", "singer:target-csv", newer, run="r2")
        assert ledger.saved_states(tmp_path, "shop", "singer:target-csv") == newer
        assert ledger.saved_states(tmp_path, "other", "singer:target-csv") == STATES[:1]


@pytest.mark.parametrize("column", ["text", "name", "kind"])
def test_a_damaged_state_is_not_handed_on(tmp_path: Path, column: str) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.save_states(tmp_path, "shop", "t", STATES, run="r1")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db, db:
        db.execute(f"UPDATE states SET {column} = 'global' WHERE position = 1")  # listed above
    with (
        Ledger(tmp_path) as ledger,
        pytest.raises(InternalError, match="does not match its digest"),
    ):
        ledger.saved_states(tmp_path, "shop", "t")


def test_a_save_that_fails_leaves_what_was_saved(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.save_states(tmp_path, "shop", "t", STATES, run="r1")
        broken = StateEntry("singer", None, cast(str, object()))
        with pytest.raises(AttributeError):
            ledger.save_states(tmp_path, "shop", "t", (broken,), run="r2")
        assert ledger.saved_states(tmp_path, "shop", "t") == STATES
