"""Removing what a hostile process has left."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from dativo.kernel.removal import remove_tree


def removed(folder: Path) -> None:
    parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        remove_tree(folder.name, parent)
    finally:
        os.close(parent)


def deepen(levels: int) -> None:
    # Relative all the way: the path is longer than one that can be named.
    back = os.open(".", os.O_RDONLY)
    try:
        for _ in range(levels):
            Path("d").mkdir()
            os.chdir("d")
        Path("file").touch()
    finally:
        os.fchdir(back)
        os.close(back)


def test_a_folder_deeper_than_anybody_can_recurse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    monkeypatch.chdir(folder)
    deepen(3000)
    monkeypatch.chdir(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
    try:
        removed(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not folder.exists()


def test_nothing_is_followed_and_closed_folders_are_opened(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    inside = tmp_path / "full/a/b/c"
    inside.mkdir(parents=True)
    for folder in (tmp_path / "full", tmp_path / "full/a", inside):
        (folder / "link").symlink_to(outside)
        (folder / "loop").symlink_to(".")
        os.mkfifo(folder / "fifo")
        os.link(outside / "kept", folder / "hard")
    inside.chmod(0)
    (tmp_path / "full/a/b").chmod(0)
    removed(tmp_path / "full")
    assert not (tmp_path / "full").exists()
    assert (outside / "kept").exists() and not outside.is_symlink()


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError):
        removed(tmp_path / "link")
    assert tmp_path.exists()
