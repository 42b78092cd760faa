"""A source that works, and meanwhile sends its secret out, writes elsewhere, looks around and stays: each act is refused.

The same program is asked outside of any walls too, where the same acts succeed: a test that cannot fail proves nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import ROOT, Workspace
from tests.integration.test_secrets import SECRET, PublicFiles, hunt

OTHER = f"another-secret-{uuid.uuid4()}"
GRANTED = "granted.test"
JOB = """\
pipeline: shady
source:
  connector: ./plugins/shady
  config: {config}
  grants: {{pids: 64, network: {network}}}
target:
  connector: iceberg
  config: {{warehouse: ./lake, namespace: shady}}
"""


class Listener:
    """Whoever would take what is sent: a TCP port, a UDP port of the same number, an abstract socket. Counts who came."""

    def __init__(self) -> None:
        self.abstract = f"dativo-shady-{uuid.uuid4()}"
        self.tcp = socket.create_server(("0.0.0.0", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("0.0.0.0", self.port))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind("\0" + self.abstract)
        self.unix.listen()

    def came(self) -> int:
        """How many of the three somebody has come to by now."""
        with selectors.DefaultSelector() as selector:
            for each in (self.tcp, self.udp, self.unix):
                selector.register(each, selectors.EVENT_READ)
            return len(selector.select(0))

    def close(self) -> None:
        for each in (self.tcp, self.udp, self.unix):
            each.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with contextlib.closing(Listener()) as found:
        yield found


@pytest.fixture
def victims(tmp_path: Path) -> Iterator[Path]:
    """Somebody's folder that everybody may read and write, below a path that everybody may walk."""
    folder = Path("/var/tmp") / f"dativo-shady-{uuid.uuid4()}"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "diary").write_text("mine")
    (folder / "diary").chmod(0o666)
    yield folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def config(listener: Listener, victims: Path, workspace: Workspace, **more: Any) -> dict[str, Any]:
    places = ["127.0.0.1", "evil.test", "192.0.2.1", "169.254.169.254"]
    files = [str(victims / "diary"), "/etc/passwd", str(workspace.folder / "job.yaml")]
    return {
        "places": [[place, listener.port] for place in places],
        "abstract": listener.abstract,
        "files": files,
        "folders": [str(victims), "/etc", "/usr/lib", str(workspace.home), str(workspace.lake)],
        **more,
    }


def job(workspace: Workspace, said: dict[str, Any], network: list[str]) -> None:
    workspace.plugin(ROOT / "tests/plugins/shady", "shady")
    text = json.dumps({**said, "token": {"secret": "env://SHADY_TOKEN"}})
    workspace.job(JOB.format(config=text, network=json.dumps(network)))
    workspace.env |= {"SHADY_TOKEN": SECRET, "OTHER_SECRET": OTHER}
    assert workspace.dativo("grants", "approve", "job.yaml").status == 0


REFUSED = {
    "datagram": {"ENETUNREACH"},
    "raw socket": {"EPERM", "EAFNOSUPPORT"},
    "abstract socket": {"ECONNREFUSED", "EPERM"},
    "init's memory": {"EACCES", "EPERM"},
    "trace init": {"EPERM", "ENOSYS"},
    "become root": {"EPERM", "EINVAL"},
    "a namespace": {"EPERM"},
    "mount": {"EPERM"},
    "type into the terminal": {"EPERM", "ENOTTY"},
    "run its own memory": {"EACCES", "EPERM"},
}
UNREACHED = {"ENETUNREACH", "ECONNREFUSED", "EACCES", "gaierror"}
ABSENT = {"ENOENT", "EACCES", "EROFS", "ENOTDIR"}


def check_acts(acts: dict[str, str], said: dict[str, Any]) -> None:
    for act, allowed in REFUSED.items():
        assert acts.pop(act) in allowed, act
    # Its own processes and pid 1 are all that it sees, and nothing of theirs names another's secret.
    assert acts.pop("others") == "1 others, 0 secrets"
    assert acts.pop("descriptors") == "0 written"
    assert acts.pop("daemonize") == "done"
    for place, _ in said["places"]:
        assert acts.pop(f"post {place}") in UNREACHED, place
    for path in said["files"]:
        # Below /tmp it may write: into its own, where nobody finds it (its real content is compared).
        allowed = ABSENT | ({"done"} if path.startswith("/tmp/") else set())
        assert acts.pop(f"write {path}") in allowed, path
        came = acts.pop(f"read {path}")
        assert came == ("done" if path == "/etc/passwd" else "ENOENT"), path  # a passwd of its own
    for folder in said["folders"]:
        assert acts.pop(f"plant {folder}") in ABSENT, folder
        came = acts.pop(f"list {folder}")
        assert came == ("done" if folder in ("/etc", "/usr/lib") else "ENOENT"), folder
    assert not acts


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("network", [[], [GRANTED]], ids=["no network", "another name"])
def test_each_act_is_refused_and_the_rows_land(
    workspace: Workspace, listener: Listener, victims: Path, network: list[str]
) -> None:
    said = config(listener, victims, workspace)
    job(workspace, said, network)
    public, asked = PublicFiles(), (workspace.folder / "job.yaml").read_bytes()
    ran = workspace.run(timeout_s=120)
    assert ran.status == 0, ran.stderr
    assert workspace.count("shady.users", "count(DISTINCT id), min(id), max(id)") == (100, 0, 99)
    acts = workspace.count("shady.acts", "map_from_entries(list((act, came)))")
    check_acts(dict(acts), said)
    assert listener.came() == 0
    assert (workspace.folder / "job.yaml").read_bytes() == asked
    assert (victims / "diary").read_text() == "mine" and len(list(victims.iterdir())) == 1
    if network:
        told = ran.report["network"]
        assert "evil.test" in json.dumps(told)
    # Its secret is nowhere.
    public.hunt()
    hunt((ran.stdout + ran.stderr).encode(), "output")
    for root in (workspace.folder, workspace.home):
        for path in root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                hunt(path.read_bytes(), str(path))


@pytest.mark.usefixtures("nothing_left")
def test_a_forged_state_at_the_end_takes_nothing_with_it(
    workspace: Workspace, listener: Listener, victims: Path
) -> None:
    job(workspace, config(listener, victims, workspace, forges=True), [])
    ran = workspace.run(timeout_s=120)
    assert ran.status == 7, ran.stderr
    assert "state.undeclared" in ran.stderr and "accounts" in ran.stderr
    assert ran.report["epoch"] == 0
    assert "accounts" not in workspace.dativo("state", "show", "job.yaml", *workspace.flags).stdout
    assert not any("accounts" in table for table in workspace.tables())


def test_outside_of_walls_the_same_acts_succeed(
    workspace: Workspace, listener: Listener, victims: Path
) -> None:
    said = config(listener, victims, workspace, token="x")
    said["places"] = said["places"][:1]
    said["files"] = said["files"][:1]
    said["folders"] = said["folders"][:1]
    (workspace.folder / "c.json").write_text(json.dumps(said))
    program = str(ROOT / "tests/plugins/shady/source.py")
    process = subprocess.Popen(
        [sys.executable, program, "read", "--config", str(workspace.folder / "c.json")],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={"OTHER_SECRET": OTHER},
        start_new_session=True,
    )
    assert process.stdout is not None
    acts: dict[str, str] = {}
    for line in process.stdout:
        message = json.loads(line)
        if message["type"] == "RECORD" and message["record"]["stream"] == "acts":
            acts[message["record"]["data"]["act"]] = message["record"]["data"]["came"]
            if "daemonize" in acts:
                break
    assert process.wait(timeout=30) == 0
    process.stdout.close()
    left = left_behind()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left
    done = {act for act, came in acts.items() if came == "done"}
    diary = victims / "diary"
    assert {
        "post 127.0.0.1",
        "datagram",
        "abstract socket",
        f"read {diary}",
        f"write {diary}",
    } <= done
    assert {f"plant {victims}", f"list {victims}"} <= done
    assert acts["others"] != "1 others, 0 secrets" and not acts["others"].endswith(" 0 secrets")
    assert listener.came() == 3
    assert diary.read_text() == "mineshady"


def left_behind() -> list[int]:
    """Processes of the source, whoever their parent is by now."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if b"plugins/shady/source.py" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found
