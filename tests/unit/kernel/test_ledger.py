"""The ledger remembers runs, epochs and documents, and forgets the oldest."""

from pathlib import Path

from dativo.kernel.audit import Audit
from dativo.kernel.ledger import Ledger


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
