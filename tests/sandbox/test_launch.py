"""Launches that must fail, and how; launches as different users."""

from __future__ import annotations

import json
import os
import runpy
import select
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.sandbox.seen import Outcome

import dativo.sandbox
from dativo.sandbox import (
    Confined,
    Grants,
    Identity,
    Limits,
    LimitsTooSmall,
    Program,
    SandboxError,
    StartFailed,
    WallMissing,
    Walls,
    begin_launch,
    doctor,
    executables,
    launch,
    pipeline,
    probes,
    stages,
)
from dativo.sandbox.attestation import Asked
from dativo.sandbox.launching import Building
from dativo.sandbox.seccomp.compile import compile_policy
from dativo.sandbox.seccomp.policy import Verdict, load_policy

Launch = Callable[..., Confined]
Run = Callable[..., Outcome]
WITHIN_S = 30.0
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
PLAIN_UID = 65533


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """A failed launch leaves no descriptor and no process."""
    before, processes = set(Path("/proc/self/fd").iterdir()), children()
    yield
    assert set(Path("/proc/self/fd").iterdir()) <= before
    assert children() <= processes


def test_a_program_that_is_not_there(start: Launch) -> None:
    with pytest.raises(StartFailed, match="cannot run /nonexistent: No such file"):
        start("/nonexistent")
    with pytest.raises(StartFailed, match="Permission denied"):
        start("/usr/share")
    with pytest.raises(StartFailed, match="absolute path"):
        start("true")
    with pytest.raises(StartFailed, match="absolute path"):
        start()


def test_a_folder_that_is_not_there(identity: Identity | None, walls: Walls) -> None:
    with pytest.raises(StartFailed, match="cannot enter /nowhere"):
        launch(
            Program("test", ("/usr/bin/true",), cwd="/nowhere"),
            Grants(),
            identity=identity,
            walls=walls,
            stdin=None,
            stdout=None,
            control=None,
            run="test",
        )


def test_no_bubblewrap(start: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(executables.BWRAP_VARIABLE, "/nonexistent")
    with pytest.raises(WallMissing) as caught:
        start("/usr/bin/true")
    assert caught.value.wall == "bubblewrap"
    assert "apt install bubblewrap" in caught.value.remedy


@pytest.fixture
def bubblewrap(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Put a shell script in bubblewrap's place."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)

        def write(script: str) -> None:
            path = Path(name) / "bwrap"
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
            monkeypatch.setenv(executables.BWRAP_VARIABLE, str(path))

        yield write


def test_what_bubblewrap_says_is_explained(
    start: Launch, bubblewrap: Callable[[str], None]
) -> None:
    bubblewrap("echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1")
    with pytest.raises(WallMissing, match="AppArmor") as caught:
        start("/usr/bin/true")
    assert caught.value.wall == "namespaces"
    bubblewrap("echo 'something else' >&2; exit 3")
    with pytest.raises(WallMissing, match="status 3: something else"):
        start("/usr/bin/true")


def test_a_bubblewrap_that_says_nothing_is_given_up(
    identity: Identity | None, walls: Walls, bubblewrap: Callable[[str], None]
) -> None:
    bubblewrap("exec sleep 600")
    with pytest.raises(WallMissing, match="attestation: did not come in time"):
        launch(
            Program("test", ("/usr/bin/true",)),
            Grants(),
            identity=identity,
            walls=walls,
            stdin=None,
            stdout=None,
            control=None,
            run="test",
            attest_timeout_s=0.3,
        )


def test_a_bubblewrap_without_walls_is_found_out(
    start: Launch, bubblewrap: Callable[[str], None]
) -> None:
    """It starts stage 2 with nothing around it: stage 2 and the attestation refuse."""
    confine = executables.confine()
    bubblewrap(f'shift 4; exec {confine} "$@"')
    with pytest.raises(WallMissing, match="not process 1") as caught:
        start("/usr/bin/true")
    assert caught.value.wall == "namespaces"


@pytest.mark.parametrize(
    ("left_out", "wall"),
    [
        (("--seccomp",), "seccomp"),
        (("--unshare-net",), "namespaces"),
        (("--unshare-ipc",), "namespaces"),
        (("--unshare-uts", "--hostname"), "namespaces"),
        (("--unshare-cgroup",), "namespaces"),
        (("--unshare-pid", "--as-pid-1"), "namespaces"),
    ],
)
def test_a_wall_left_out_is_found_missing(
    start: Launch, monkeypatch: pytest.MonkeyPatch, left_out: tuple[str, ...], wall: str
) -> None:
    def without(fields: list[str | int]) -> bytes:
        kept: list[str | int] = []
        skip = 0
        for field in fields:
            if skip:
                skip -= 1
            elif field in left_out:
                skip = 1 if field in ("--seccomp", "--hostname") else 0
            else:
                kept.append(field)
        return real(kept)

    real = stages.encode
    monkeypatch.setattr(pipeline, "encode", without)
    with pytest.raises(WallMissing) as caught:
        start("/usr/bin/true")
    assert caught.value.wall == wall


def test_without_landlock_the_mounts_stand(
    inside: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel without Landlock, played by a filter that knows none. Shows too which wall forbade execution."""
    policy = load_policy()
    for name in policy.verdicts:
        if name.startswith("landlock_"):
            policy.verdicts[name] = Verdict.ABSENT
    blob = folder / "filter.bpf"
    blob.write_bytes(compile_policy(policy, os.uname().machine))
    blob.chmod(0o666)
    monkeypatch.setattr(pipeline, "blob_path", lambda: blob)
    found = inside("write_file", str(blob), grants=Grants(read=(folder,)))
    assert found.errno == "EROFS"
    assert found.attestation is not None
    assert found.attestation.landlock_abi == 0
    assert inside("read_file", str(blob)).errno == "ENOENT"
    assert inside("write_core_pattern").errno in ("EACCES", "EROFS")
    assert inside("execute_copy", "/tmp").errno is None
    if os.geteuid() == 0:
        assert inside("execute_copy", str(folder), grants=Grants(write=(folder,))).errno == "EACCES"


def test_a_descriptor_too_many_is_found(start: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(**fields: object) -> Asked:
        descriptors = fields.pop("descriptors")
        assert isinstance(descriptors, frozenset)
        return Asked(descriptors=descriptors - {2}, **fields)  # type: ignore[arg-type]  # as given

    monkeypatch.setattr(pipeline, "Asked", asked)
    with pytest.raises(WallMissing) as caught:
        start("/usr/bin/true")
    assert caught.value.wall == "descriptors"


def test_outside_the_cgroup_is_found(
    start: Launch, monkeypatch: pytest.MonkeyPatch, walls: Walls
) -> None:
    if walls.cgroup == "degraded":
        pytest.skip("no cgroup can be written here")
    real = stages.stage1_plan
    monkeypatch.setattr(pipeline, "stage1_plan", lambda **all: real(**{**all, "joins": ()}))
    with pytest.raises(WallMissing, match="is not in") as caught:
        start("/usr/bin/true")
    assert caught.value.wall == "cgroup"


def test_no_cgroup_must_be_permitted_by_name(start: Launch, without_cgroup: Walls) -> None:
    with pytest.raises(WallMissing) as caught:
        start("/usr/bin/true", walls=Walls())
    assert caught.value.wall == "cgroup"
    assert "walls: {cgroup: degraded}" in caught.value.remedy
    confined = start("/usr/bin/true", walls=without_cgroup)
    assert confined.attestation.cgroup == "degraded"
    confined.close()


def test_limits_too_small_to_start_are_named(start: Launch, walls: Walls) -> None:
    if walls.cgroup == "degraded":
        pytest.skip("no cgroup can be written here")
    for limits in (Limits(memory_bytes=200 << 10), Limits(pids=1)):
        with pytest.raises(LimitsTooSmall, match="too little to start"):
            start("/usr/bin/true", limits=limits)


@AS_ROOT
def test_a_narrow_umask_changes_nothing(start: Launch) -> None:
    before = os.umask(0o077)
    try:
        assert start("/usr/bin/true").wait(WITHIN_S).succeeded
    finally:
        os.umask(before)


def test_only_the_main_thread_launches(start: Launch) -> None:
    caught: list[Exception] = []

    def attempt() -> None:
        try:
            start("/usr/bin/true")
        except SandboxError as error:
            caught.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


@pytest.mark.parametrize("given", [None, Identity(0, 5), Identity(5, 0)])
@AS_ROOT
def test_root_names_an_identity_that_is_not_root(given: Identity | None, walls: Walls) -> None:
    with pytest.raises(WallMissing) as caught:
        launch(
            Program("test", ("/usr/bin/true",)),
            Grants(),
            identity=given,
            walls=walls,
            stdin=None,
            stdout=None,
            control=None,
            run="test",
        )
    assert caught.value.wall == "identity"


@AS_ROOT
def test_groups_are_given_and_no_others(walls: Walls) -> None:
    with launch(
        Program("test", ("/usr/bin/sleep", "60")),
        Grants(),
        identity=Identity(1879100000, 1879100001, (1879100002,)),
        walls=walls,
        stdin=None,
        stdout=None,
        control=None,
        run="test",
    ) as confined:
        status = Path(f"/proc/{confined.pid}/status").read_text()
    groups = next(line for line in status.splitlines() if line.startswith("Groups:"))
    assert groups.split()[1:] == ["1879100002"]


@AS_ROOT
def test_sources_below_a_closed_home(start: Launch) -> None:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o700)
        (home / "data").mkdir()
        (home / "data/file").write_text("reached")
        (home / "out").mkdir()
        (home / "out").chmod(0o777)
        script = f"cat {home}/data/file; echo written > {home}/out/file; ls {home}"
        grants = Grants(read=(home / "data",), write=(home / "out",))
        confined = start("/bin/sh", "-c", script, grants=grants)
        assert confined.wait(WITHIN_S).succeeded, confined.stderr_tail()
        assert os.read(confined.stdout, 100) == b"reacheddata\nout\n"
        assert (home / "out/file").read_text() == "written\n"
        confined.close()
        # The host's own mounts were not touched.
        assert str(home) not in Path("/proc/self/mountinfo").read_text()


def test_the_doctor_tries_every_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {status.name: status for status in probes()}
    assert {"bubblewrap", "cgroup", "namespaces", "seccomp", "identity", "landlock"} <= set(found)
    for name, status in found.items():
        if name not in ("cgroup", "landlock"):
            assert status.state in ("up", "note"), status
        assert status.state in ("up", "note") or status.remedy
    for name in ("mounts", "network", "namespaces", "capabilities", "identity", "seccomp"):
        assert "tried: " in found[name].meaning
    assert "writing to /usr (EROFS)" in found["mounts"].meaning
    monkeypatch.setenv(executables.BWRAP_VARIABLE, "/nonexistent")
    found = {status.name: status for status in probes()}
    assert found["bubblewrap"].state == "missing"
    assert found["seccomp"].state == "missing"
    assert "bubblewrap" in found["seccomp"].meaning


def test_what_the_doctor_tries_is_done_outside(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """An act that never succeeds would prove nothing; those that would change this process or this machine are left out."""
    monkeypatch.setattr(sys, "argv", ["climbs.py", str(os.getpid()), str(folder)])
    acts = {what: act for _, what, act in runpy.run_path(str(doctor._CLIMBS))["ACTS"]}
    harmless = ["a signal to the doctor", "the doctor's memory", "a socket file"]
    harmless += ["reading /etc/shadow", "listing /boot", "executing what was written"]
    for what in harmless:
        acts[what]()
    if os.geteuid() == 0:
        acts["setting core_pattern"]()


PLAIN = """
import json, os, sys
from pathlib import Path
from dativo.sandbox import Grants, Limits, Program, WallMissing, Walls, launch
folder = Path(sys.argv[1])

def run(script, walls=Walls("degraded"), **limits):
    with launch(Program("plain", ("/bin/sh", "-c", script)),
                Grants(read=(folder / "data",), write=(folder / "out",), limits=Limits(**{"wall_time_s": 30, **limits})),
                identity=None, walls=walls, stdin=None, stdout=None, control=None, run="test") as confined:
        end = confined.wait(60)
        text = os.read(confined.stdout, 10000).decode()
        return {"code": end.code, "cause": end.cause, "text": text, "cgroup": confined.attestation.cgroup,
                "uid": confined.attestation.uid}

found = {
    "reads": run(f"cat {folder}/data/file"),
    "writes": run(f"echo x > {folder}/out/file"),
    "writes_granted_read": run(f"echo x > {folder}/data/file"),
    "other": run(f"cat {folder}/other"),
    "execute": run("cp /usr/bin/true /tmp/x && /tmp/x"),
    "processes": run("echo /proc/[0-9]*"),
    "memory": run("exec /usr/bin/python3 -c 'x = bytearray(900 << 20); import time; time.sleep(20)'", memory_bytes=100 << 20),
    "forks": run("for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait", pids=6),
    "wall_time": run("sleep 60", wall_time_s=0.3),
}
try:
    run("true", Walls())
except WallMissing as error:
    found["required"] = [error.wall, error.remedy]
print(json.dumps(found))
"""


@AS_ROOT
def test_as_a_plain_user() -> None:
    """The whole way as a user with no privilege at all, who can write no cgroup."""
    version = ["/usr/bin/python3", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    if not Path(version[0]).exists() or subprocess.run(version).returncode:
        pytest.skip("no /usr/bin/python3 of 3.11 or later: a plain user cannot reach another")
    package = Path(next(iter(dativo.sandbox.__path__))).parent.parent
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(package, folder / "lib", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "bin").mkdir()
        shutil.copy(executables.confine(), folder / "bin")
        (folder / "data").mkdir()
        (folder / "data/file").write_text("given")
        (folder / "data/file").chmod(0o666)
        (folder / "out").mkdir()
        (folder / "other").write_text("not given")
        for path in (folder, *folder.iterdir()):
            path.chmod(0o777 if path.is_dir() else 0o666)
        drop = f"--reuid={PLAIN_UID} --regid={PLAIN_UID} --clear-groups --inh-caps=-all --bounding-set=-all"
        done = subprocess.run(
            ["/usr/bin/setpriv", *drop.split(), "/usr/bin/python3", "-B", "-c", PLAIN, name],
            env={"PYTHONPATH": f"{name}/lib", "DATIVO_BIN_DIR": f"{name}/bin"},
            capture_output=True,
            timeout=120,
            cwd="/",
        )
        assert done.returncode == 0, done.stderr.decode()
        found = json.loads(done.stdout)
        assert (folder / "out/file").read_text() == "x\n"
        assert (folder / "data/file").read_text() == "given"
    assert found["reads"] == {
        "code": 0, "cause": "exited", "text": "given", "cgroup": "degraded", "uid": PLAIN_UID,
    }  # fmt: skip
    assert found["writes"]["code"] == 0
    assert found["writes_granted_read"]["code"] != 0
    assert found["other"]["code"] == 1
    assert found["execute"]["code"] == 126
    assert found["processes"]["text"].split() == ["/proc/1", "/proc/2"]
    assert found["memory"]["cause"] == "memory"
    assert found["forks"]["cause"] == "pids" or found["forks"]["code"] != 0
    assert found["wall_time"]["cause"] == "wall_time"
    assert found["required"][0] == "cgroup"
    assert "walls: {cgroup: degraded}" in found["required"][1]


def test_usable_alone() -> None:
    """Neither the kernel nor anything beyond the standard library is loaded by a launch."""
    code = (
        "import sys; from dativo.sandbox import *; import dativo.sandbox.pipeline, dativo.sandbox.doctor;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    found = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True,
                           env={"PYTHONPATH": str(Path(next(iter(dativo.sandbox.__path__))).parent.parent)})  # fmt: skip
    assert set(found.stdout.split()) <= {"__main__", "dativo"}, found.stderr


# --- several at once -----------------------------------------------------------------------------------------------


@pytest.fixture
def begin(walls: Walls, identity: Identity | None) -> Callable[[str], Building]:
    def begun(script: str) -> Building:
        launching = begin_launch(
            Program("plain", ("/bin/sh", "-c", script)),
            Grants(limits=Limits(wall_time_s=60)),
            identity=identity, walls=walls, stdin=None, stdout=None, control=None, run="test",
        )  # fmt: skip
        assert isinstance(launching, Building)
        return launching

    return begun


def test_launches_overlap_and_end_in_any_order(begin: Callable[[str], Building]) -> None:
    with begin("echo first") as first, begin("echo second") as second:
        two, one = second.finish(), first.finish()
    with two, one:
        for confined, said in ((one, b"first\n"), (two, b"second\n")):
            assert confined.wait(10).succeeded
            assert os.read(confined.stdout, 100) == said


def test_an_abandoned_launch_leaves_nothing(begin: Callable[[str], Building]) -> None:
    for waits in (False, True):
        launching = begin("sleep 1000")
        monitor = launching._monitor
        if waits:  # until stage 2 has attested
            assert select.select([launching._report], [], [], 10)[0]
        with pytest.raises(KeyError), launching:
            raise KeyError("of another launch")
        assert not Path(f"/proc/{monitor}").exists()
        assert launching._leaf is None or not any(
            member.exists() for member in launching._leaf.members
        )
