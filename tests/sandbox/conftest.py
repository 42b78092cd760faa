"""Start acts inside and outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.sandbox.probes.report import FOUND, found
from tests.sandbox.seen import Outcome

from dativo.sandbox import (
    Confined,
    Grants,
    Identity,
    Limits,
    PrivateFile,
    Program,
    WallMissing,
    Walls,
    allocate_identity,
    cgroup,
    launch,
)

ACTS = Path(__file__).with_name("acts.py")
PREFIX = Path(sys.base_prefix)
PYTHON = str(Path(sys.executable).resolve())
WITHIN_S = 60.0

Launch = Callable[..., Confined]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table of probes."""
    if matrices := config.stash.get(FOUND, None):
        terminalreporter.section("probes")
        for line in found(matrices):
            terminalreporter.line(line)


@pytest.fixture
def identity() -> Iterator[Identity | None]:
    """Who confined processes become: one of their own as root, this user otherwise."""
    if os.geteuid() != 0:
        yield None
        return
    with allocate_identity() as lease:
        yield lease.identity


@pytest.fixture
def walls() -> Walls:
    """Everything required where a cgroup can be written."""
    try:
        cgroup.find_base()
    except WallMissing:
        return Walls(cgroup="degraded")
    return Walls()


@pytest.fixture
def without_cgroup(monkeypatch: pytest.MonkeyPatch) -> Walls:
    """As on a machine where no cgroup can be written."""

    def find_base() -> None:
        raise WallMissing("cgroup", "left out by this test", cgroup.REMEDY)

    monkeypatch.setattr(cgroup, "find_base", find_base)
    return Walls(cgroup="degraded")


@pytest.fixture
def start(identity: Identity | None, walls: Walls) -> Iterator[Launch]:
    """Launch with defaults; whatever still runs at the end is killed and reaped."""
    started: list[Confined] = []

    def begin(
        *argv: str,
        grants: Grants | None = None,
        limits: Limits | None = None,
        runtime: tuple[Path, ...] = (),
        files: tuple[PrivateFile, ...] = (),
        binds: tuple[tuple[Path, str, bool], ...] = (),
        walls: Walls = walls,
        client: str = "",
        attest_timeout_s: float = 10,
        **handed: int | None,
    ) -> Confined:
        confined = launch(
            Program("test", argv, runtime=runtime, files=files, binds=binds),
            grants or Grants(limits=limits or Limits(wall_time_s=WITHIN_S)),
            identity=identity,
            walls=walls,
            stdin=handed.get("stdin"),
            stdout=handed.get("stdout"),
            control=handed.get("control"),
            sockets=handed.get("sockets"),
            client=client,
            run="test",
            attest_timeout_s=attest_timeout_s,
        )
        started.append(confined)
        return confined

    yield begin
    for confined in started:
        confined.close()


@pytest.fixture
def act(start: Launch) -> Launch:
    """Launch one act."""

    def begin(name: str, *arguments: str, grants: Grants | None = None, **more: Any) -> Confined:
        grants = grants or Grants(limits=more.pop("limits", Limits(wall_time_s=WITHIN_S)))
        reading = replace(grants, read=(*grants.read, ACTS))
        argv = (PYTHON, "-I", "-B", str(ACTS), name, *arguments)
        return start(*argv, grants=reading, runtime=(PREFIX,), **more)

    return begin


@pytest.fixture
def inside(act: Launch) -> Callable[..., Outcome]:
    """Run one act behind the walls to its end."""

    def run(name: str, *arguments: str, **more: Any) -> Outcome:
        return outcome(act(name, *arguments, **more))

    return run


def outcome(confined: Confined) -> Outcome:
    """Wait for the end of an act and read what became of it."""
    end = confined.wait(WITHIN_S)
    text = os.read(confined.stdout, 65536)
    if not text:
        return Outcome(None, None, end, confined.attestation)
    return Outcome(**json.loads(text), end=end, attestation=confined.attestation)


@pytest.fixture
def outside() -> Callable[..., Outcome]:
    """Run one act without walls."""

    def run(name: str, *arguments: str) -> Outcome:
        found = subprocess.run(
            [PYTHON, "-I", "-B", str(ACTS), name, *arguments],
            capture_output=True,
            check=True,
            timeout=WITHIN_S,
        )
        return Outcome(**json.loads(found.stdout))

    return run


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may read and write, with one file."""
    with tempfile.TemporaryDirectory(prefix="dativo-test-") as name:
        path = Path(name)
        path.chmod(0o777)
        (path / "file").write_text("content")
        (path / "file").chmod(0o666)
        yield path
