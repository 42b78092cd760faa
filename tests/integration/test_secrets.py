"""A secret in the config appears nowhere but in the source: a hunt over everything that is left or seen."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path

import pytest
from tests.integration.conftest import ROOT, Workspace, descendants

SECRET = "s3cr3t-of-forty-two-characters-äöü-/+=&?"
JOB = """\
pipeline: hunt
source:
  connector: ./plugins/{plugin}
  config: {{{config}, token: {{secret: "env://HUNT_TOKEN"}}}}
target:
  connector: iceberg
  config: {{warehouse: ./lake, namespace: hunt}}
"""


def forms() -> list[bytes]:
    raw = SECRET.encode()
    return [raw, base64.b64encode(raw), base64.urlsafe_b64encode(raw), raw.hex().encode()]


def hunt(where: bytes, place: str) -> None:
    for form in forms():
        assert form not in where, f"the secret is in {place}"


def hunt_processes(kernel: int) -> None:
    """Look through argv and environment of everything that the kernel started; the kernel itself was given the variable.

    Between vfork and execve a child shows the kernel's own memory: one that still has its argv is looked at the next time.
    """
    own = Path(f"/proc/{kernel}/cmdline").read_bytes()
    for pid in descendants(kernel):
        for name in ("cmdline", "environ"):
            try:
                found = Path(f"/proc/{pid}/{name}").read_bytes()
            except (PermissionError, ProcessLookupError, FileNotFoundError):
                continue  # an undumpable or ended process shows nothing to anybody
            if name == "cmdline" and found == own:
                break
            hunt(found, f"/proc/{pid}/{name}")


@pytest.mark.parametrize(
    ("plugin", "folder", "config", "status"),
    [
        (
            "resumable",
            "examples/plugins/resumable",
            "rows: 2000, state_every: 100, pause_s: 0.1",
            0,
        ),
        ("bad", "tests/plugins/bad", "mode: shows_secret", 4),
    ],
)
def test_hunt(workspace: Workspace, plugin: str, folder: str, config: str, status: int) -> None:
    workspace.plugin(ROOT / folder, plugin)
    workspace.job(JOB.format(plugin=plugin, config=config))
    workspace.env["HUNT_TOKEN"] = SECRET
    assert workspace.dativo("grants", "approve", "job.yaml").status == 0
    with workspace.start("run", "job.yaml", *workspace.flags) as kernel:
        while kernel.poll() is None:
            hunt_processes(kernel.pid)
            time.sleep(0.05)
        stdout, stderr = kernel.communicate()
    assert kernel.returncode == status, stderr
    hunt(stdout.encode(), "stdout")
    hunt(stderr.encode(), "stderr")
    for root in (workspace.folder, workspace.home):
        for path in root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                hunt(path.read_bytes(), str(path))
    shown = workspace.dativo("runs", "list", "--output", "json").stdout
    hunt(shown.encode(), "runs list")
    if status:
        assert "[secret]" in stderr


def test_private_files_are_private(workspace: Workspace) -> None:
    """Nothing below the state folder can be read by anybody else."""
    workspace.plugin(ROOT / "examples/plugins/resumable", "resumable")
    workspace.job(JOB.format(plugin="resumable", config="rows: 5"))
    workspace.env["HUNT_TOKEN"] = SECRET
    workspace.dativo("grants", "approve", "job.yaml")
    assert workspace.run().status == 0
    state = workspace.home / "dativo" / "state"
    for path in [state, *state.rglob("*")]:
        assert os.stat(path).st_mode & 0o077 == 0, path
