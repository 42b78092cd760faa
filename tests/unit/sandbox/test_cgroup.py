"""Finding a place for leaves, and leaves of version 2 on a tree of plain files (no machine here has its controllers)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dativo.sandbox import Limits, WallMissing, cgroup, cgroup_v1, cgroup_v2
from dativo.sandbox.cgroup import Hierarchy

CONTROLLERS = "cpu memory pids\n"
FILES = {
    "cgroup.controllers": CONTROLLERS,
    "cgroup.subtree_control": "",
    "cgroup.procs": "",
    "cgroup.kill": "",
    "memory.max": "max\n",
    "memory.swap.max": "max\n",
    "memory.oom.group": "0\n",
    "memory.peak": "4096\n",
    "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 1\n",
    "pids.max": "max\n",
    "pids.peak": "7\n",
    "pids.events": "max 2\n",
    "cpu.max": "max 100000\n",
    "cpu.stat": "usage_usec 1500000\nuser_usec 1\nnr_throttled 3\nthrottled_usec 250000\n",
    "io.stat": "254:0 rbytes=4096 wbytes=512 rios=1 wios=1 dbytes=0 dios=0\n8:0 rbytes=1 wbytes=1\n",
}


def populate(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).write_text(text)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree whose new folders come with their files, as the kernel makes them, and whose files take what is written."""
    make = Path.mkdir

    def mkdir(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        make(self, mode, parents, exist_ok)
        if tmp_path in self.parents:
            populate(self)

    def write(path: Path, text: str) -> None:
        assert path.exists(), path
        if path.name == "cgroup.subtree_control":
            text = text.replace("+", "")
        path.write_text(text + "\n")

    populate(tmp_path)
    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(cgroup, "write", write)
    return tmp_path


def hierarchy(tree: Path, own: str) -> list[Hierarchy]:
    (tree / own).mkdir(parents=True, exist_ok=True)
    return [Hierarchy(tree, tree / own, frozenset())]


def text(path: Path) -> str:
    return path.read_text().strip()


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def mark(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Mark as systemd does what it has delegated; a plain file system may take no such attribute."""

    def getxattr(path: Path, name: str) -> bytes:
        if path in folders and name == "user.delegate":
            return b"1"
        raise OSError(61, "No data available")

    monkeypatch.setattr(os, "getxattr", getxattr)


@pytest.mark.usefixtures("plain")
def test_v2_takes_our_own_cgroup_when_we_are_alone_in_it(tree: Path) -> None:
    found = hierarchy(tree, "user/scope")
    (tree / "user/scope/cgroup.procs").write_text(f"{os.getpid()}\n")
    base = cgroup_v2.find(found)
    assert base.folder == tree / "user/scope"
    assert text(tree / "user/scope/dativo-kernel/cgroup.procs") == "0"
    assert set(text(base.folder / "cgroup.subtree_control").split()) == {"cpu", "memory", "pids"}


def test_v2_takes_what_was_delegated_to_root(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = hierarchy(tree, "system/service")
    (tree / "system/service/cgroup.procs").write_text(f"{os.getpid()}\n")
    mark(monkeypatch)
    assert cgroup_v2.find(found).folder == tree / "dativo", "systemd would take it back"
    mark(monkeypatch, tree / "system/service")
    assert cgroup_v2.find(found).folder == tree / "system/service"


@pytest.mark.usefixtures("plain")
def test_v2_takes_a_shell_along_in_what_was_delegated(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = hierarchy(tree, "scope")
    inside = tree / "scope/cgroup.procs"
    inside.write_text(f"{os.getpid()}\n17\n")
    mark(monkeypatch, tree / "scope")
    written = cgroup.write
    moved: list[str] = []

    def write(path: Path, text: str) -> None:
        if path.name == "cgroup.procs":
            moved.append(text)
            inside.write_text("" if len(moved) > 1 else "17\n")
        else:
            written(path, text)

    monkeypatch.setattr(cgroup, "write", write)
    assert cgroup_v2.find(found).folder == tree / "scope"
    assert moved == ["0", "17"]


@pytest.mark.usefixtures("plain")
def test_v2_leaves_the_users_manager_what_it_did_not_delegate(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = hierarchy(tree, "user@1000/app/terminal")
    mark(monkeypatch, tree / "user@1000")
    with pytest.raises(WallMissing, match=r"terminal: not delegated, .*app: not delegated"):
        cgroup_v2.find(found)
    mark(monkeypatch, tree / "user@1000", tree / "user@1000/app/terminal")
    assert cgroup_v2.find(found).folder == tree / "user@1000/app/terminal"


@pytest.mark.usefixtures("plain")
def test_v2_asks_the_users_manager_which_marks_nothing(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the one of systemd 252 does."""
    found = hierarchy(tree, "user@1000/app/run-1.scope")
    mark(monkeypatch, tree / "user@1000")
    delegated = {"run-1.scope"}
    monkeypatch.setattr(cgroup_v2, "_users_manager_delegates", delegated.__contains__)
    assert cgroup_v2.find(found).folder == tree / "user@1000/app/run-1.scope"
    delegated.clear()
    with pytest.raises(WallMissing, match="not delegated"):
        cgroup_v2.find(found)


def test_v2_does_not_move_others(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = hierarchy(tree, "scope")
    (tree / "scope/cgroup.procs").write_text(f"{os.getpid()}\n1\n")
    with pytest.raises(WallMissing, match="holds other processes") as caught:
        cgroup_v2.find(found)
    assert "cgroup: degraded" in caught.value.remedy
    assert not (tree / "scope/dativo-kernel").exists()


def test_v2_takes_the_parent_that_was_delegated(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = hierarchy(tree, "service/kernel")
    (tree / "service/kernel/cgroup.procs").write_text("1\n2\n")
    (tree / "service/cgroup.subtree_control").write_text(CONTROLLERS)
    assert cgroup_v2.find(found).folder == tree / "service"


def test_v2_as_root_has_a_subtree_of_its_own(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cgroup_v2.find(hierarchy(tree, ".")).folder == tree / "dativo"


def test_v2_without_controllers_is_missing(tree: Path) -> None:
    (tree / "cgroup.controllers").write_text("hugetlb\n")
    with pytest.raises(WallMissing, match="no controller cpu, memory, pids"):
        cgroup_v2.find(hierarchy(tree, "scope"))
    with pytest.raises(WallMissing, match="not mounted"):
        cgroup_v2.find([])


def test_v2_leaf(tree: Path) -> None:
    leaf = cgroup_v2.V2Base(tree).leaf("dativo.1.2.3.run.source", Limits(cpus=0.5, pids=9))
    assert text(leaf.folder / "memory.max") == str(512 * 1024 * 1024)
    assert text(leaf.folder / "memory.swap.max") == "0"
    assert text(leaf.folder / "memory.oom.group") == "1"
    assert text(leaf.folder / "pids.max") == "9"
    assert text(leaf.folder / "cpu.max") == "50000 100000"
    assert leaf.joins == leaf.members == (leaf.folder / "cgroup.procs",)
    counted = leaf.counted()
    assert counted == cgroup.Counted(4096, 1.5, 7, 1, 2, 3, 0.25, 4097, 513)
    leaf.kill()
    assert text(leaf.folder / "cgroup.kill") == "1"


def test_v2_leaf_on_a_kernel_without_peaks(tree: Path) -> None:
    leaf = cgroup_v2.V2Base(tree).leaf("dativo.1.2.3.run.source", Limits())
    for name in ("memory.peak", "pids.peak", "cgroup.kill", "io.stat"):
        (leaf.folder / name).unlink()
    assert leaf.counted() == cgroup.Counted(None, 1.5, None, 1, 2, 3, 0.25, None, None)
    leaf.kill()


def test_a_limit_that_does_not_hold_is_a_missing_wall(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "write", lambda path, text: None)
    removed: list[Path] = []
    monkeypatch.setattr(cgroup, "remove", removed.append)
    with pytest.raises(WallMissing, match=r"memory\.max reads 'max'"):
        cgroup_v2.V2Base(tree).leaf("dativo.1.2.3.run.source", Limits())
    assert [path.name for path in removed] == ["dativo.1.2.3.run.source"]


def test_v2_wishes_for_io_and_can_do_without(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "scope").mkdir()
    folder = tree / "scope"
    (folder / "cgroup.controllers").write_text(CONTROLLERS + "io\n")
    written: list[str] = []

    def write(path: Path, text: str) -> None:
        written.append(text)
        if text == "+io":
            raise OSError(16, "busy")
        path.write_text(text.replace("+", ""))

    monkeypatch.setattr(cgroup, "write", write)
    assert cgroup_v2._enable(folder, alone_in=None) == folder
    assert written == ["+cpu +memory +pids", "+io"]


def test_v1_leaf_counts(tmp_path: Path) -> None:
    files = {
        "memory/memory.max_usage_in_bytes": "8192\n",
        "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        "pids/pids.events": "max 5\n",
        "cpu/cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 1500000000\n",
        "cpuacct/cpuacct.usage": "2500000000\n",
        "blkio/blkio.throttle.io_service_bytes": "254:0 Read 10\n254:0 Write 20\n254:0 Total 30\n"
        "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 33\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    folders = {path.name: path for path in tmp_path.iterdir()}
    counted = cgroup_v1.V1Leaf(folders).counted()
    assert counted == cgroup.Counted(8192, 2.5, None, 2, 5, 4, 1.5, 11, 22)
    del folders["blkio"]
    assert cgroup_v1.V1Leaf(folders).counted().read_bytes is None


def test_v1_needs_three_controllers(tmp_path: Path) -> None:
    own = tmp_path / "memory"
    own.mkdir()
    found = [Hierarchy(own, own, frozenset({"memory"}))]
    with pytest.raises(WallMissing, match="pids, cpu not writable"):
        cgroup_v1.find(found)
    found += [
        Hierarchy(own, own, frozenset({"pids"})),
        Hierarchy(own, own, frozenset({"cpu", "cpuacct"})),
    ]
    assert set(cgroup_v1.find(found).folders) == {"memory", "pids", "cpu", "cpuacct"}


def test_hierarchies_of_a_container(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text(
        "4:memory:/docker/abc/x\n1:cpu,cpuacct:/other\n0::/docker/abc\n"
    )
    (tmp_path / "mountinfo").write_text(
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "36 31 0:33 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpuacct,cpu\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw shared:1 - cgroup2 cgroup2 rw\n"
    )
    assert cgroup.hierarchies(tmp_path) == [
        Hierarchy(
            Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/memory/x"), frozenset({"memory"})
        ),
        # cpu lies outside of what this mount shows, so it is no place for us.
        Hierarchy(
            Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/unified/docker/abc"), frozenset()
        ),
    ]


def test_leaves_of_dead_launchers_are_swept(tmp_path: Path) -> None:
    mine = cgroup.leaf_name("run 1", "a/b")
    assert mine.endswith(".run-1.a-b")
    for name in ("dativo.1.1.0.old.source", "dativo.4194305.5.0.old.source", mine, "user.slice"):
        (tmp_path / name).mkdir()
    cgroup.make(tmp_path, "dativo.new")
    assert {path.name for path in tmp_path.iterdir()} == {mine, "user.slice", "dativo.new"}


def test_names_are_bounded() -> None:
    assert len(cgroup.leaf_name("r" * 500, "n" * 500)) < 200


def test_quota() -> None:
    assert cgroup.quota_us(1.0) == 100_000
    assert cgroup.quota_us(0.0001) == 1_000
