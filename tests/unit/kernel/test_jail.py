"""Which program a jail starts, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from dativo.kernel.jail import Jail, NotExecutable, NotFound, find_program
from dativo.sandbox import Limits, Walls


def test_a_program_is_found_as_execvp_finds_it(tmp_path: Path) -> None:
    for folder, mode in (("a", 0o644), ("b", 0o755), ("c", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").touch(mode=mode)
        (tmp_path / folder / "tool").chmod(mode)
    (tmp_path / "a/data").touch(mode=0o644)
    (tmp_path / "b/sub").mkdir()
    path = f"/nonexistent:{tmp_path}/a:{tmp_path}/b:{tmp_path}/c"
    assert find_program("tool", path, "/tmp") == f"{tmp_path}/b/tool"
    assert find_program("./tool", path, "/srv/job") == "/srv/job/./tool"
    assert find_program("/opt/tool", path, "/srv/job") == "/opt/tool"
    for name in ("data", "sub"):
        with pytest.raises(NotExecutable) as refused:
            find_program(name, path, "/tmp")
        assert refused.value.status == 126
    for name in ("absent", ""):
        with pytest.raises(NotFound) as missing:
            find_program(name, path, "/tmp")
        assert missing.value.status == 127


def test_a_relative_folder_of_path_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tool").touch(mode=0o755)
    with pytest.raises((NotFound, NotExecutable)):
        find_program("tool", ":.", "/tmp")


def test_path_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "a:b").mkdir()
    jail = Jail(("x",), Limits(), Walls(), read=(tmp_path, tmp_path / "file", tmp_path / "a:b"))
    assert jail.search_path() == f"/usr/bin:/bin:{tmp_path}"
    assert jail.folder() == str(tmp_path)
    jail = Jail(("x",), Limits(), Walls(), environment=(("PATH", "/opt"),), cwd="/usr")
    assert jail.search_path() == "/opt"
    assert jail.folder() == "/usr"
    assert Jail(("x",), Limits(), Walls()).folder() == "/tmp"
