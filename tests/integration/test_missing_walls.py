"""Without a wall nothing starts: exit 9, what to type, no process, no warehouse. As root and as a plain user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.conftest import ROOT, Workspace

from dativo.sandbox import WallMissing, cgroup, executables

pytestmark = pytest.mark.usefixtures("nothing_left")
JOB = """\
pipeline: walls
source:
  connector: ./plugins/marks
  config: {rows: 10}
target:
  connector: iceberg
  config: {warehouse: ./lake, namespace: walls}
"""
WITHOUT = (sys.executable, "-I", str(Path(__file__).with_name("without.py")))

# Stage 1 as a program of somebody else. It answers the launcher in stage 2's place, as if all stood as asked.
LIAR = """\
#!/usr/bin/python3 -I
import json, os, socket, sys
fields = iter(os.read(int(sys.argv[2]), 1 << 20).decode().split("\\0"))
arguments = [next(fields) for field in fields if field == "argument"]
plan = os.read(int(arguments[-1]), 1 << 20).decode().split("\\0")
value = lambda name: int(plan[plan.index(name) + 1])
report, stdin, stdout = value("report"), value("stdin"), value("stdout")
at = [i for i, field in enumerate(plan) if field == "limit"]
said = {
    "type": "attestation", "pid": 1, "uids": [os.getuid()] * 4, "gids": [os.getgid()] * 4,
    "capabilities": dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0"),
    "no_new_privileges": 1, "seccomp_mode": 2, "dumpable": 0, "landlock_abi": 7,
    "namespaces": {name: 1 for name in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")},
    "descriptors": [0, 1, 2, report, stdin, stdout],
    "limits": {plan[i + 1]: [int(plan[i + 2])] * 2 for i in at},
}
peer = socket.socket(fileno=report)
peer.send(json.dumps(said).encode())
peer.recv(10)
peer.send(b'{"type":"started"}')
"""


@pytest.fixture
def mark(workspace: Workspace) -> Path:
    """Put a job into the workspace whose source leaves a mark wherever no wall keeps it from doing so."""
    workspace.plugin(ROOT / "examples/plugins/resumable", "marks")
    folder = workspace.folder / "marks"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    mark = folder / "mark"
    source = workspace.folder / "plugins/marks/source.py"
    source.write_text(
        f"try:\n    open({str(mark)!r}, 'a').close()\nexcept OSError:\n    pass\n"
        + source.read_text()
    )
    (workspace.folder / "plugins/marks/plugin.yaml").write_text(
        (ROOT / "examples/plugins/resumable/plugin.yaml")
        .read_text()
        .replace("resumable", "marks", 1)
    )
    workspace.job(JOB)
    subprocess.run([sys.executable, str(source), "spec"], capture_output=True, check=True)
    mark.unlink()  # it was there: outside it works
    return mark


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o755)
    path.write_text(text)
    path.chmod(0o755)
    return path


def no_bubblewrap(workspace: Workspace) -> None:
    workspace.env["DATIVO_BWRAP"] = "/nonexistent/bwrap"


def set_uid_bubblewrap(workspace: Workspace) -> None:
    copy = shutil.copy(executables.bubblewrap(), workspace.home / "bwrap")
    Path(copy).chmod(0o4755)
    workspace.env["DATIVO_BWRAP"] = str(copy)


def no_namespaces(workspace: Workspace) -> None:
    workspace.prefix = (*WITHOUT, "namespaces")


def no_seccomp(workspace: Workspace) -> None:
    workspace.prefix = (*WITHOUT, "seccomp")


def seccomp_that_does_nothing(workspace: Workspace) -> None:
    workspace.prefix = (*WITHOUT, "seccomp_in_silence")


def no_cgroup(workspace: Workspace) -> None:
    workspace.flags = ()
    if os.geteuid() == 0:
        workspace.prefix = (*WITHOUT, "cgroup")
        return
    try:
        cgroup.find_base()
    except WallMissing:
        return
    pytest.skip("this user was given a cgroup, and taking it away needs root")


def confine(workspace: Workspace, text: str) -> None:
    folder = workspace.folder.parent / "bin"
    executable(folder / "dativo-confine", text)
    for name in ("dativo-writer", "dativo-inspector"):
        shutil.copy(executables.confine().with_name(name), folder)
    workspace.env["DATIVO_BIN_DIR"] = str(folder)


def no_confine(workspace: Workspace) -> None:
    confine(workspace, "")
    (workspace.folder.parent / "bin/dativo-confine").unlink()


def confine_that_ends(workspace: Workspace) -> None:
    confine(workspace, "#!/bin/sh\nexit 0\n")


def confine_that_lies(workspace: Workspace) -> None:
    confine(workspace, LIAR)


CASES: list[tuple[Callable[[Workspace], None], str, tuple[str, ...]]] = [
    (no_bubblewrap, "bubblewrap", ("apt install bubblewrap",)),
    (set_uid_bubblewrap, "set-uid", ("chmod u-s",)),
    (no_namespaces, "namespaces", ("sysctl -w user.max_user_namespaces=",)),
    (no_seccomp, "seccomp", ("CONFIG_SECCOMP_FILTER",)),
    (seccomp_that_does_nothing, "seccomp: number of filters is 1, not 2", ("uv sync",)),
    (no_cgroup, "cgroup", ("--cgroup degraded", "walls: {cgroup: degraded} in ", "policy.yaml")),
    (no_confine, "dativo-confine is missing", ("uv sync",)),
    (confine_that_ends, "ended with status 0", ("dativo doctor", "uv sync")),
    (confine_that_lies, ", not ", ("uv sync",)),
]


@pytest.mark.parametrize(
    ("take_away", "said", "to_type"), CASES, ids=[case[0].__name__ for case in CASES]
)
def test_nothing_starts(
    workspace: Workspace,
    mark: Path,
    take_away: Callable[[Workspace], None],
    said: str,
    to_type: tuple[str, ...],
) -> None:
    whole = Workspace(workspace.folder, workspace.home, flags=workspace.flags)
    take_away(workspace)

    # Nothing is known yet: the first process would be the source, asked for its SPEC.
    asked = workspace.run()
    assert asked.status == 9, asked.stderr
    assert asked.report["status"] == 9 and asked.report["error"]["status"] == "WALL_MISSING"
    # Once all is known, the first process would be the committer.
    assert whole.dativo("plan", "job.yaml", *whole.flags).status == 0
    refused = workspace.run()
    assert refused.status == 9, refused.stderr
    assert refused.report["processes"] == [] and refused.report["streams"] == []

    for result in (asked, refused):
        assert said in result.stderr
        for text in to_type:
            assert text in result.stderr
        assert said in result.report["error"]["message"]
        assert all(text in result.report["error"]["hint"] for text in to_type)
    assert not workspace.lake.exists()
    assert not mark.exists()


def test_an_attestation_is_not_waited_for_without_end(workspace: Workspace, mark: Path) -> None:
    confine(workspace, "#!/bin/sh\nexec sleep 600\n")
    result = workspace.run(timeout_s=60)
    assert result.status == 9
    assert "attestation: did not come in time" in result.stderr and "uv sync" in result.stderr
    assert not workspace.lake.exists() and not mark.exists()


def test_what_is_there_already_is_left_alone(workspace: Workspace, mark: Path) -> None:
    assert workspace.run().status == 0
    before = sorted(path for path in workspace.lake.rglob("*") if "staging" not in path.parts)
    no_bubblewrap(workspace)
    assert workspace.run().status == 9
    assert (
        sorted(path for path in workspace.lake.rglob("*") if "staging" not in path.parts) == before
    )
    assert workspace.count("walls.numbers") == 10
    assert not mark.exists()


def test_the_policy_accepts_the_weaker_wall_by_name(workspace: Workspace, mark: Path) -> None:
    no_cgroup(workspace)
    refused = workspace.run()
    assert refused.status == 9
    policy = Path(refused.stderr.partition("walls: {cgroup: degraded} in ")[2].split(",")[0])
    policy.write_text("walls: {cgroup: degraded}\n")
    done = workspace.run()
    assert done.status == 0, done.stderr
    assert done.report["degraded"] == ["cgroup: limits are kept by rlimits and a watchdog"]
    assert all("cgroup degraded" in entry["walls"] for entry in done.report["processes"])
    policy.unlink()
    assert workspace.run("job.yaml", "--cgroup", "degraded").status == 0


def test_where_the_wall_stands_the_weaker_one_is_not_used(workspace: Workspace, mark: Path) -> None:
    try:
        cgroup.find_base()
    except WallMissing:
        pytest.skip("no cgroup can be written here")
    report = workspace.run("job.yaml", "--cgroup", "degraded").report
    assert report["status"] == 0 and report["degraded"] == []


def test_the_doctor_names_the_wall(workspace: Workspace) -> None:
    no_namespaces(workspace)
    result = workspace.dativo("doctor", "--output", "json")
    assert result.status == 9
    walls = {wall["name"]: wall for wall in result.report["walls"]}
    assert walls["namespaces"]["state"] == "missing"
    assert "sysctl" in walls["namespaces"]["remedy"]
    assert "could not be tried" in walls["seccomp"]["meaning"]
