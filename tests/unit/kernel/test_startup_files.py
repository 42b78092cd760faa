"""Snapshots of files that other programs obey."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dativo.kernel import startup_files
from dativo.kernel.startup_files import take_snapshot
from dativo.protocol.errors import ConfigError, LimitExceeded


def names(folder: Path) -> set[str]:
    found = take_snapshot([folder]).protected([folder])
    return {str(path.relative_to(folder)) for path in found}


def test_what_is_protected(tmp_path: Path) -> None:
    for folder in (".git/hooks", "a/.dativo/x", "bare/hooks", "bare/objects", "bare/refs", "hooks"):
        (tmp_path / folder).mkdir(parents=True)
    for file in (
        *("bare/HEAD", "bare/config", ".git/config", ".git/config.worktree", "config", "x"),
        *("Makefile", "a/.envrc", "makefile.txt", "a/.dativo/Makefile"),
    ):
        (tmp_path / file).touch()
    of_git = {".git/hooks", ".git/config", ".git/config.worktree", "bare/hooks", "bare/config"}
    assert names(tmp_path) == of_git | {"Makefile", "a/.envrc", "a/.dativo"}
    assert names(tmp_path / ".git") == {"hooks", "config", "config.worktree"}


def test_links_are_not_followed_and_what_they_lead_to_is_protected(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside / "real", outside):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    (outside / "Makefile").touch()
    (inside / "way").symlink_to(outside)
    (inside / "Makefile").symlink_to("real/file")
    (inside / ".envrc").symlink_to(outside / "file")
    (inside / ".dativo").symlink_to("nowhere")
    assert names(inside) == {"real/file"}


def test_what_changed(tmp_path: Path) -> None:
    (tmp_path / ".git/hooks").mkdir(parents=True)
    for name in ("Makefile", ".envrc", "kept", ".git/hooks/old"):
        (tmp_path / name).touch()
    before = take_snapshot([tmp_path])
    assert before.changed_in(take_snapshot([tmp_path])) == []
    (tmp_path / "kept").write_text("no matter")
    (tmp_path / ".envrc").unlink()
    (tmp_path / "Makefile").write_text("changed")
    (tmp_path / ".git/hooks/old").chmod(0o755)
    (tmp_path / "new/.dativo/deep").mkdir(parents=True)
    (tmp_path / "new/.dativo/deep/file").touch()
    changed = before.changed_in(take_snapshot([tmp_path]))
    assert [str(path.relative_to(tmp_path)) for path in changed] == [
        ".git/hooks/old",
        "Makefile",
        "new/.dativo",  # and not what lies in it
    ]


def test_a_file_in_the_place_of_another_is_another(tmp_path: Path) -> None:
    link = tmp_path / "Makefile"
    link.symlink_to("a")
    before = take_snapshot([tmp_path])
    link.unlink()
    link.symlink_to("b")  # may well get the same inode
    assert before.changed_in(take_snapshot([tmp_path])) == [link]


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/Makefile").touch()
    monkeypatch.setattr(startup_files, "SEARCHED_FILES", 8)
    snapshot = take_snapshot([tmp_path])
    monkeypatch.setattr(startup_files, "PROTECTED_FILES", 3)
    with pytest.raises(ConfigError, match="more than 3"):
        snapshot.protected([tmp_path])
    monkeypatch.setattr(startup_files, "SEARCHED_FILES", 7)
    with pytest.raises(LimitExceeded, match="more than 7"):
        take_snapshot([tmp_path])
    monkeypatch.undo()
    monkeypatch.setattr(startup_files, "SEARCHED_DEPTH", 0)
    with pytest.raises(LimitExceeded, match="more than 0 deep"):
        take_snapshot([tmp_path])


def test_a_granted_file_is_the_operators_own_word(tmp_path: Path) -> None:
    (tmp_path / "Makefile").touch()
    assert take_snapshot([tmp_path / "Makefile"]).marks == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root looks into everything")
def test_a_closed_folder_stands_for_itself(tmp_path: Path) -> None:
    before = take_snapshot([tmp_path])
    (tmp_path / "dark").mkdir(mode=0)
    assert before.changed_in(take_snapshot([tmp_path])) == [tmp_path / "dark"]
