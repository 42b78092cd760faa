"""The digest of a folder: what changes it, and how a change is found."""

import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dativo.kernel import tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "env"
    (folder / "lib/a b").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin/run").write_text("#!/bin/sh\n")
    (folder / "bin/run").chmod(0o755)
    (folder / "lib/a b/é\n.py").write_text("x = 1\n")
    (folder / "lib/mod.py").write_text("y = 1\n")
    (folder / "lib64").symlink_to("lib")
    return folder


class Kept:
    """A folder with its listing and memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.listing = root.parent / "files.txt"
        self.cache = root.parent / "cache"
        measured = tree.measure(root)
        self.listing.write_text(measured.text)
        self.digest = measured.digest

    def check(self, *, always: bool = False) -> int:
        return tree.check(self.root, self.listing, self.digest, self.cache, always=always)

    def settle(self) -> None:
        """Wait until no file is younger than the clock's tick, so that the check remembers."""
        newest = max(p.lstat().st_ctime for p in (self.root, *self.root.rglob("*")))
        deadline = time.time() + 5
        while time.time() - newest <= 2 * tree.CLOCK_TICK_S:
            assert time.time() < deadline
            os.sched_yield()


def test_the_digest_is_the_same_for_a_copy(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "other", symlinks=True)
    assert tree.measure(tmp_path / "other").digest == tree.measure(root).digest
    assert tree.measure(root).totals() == (3, 22)


def link_anew(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda r: (r / "lib/mod.py").write_text("y = 2\n"),
    "executable bit": lambda r: (r / "lib/mod.py").chmod(0o755),
    "added file": lambda r: (r / "lib/new.pth").write_text(""),
    "added folder": lambda r: (r / "lib/new").mkdir(),
    "removed file": lambda r: (r / "lib/mod.py").unlink(),
    "link target": lambda r: link_anew(r / "lib64", "bin"),
    "file to link": lambda r: link_anew(r / "lib/mod.py", "/etc/passwd"),
    "renamed": lambda r: (r / "lib/mod.py").rename(r / "lib/mod2.py"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("remembered", [False, True])
def test_every_change_is_found_and_named(root: Path, change: str, remembered: bool) -> None:
    kept = Kept(root)
    if remembered:
        kept.settle()
        kept.check()
        assert kept.check() == 0
    CHANGES[change](root)
    assert tree.measure(root).digest != kept.digest
    with pytest.raises(tree.TreeMismatch) as error:
        kept.check()
    assert "/lib" in str(error.value.where.file)


def test_same_size_and_mtime_are_no_disguise(root: Path) -> None:
    kept = Kept(root)
    kept.settle()
    kept.check()
    file = root / "lib/mod.py"
    before = file.stat()
    file.write_text("y = 9\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(tree.TreeMismatch, match="was changed"):
        kept.check()


def test_only_what_changed_is_hashed_again(root: Path) -> None:
    kept = Kept(root)
    kept.settle()
    assert kept.check() == 3
    assert kept.check() == 0
    os.utime(root / "lib/mod.py")
    assert kept.check() == 1
    assert kept.check(always=True) == 3


def test_a_file_as_young_as_the_clocks_tick_is_not_remembered(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(root)
    kept.settle()
    changed = max(p.lstat().st_ctime for p in (root, *root.rglob("*")))
    monkeypatch.setattr("dativo.kernel.tree.time.time", lambda: changed + tree.CLOCK_TICK_S / 2)
    assert (kept.check(), kept.check()) == (3, 3)


def test_a_damaged_memory_is_no_answer(root: Path) -> None:
    kept = Kept(root)
    kept.settle()
    kept.check()
    (memory,) = (kept.cache / "trees").iterdir()
    memory.write_text("nonsense\n{]")
    assert kept.check() == 3


def test_a_changed_listing_is_found(root: Path) -> None:
    kept = Kept(root)
    kept.listing.write_text(kept.listing.read_text().replace("lib/mod.py", "lib/nod.py"))
    with pytest.raises(tree.TreeMismatch, match="list of a plugin's files was changed"):
        kept.check()


def test_what_no_plugin_may_hold(root: Path) -> None:
    os.link(root / "lib/mod.py", root / "lib/second.py")
    with pytest.raises(tree.TreeMismatch, match="hard link"):
        tree.measure(root)
    (root / "lib/second.py").unlink()
    (root / "bin/run").chmod(0o4755)
    with pytest.raises(tree.TreeMismatch, match="neither a plain file"):
        tree.measure(root)
    (root / "bin/run").chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s"))
        with pytest.raises(tree.TreeMismatch, match="neither a plain file"):
            tree.measure(root)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(tree.TreeMismatch, match="cannot be read"):
        tree.measure(tmp_path / "none")


def test_read_only_and_removable(root: Path) -> None:
    tree.make_read_only(root)
    modes = {
        p.name: p.lstat().st_mode & 0o777 for p in (root, *root.rglob("*")) if not p.is_symlink()
    }
    assert modes["run"] == modes["env"] == modes["lib"] == 0o555
    assert modes["mod.py"] == 0o444
    tree.make_removable(root)
    shutil.rmtree(root)
    assert not root.exists()
