"""Runs inside a container, under docs/guide/containers: all walls with them, exit 9 and the line to type without them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.docker.container import CONTAINERS, Container, pod
from tests.docker.engine import ROOT, Engine
from tests.docker.profile import ADDED, PROFILE, without

pytestmark = pytest.mark.docker

DATIVO = str(Path(sys.prefix) / "bin/dativo")
ROWS = 1000
JOB = f"""\
pipeline: inside
source:
  connector: ./plugins/resumable
  config: {{rows: {ROWS}, state_every: 100}}
target:
  connector: iceberg
  config: {{warehouse: ./lake, namespace: inside}}
"""
# What the operator has to type, whichever wall it was.
TO_TYPE = (
    "docker run --user 1000:1000 --cap-drop ALL", "--security-opt no-new-privileges",
    "--security-opt seccomp=seccomp.json", "--security-opt systempaths=unconfined",
    "procMount: Unmasked", "hostUsers: false", "docs/guide/kubernetes.md",
)  # fmt: skip
# Every table of a warehouse, counted by an engine that is not ours.
COUNT = """\
import duckdb, pathlib, sqlite3, sys
extensions = pathlib.Path(duckdb.__file__).parents[1] / "duckdb_ext/extensions"
reader = duckdb.connect(config={"extension_directory": str(extensions)})
reader.execute("LOAD avro; LOAD iceberg")
for name, place in sqlite3.connect("lake/catalog.db").execute("SELECT table_name, metadata_location FROM iceberg_tables"):
    [(rows,)] = reader.execute(f"SELECT count(*) FROM iceberg_scan('{place.removeprefix('file://')}')").fetchall()
    print(name, rows)
"""
# What lies open where /proc is not masked, and is root's.
PROC = """\
import sys
for name in ("sys/kernel/core_pattern", "sysrq-trigger", "sys/vm/drop_caches", "kcore", "timer_list"):
    try:
        open("/proc/" + name, "r+b", buffering=0)
    except OSError as error:
        print(name, error.errno)
    else:
        sys.exit(f"/proc/{name} can be opened")
print([line for line in open("/proc/self/status") if line.startswith(("CapBnd", "CapEff", "NoNewPrivs", "Seccomp:"))])
"""


@pytest.fixture(params=["hostUsers-false", "hostUsers-true"])
def container(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Container:
    """Make the container of pod.yaml with a job, its users mapped as there, or those of the host as in a plain `docker run`."""
    made = Container.of_pod(engine, tmp_path, own_users=request.param == "hostUsers-false")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "examples/plugins/resumable", made.work / "plugins/resumable", ignore=ignored)  # fmt: skip
    (made.work / "job.yaml").write_text(JOB)
    (made.work / ".git/hooks").mkdir(parents=True)
    return made


def arguments() -> list[str]:
    """Return what pod.yaml passes to dativo."""
    [container] = pod()["containers"]
    assert container["command"] == ["dativo"]
    return [str(argument) for argument in container["args"]]


def index_options() -> list[str]:
    """Return what the package index of this machine needs."""
    names = ("SSL_CERT_FILE", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
    options = [f"--env={name}" for name in names if os.environ.get(name)]
    if certificates := os.environ.get("SSL_CERT_FILE"):
        options.append(f"--volume={certificates}:{certificates}:ro")
    return options


def counts(container: Container) -> dict[str, int]:
    read = container.run(sys.executable, "-I", "-c", COUNT)
    assert read.returncode == 0, read.stderr
    return {name: int(rows) for name, rows in map(str.split, read.stdout.splitlines())}


def test_the_main_job_passes_behind_every_wall(container: Container) -> None:
    done = container.run(DATIVO, *arguments(), "--output", "json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert {entry["name"] for entry in report["processes"]} == {
        "source",
        "writer",
        "inspector",
        "committer",
    }
    for entry in report["processes"]:
        for wall in ("uid 1000", "7 namespaces", "no network", "seccomp", "cgroup degraded"):
            assert wall in entry["walls"]
    assert counts(container) == {"numbers": ROWS}


def test_what_the_profiles_open_is_closed_to_a_plain_user(container: Container) -> None:
    found = container.run("/usr/bin/python3", "-I", "-c", PROC)
    assert found.returncode == 0, found.stderr
    for line in ("CapBnd:\\t0000000000000000", "CapEff:\\t0000000000000000", "NoNewPrivs:\\t1", "Seccomp:\\t2"):  # fmt: skip
        assert line in found.stdout


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        (("--security-opt=seccomp=",), "a system call filter over this process"),
        (("--security-opt=systempaths=",), "parts of /proc are masked"),
        (("--security-opt=",), "a system call filter over this process"),
        (("--user=", "--cap-drop=", "--read-only"), "mount namespaces may not be made here"),
    ],
    ids=["seccomp", "proc", "plain", "root"],
)
@pytest.mark.parametrize("container", ["hostUsers-false"], indirect=True)
def test_without_them_nothing_starts(
    container: Container, left_out: tuple[str, ...], said: str
) -> None:
    refused = container.without(*left_out).run(DATIVO, *arguments())
    assert refused.returncode == 9, refused.stderr
    assert said in refused.stderr
    for text in TO_TYPE:
        assert text in refused.stderr
    assert not (container.work / "lake").exists()


@pytest.mark.parametrize("container", ["hostUsers-false"], indirect=True)
def test_root_with_nowhere_to_hold_identities(container: Container) -> None:
    refused = container.without("--user=", "--cap-drop=").run(DATIVO, *arguments())
    assert refused.returncode == 9, refused.stderr
    assert "identity: /run/dativo/uids: Read-only file system" in refused.stderr
    assert "Run as a plain user" in refused.stderr


@pytest.mark.parametrize("container", ["hostUsers-false"], indirect=True)
def test_the_missing_cgroup_is_named_first(container: Container) -> None:
    refused = container.run(DATIVO, "run", "job.yaml")
    assert refused.returncode == 9
    assert "cgroup: " in refused.stderr and "--cgroup degraded" in refused.stderr


@pytest.mark.nightly
@pytest.mark.parametrize("container", ["hostUsers-false"], indirect=True)
def test_every_call_that_the_profile_adds_is_needed(container: Container) -> None:
    """A jail that writes beside protected paths, with a network, needs all of them."""
    jail = (
        DATIVO, "jail", "--cgroup", "degraded", "--rw", ".", "--net", "example.com",
        "--", "/usr/bin/true",
    )  # fmt: skip
    whole = container.run(*jail)
    assert whole.returncode == 0, whole.stderr
    profile = json.loads(PROFILE.read_text())
    narrower = container.work.parent / "seccomp.json"
    others = container.without("--security-opt=seccomp=").with_options(
        f"--security-opt=seccomp={narrower}"
    )
    needless = []
    for name in (name for rule in ADDED for name in rule["names"]):
        narrower.write_text(json.dumps(without(profile, name)))
        if others.run(*jail).returncode != 125:
            needless.append(name)
    assert needless == []


def test_the_apparmor_profile_can_be_read() -> None:
    """Of the files here it is the one that a kernel without AppArmor cannot try: its syntax is checked, and no more."""
    if (parser := shutil.which("apparmor_parser")) is None:
        pytest.skip("apparmor_parser is not installed: apt-get install apparmor")
    read = subprocess.run(
        [parser, "--skip-kernel-load", "--skip-cache", CONTAINERS / "apparmor"],
        capture_output=True,
        text=True,
    )
    assert read.returncode == 0, read.stderr


@pytest.mark.nightly
@pytest.mark.parametrize("container", ["hostUsers-false"], indirect=True)
def test_a_connector_from_the_index(container: Container) -> None:
    """Installed and run inside, as demo.yaml has it."""
    shutil.copy(ROOT / "demo.yaml", container.work / "job.yaml")
    # Docker gives the host's network to none that has users of its own.
    outward = replace(
        container.without("--network=").with_options(
            "--network=host", "--userns=host", *index_options()
        ),
        uid=1000,
    )
    added = outward.run(
        DATIVO, "plugin", "add", "airbyte:source-faker==7.2.1", "--cgroup", "degraded", timeout_s=900
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    done = container.run(DATIVO, *arguments(), timeout_s=600)
    assert done.returncode == 0, done.stderr
    assert counts(container) == {"users": 10_000, "products": 100, "purchases": 10_000}
