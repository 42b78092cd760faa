"""Plans, messages of known hosts, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import dativo.sandbox
from dativo.sandbox import Grants, Program, SandboxError, StartFailed, WallMissing
from dativo.sandbox.diagnosis import explain
from dativo.sandbox.executables import bubblewrap, confine
from dativo.sandbox.mounts import plan_view
from dativo.sandbox.stages import encode, stage2_plan
from dativo.sandbox.streams import Streams


def test_exports() -> None:
    assert dativo.sandbox.__all__ == [
        "Attestation", "Confined", "Container", "Exit", "Grants", "Identity", "Launching", "Limits", "LimitsTooSmall",
        "Network", "PrivateFile", "Program", "SandboxError", "StartFailed", "Usage", "WallMissing", "WallStatus",
        "Walls", "allocate_identity", "begin_launch", "launch", "probes",
    ]  # fmt: skip
    for name in dativo.sandbox.__all__:
        assert getattr(dativo.sandbox, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        dativo.sandbox.nonsense  # noqa: B018


def test_import_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import dativo.sandbox; print(*sorted(set(sys.modules) - before))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) == {"__future__", "dativo", "dativo.sandbox"}


def test_plans_end_each_field() -> None:
    assert encode(["env", "A=", 3]) == b"env\0A=\x003\0"
    with pytest.raises(SandboxError, match="NUL"):
        encode(["a\0b"])


@pytest.mark.parametrize("name", ["", "A=B"])
def test_environment_names(name: str) -> None:
    program = Program("test", ("/usr/bin/true",))
    grants = Grants(environment=((name, "x"),))
    with pytest.raises(SandboxError, match="cannot name"):
        stage2_plan(
            program, grants, plan_view(program, grants), {}, Streams(10, 11, 12, None, None)
        )


def test_granted_environment_wins() -> None:
    program = Program("test", ("/usr/bin/true",))
    grants = Grants(environment=(("PATH", "/opt/bin"), ("TOKEN", "x")))
    plan = stage2_plan(
        program, grants, plan_view(program, grants), {}, Streams(10, 11, 12, None, 13)
    )
    fields = plan.split(b"\0")
    assert b"PATH=/opt/bin" in fields
    assert b"TOKEN=x" in fields
    assert b"HOME=/tmp" in fields
    assert sum(field.startswith(b"PATH=") for field in fields) == 1


@pytest.mark.parametrize(
    ("stderr", "wall", "remedy"),
    [
        (b"bwrap: setting up uid map: Permission denied\n", "namespaces", "apparmor"),
        (
            b"bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted\n",
            "namespaces",
            "apparmor",
        ),
        (
            b"bwrap: No permissions to create new namespace, likely because the kernel does not allow ...\n",
            "namespaces",
            "unprivileged_userns_clone",
        ),
        (
            b"bwrap: Creating new namespace failed: Operation not permitted\n",
            "namespaces",
            "sysctl",
        ),
        (
            b"bwrap: Can't mount proc on /newroot/proc: Operation not permitted\n",
            "namespaces",
            "procMount",
        ),
        (b"bwrap: Can't find source path /root/x: Permission denied\n", "mounts", "readable"),
        (b"bwrap: Unknown option --size\n", "bubblewrap", "0.8"),
        (b"dativo-confine stage1: identity: setresuid: Operation not permitted\n", "identity", ""),
        (
            b"dativo-confine stage1: identity: setresgid: Invalid argument (os error 22)\n",
            "identity",
            "plain user",
        ),
        (
            b"dativo-confine stage1: cgroup: cannot join by /x: Permission denied (os error 13)\n",
            "cgroup",
            "dativo doctor",
        ),
    ],
)
def test_messages_of_known_hosts(
    stderr: bytes, wall: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dativo.sandbox.diagnosis.under_filter", lambda: False)
    found = explain(stderr, 1)
    assert isinstance(found, WallMissing)
    assert found.wall == wall
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("stderr", "wall"),
    [
        (b"bwrap: No permissions to create new namespace, likely because\n", "namespaces"),
        (b"bwrap: Creating new namespace failed: Operation not permitted\n", "namespaces"),
        (b"bwrap: Can't mount proc on /newroot/proc: Operation not permitted\n", "namespaces"),
        (b"bwrap: Failed to make / slave: Operation not permitted\n", "mounts"),
        (b"bwrap: Failed to make / slave: Permission denied\n", "mounts"),
        (
            b"dativo-confine stage1: mounts: unshare of the mount namespace: Operation not permitted\n",
            "mounts",
        ),
    ],
)
def test_messages_in_containers(stderr: bytes, wall: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dativo.sandbox.diagnosis.under_filter", lambda: True)
    found = explain(stderr, 1)
    assert isinstance(found, WallMissing)
    assert found.wall == wall
    for text in (
        "--user 1000:1000", "--cap-drop ALL", "no-new-privileges", "seccomp=seccomp.json",
        "systempaths=unconfined", "apparmor=dativo", "procMount: Unmasked", "hostUsers: false",
        "docs/guide/kubernetes.md",
    ):  # fmt: skip
        assert text in found.remedy
    assert ("AppArmor keeps" in found.reason) == (b"Permission denied" in stderr)


def test_other_messages_are_passed_on() -> None:
    found = explain(b"bwrap: something new\n", 1)
    assert isinstance(found, WallMissing)
    assert "something new" in found.reason and "dativo doctor" in found.remedy
    assert "nothing was said" in str(explain(b"", 1))
    later = explain(b"bwrap: something new\n", 1, attested=True)
    assert isinstance(later, StartFailed)
    assert later.stderr == b"bwrap: something new\n"


def test_bubblewrap_must_be_there_and_not_set_uid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATIVO_BWRAP", str(tmp_path / "bwrap"))
    with pytest.raises(WallMissing, match="No such file") as caught:
        bubblewrap()
    assert "apt install bubblewrap" in caught.value.remedy
    (tmp_path / "bwrap").write_text("")
    (tmp_path / "bwrap").chmod(0o644)
    with pytest.raises(WallMissing, match="cannot be executed"):
        bubblewrap()
    (tmp_path / "bwrap").chmod(0o4755)
    with pytest.raises(WallMissing, match="set-uid"):
        bubblewrap()
    (tmp_path / "bwrap").chmod(0o755)
    assert bubblewrap() == tmp_path / "bwrap"


def test_confine_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATIVO_BIN_DIR", str(tmp_path))
    with pytest.raises(WallMissing, match="dativo-confine is missing"):
        confine()
