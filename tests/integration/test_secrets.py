"""A secret in the config appears nowhere but in the source: a hunt over everything that is left or seen."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
import tempfile
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.conftest import ROOT, Workspace, descendants

SECRET = f's3cr3t-äöü-/+=&?-"{uuid.uuid4()}'
PUBLIC = tuple(map(Path, ("/tmp", "/var/tmp", "/run", "/dev/shm", "/var/lib/dativo")))
"""Where somebody else could look for what a run has left."""
MOST_BYTES = 8 << 20
DEADLINE_S = 120.0
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
    """The secret as it is, and as base64, hexadecimal digits, JSON and percent encoding write it."""
    raw = SECRET.encode()
    texts = [json.dumps(SECRET), json.dumps(SECRET, ensure_ascii=False)]
    texts = [text[1:-1] for text in texts]
    texts += [text.replace("/", "\\/") for text in texts]
    texts += [urllib.parse.quote(SECRET), urllib.parse.quote(SECRET, safe="")]
    texts += [urllib.parse.quote_plus(SECRET), urllib.parse.quote(SECRET, safe="").lower()]
    encoded = [base64.b64encode(raw), base64.urlsafe_b64encode(raw), raw.hex().encode()]
    return list(dict.fromkeys([raw, *encoded, *(text.encode() for text in texts)]))


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


class PublicFiles:
    """Files that anybody may read, in places that anybody may look into, which were not there when the hunt began.

    Files are told apart by their change time. Of /tmp and /var/tmp only what is new at the top is looked through: other work of
    the machine keeps whole trees there.
    """

    def __init__(self) -> None:
        self.since_ns = time.time_ns() - 10**9  # file times are those of a coarser clock
        self.old = {path for place in PUBLIC[:2] if place.is_dir() for path in place.iterdir()}

    def __iter__(self) -> Iterator[Path]:
        todo = [place for place in PUBLIC if place.is_dir()]
        while todo:
            folder = todo.pop()
            try:
                entries = list(os.scandir(folder))
            except OSError:
                continue  # gone, or closed to this user
            for entry in entries:
                if (path := Path(entry.path)) in self.old:
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # gone
                if stat.S_ISDIR(found.st_mode) and found.st_mode & 0o001:
                    todo.append(path)
                elif (
                    stat.S_ISREG(found.st_mode)
                    and found.st_mode & 0o004
                    and found.st_ctime_ns >= self.since_ns
                ):
                    yield path

    def hunt(self) -> None:
        for path in self:
            try:
                with path.open("rb") as file:
                    content = file.read(MOST_BYTES)
            except OSError:
                continue  # gone
            hunt(content, str(path))


@pytest.mark.parametrize("form", range(len(forms())))
def test_the_hunt_finds_what_is_there(form: int, tmp_path: Path) -> None:
    """In a public file below /tmp, in every form; what only its owner may read is no business of this part of the hunt."""
    public = PublicFiles()
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder.chmod(0o755)
        (folder / "open").write_bytes(b"x" * 100 + forms()[form])
        (folder / "open").chmod(0o600)
        public.hunt()
        (folder / "open").chmod(0o644)
        with pytest.raises(AssertionError, match=f"{folder}/open"):
            public.hunt()
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("verb", ["run", "read"])
@pytest.mark.parametrize(
    ("plugin", "folder", "config", "status"),
    [
        (
            "resumable",
            "examples/plugins/resumable",
            {"rows": 2000, "state_every": 100, "pause_s": 0.1},
            0,
        ),
        ("bad", "tests/plugins/bad", {"mode": "shows_secret"}, 4),
    ],
)
def test_hunt(
    workspace: Workspace,
    plugin: str,
    folder: str,
    config: dict[str, object],
    status: int,
    verb: str,
) -> None:
    workspace.plugin(ROOT / folder, plugin)
    workspace.env["HUNT_TOKEN"] = SECRET
    if verb == "run":
        workspace.job(JOB.format(plugin=plugin, config=json.dumps(config)[1:-1]))
        assert workspace.dativo("grants", "approve", "job.yaml").status == 0
        command = ["run", "job.yaml"]
    else:
        said = {**config, "token": {"secret": "env://HUNT_TOKEN"}}
        (workspace.folder / "config.json").write_text(json.dumps(said))
        command = ["read", f"./plugins/{plugin}", "--config", "config.json"]
    public, deadline = PublicFiles(), time.monotonic() + DEADLINE_S
    told = [workspace.folder / name for name in ("stdout", "stderr")]
    with (
        told[0].open("wb") as out,
        told[1].open("wb") as err,
        workspace.start(*command, *workspace.flags, stdout=out, stderr=err) as kernel,
    ):
        while kernel.poll() is None:
            if time.monotonic() > deadline:
                kernel.kill()
            hunt_processes(kernel.pid)
            public.hunt()
            time.sleep(0.1)
    stdout, stderr = (path.read_text() for path in told)
    assert kernel.returncode == status, stderr
    public.hunt()
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every process")
def test_nobody_looks_into_the_kernel(workspace: Workspace) -> None:
    """A program of this user that stands behind no walls; the kernel holds secrets."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = ("jail", *workspace.flags, "--", "/usr/bin/cat")
    with workspace.start(*command, **streams) as kernel:
        assert kernel.stdin is not None and kernel.stdout is not None
        kernel.stdin.write("under way\n")
        kernel.stdin.flush()
        assert kernel.stdout.readline() == "under way\n"
        for name in ("environ", "mem", "maps"):
            with pytest.raises(PermissionError):
                Path(f"/proc/{kernel.pid}/{name}").open("rb").close()
        with pytest.raises(PermissionError):
            os.listdir(f"/proc/{kernel.pid}/fd")
        kernel.stdin.close()
        kernel.stdin = None
        assert kernel.wait(DEADLINE_S) == 0
