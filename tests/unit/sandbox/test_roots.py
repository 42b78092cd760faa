"""What of an image is bound where, and what of it is never walked through."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from dativo.sandbox import Grants, Identity, PrivateFile, Program, WallMissing, roots
from dativo.sandbox.mounts import bubblewrap_options, etc_files, plan_view


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small image: usr-merged, with /etc, a home and what ours takes the place of."""
    root = tmp_path / "root"
    for folder in ("usr/bin", "etc/ssl", "home/app", "var", "tmp/left", "proc", "dev", "run"):
        (root / folder).mkdir(parents=True)
    for name in roots.ETC:
        (root / "etc" / name).write_text("of the image\n")
    (root / "bin").symlink_to("usr/bin")
    (root / "var/run").symlink_to("/run")
    (root / "connector.sh").write_text("")
    return root


def insides(root: Path, *targets: str) -> tuple[list[tuple[str, str]], list[str]]:
    links, binds = roots.entries(root, targets)
    assert all(source == f"{root}{inside}" for source, inside in binds)
    return links, [inside for _, inside in binds]


def test_every_entry_but_ours(root: Path) -> None:
    assert insides(root) == (
        [("usr/bin", "/bin")],
        ["/connector.sh", "/etc", "/home", "/run", "/usr", "/var"],
    )


def test_a_folder_that_holds_a_target_is_opened_up(root: Path) -> None:
    links, found = insides(root, "/home/me/data", "/data", "/run")
    assert found == ["/connector.sh", "/etc", "/home/app", "/usr", "/var"]
    assert insides(root, "/home/app")[1] == ["/connector.sh", "/etc", "/run", "/usr", "/var"]
    links, found = insides(root, "/var/lib/x")
    assert ("/run", "/var/run") in links
    assert "/var" not in found


@pytest.mark.parametrize("target", ["/var/run/x", "/bin/x", "/connector.sh/x"])
def test_no_target_lies_behind_a_link_or_a_file(root: Path, target: str) -> None:
    with pytest.raises(WallMissing, match="of the image is no folder"):
        roots.entries(root, [target])


def test_other_things_than_files_are_refused(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(WallMissing, match="/pipe of the image is neither"):
        roots.entries(root, [])


@pytest.mark.parametrize("change", ["missing", "link", "folder", "all"])
def test_etc_is_plain_or_not_there(root: Path, change: str) -> None:
    file = root / "etc/passwd"
    file.unlink()
    if change == "link":
        file.symlink_to("/proc/self/fd/0")
    elif change == "folder":
        file.mkdir()
    elif change == "all":
        for left in (root / "etc").iterdir():
            left.rmdir() if left.is_dir() else left.unlink()
        (root / "etc").rmdir()
        assert "/etc" not in insides(root)[1]
        return
    with pytest.raises(WallMissing, match="etc"):
        roots.entries(root, [])


def test_etc_as_a_link(root: Path) -> None:
    (root / "etc").rename(root / "elsewhere")
    (root / "etc").symlink_to("elsewhere")
    with pytest.raises(WallMissing, match="/etc of the image"):
        roots.entries(root, [])


def test_too_many_mounts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "MAX_ENTRIES", 3)
    with pytest.raises(WallMissing, match="more than 3 mounts"):
        roots.entries(root, [])


def test_a_root_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(WallMissing, match="No such file"):
        roots.entries(tmp_path / "gone", [])


def test_links_of_the_host_are_not_those_of_an_image(root: Path, tmp_path: Path) -> None:
    (root / "lib").mkdir()
    found = plan_view(
        Program("test", ("/bin/sh",), root=root, binds=((tmp_path, "/lib/data", False),)), Grants()
    )
    assert "/lib/data" in [mount.inside for mount in found.given]


def test_nothing_of_the_host_is_seen(root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    program = Program(
        "test", ("/bin/sh",), root=root, files=(PrivateFile("/run/x/config.json", b""),)
    )
    grants = Grants(read=(data,))
    view = plan_view(program, grants)
    assert view.base == ()
    assert [mount.source for mount in view.given if not mount.source.startswith(f"{root}/")] == [
        str(data)
    ]
    assert {mount.access for mount in view.given} == {"execute", "read"}
    assert ("execute", "/") not in view.rules
    assert not any(mount.inside.startswith("/run") for mount in view.given)
    files = {path: 10 for path in etc_files(Identity(1, 1), grants)}
    options = bubblewrap_options(
        view, grants, stage2_source="/s", sources={}, fds={**files, "/run/x/config.json": 11}
    )
    assert "/usr" not in [b for a, b in itertools.pairwise(options) if a == "--ro-bind"]
    # The image's own file stays as it is: ours is mounted over it.
    where = options.index("/etc/passwd")
    assert options[where - 4 : where] == ["--perms", "0444", "--ro-bind-data", "10"]
    where = options.index("/run/x/config.json")
    assert options[where - 4 : where] == ["--perms", "0600", "--file", "11"]
