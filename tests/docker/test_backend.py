"""Docker Engine as the second back end: the walls attested and climbed, the image's wishes taken away, every end."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.docker.engine import Engine
from tests.docker.image import PYTHON, WISHES, python_image
from tests.sandbox.stub_broker import KNOWN, StubBroker

from dativo.sandbox import (
    Confined,
    Container,
    Grants,
    Identity,
    Limits,
    Network,
    PrivateFile,
    Program,
    StartFailed,
    WallMissing,
    Walls,
    allocate_identity,
)
from dativo.sandbox import launch as launch_confined
from dativo.sandbox.docker_body import container_body
from dativo.sandbox.docker_keeper import has_died, launcher_name
from dativo.sandbox.docker_launch import FOLDER

pytestmark = pytest.mark.docker
MIB = 1 << 20
WITHIN_S = 90.0
Launch = Callable[..., Confined]


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    """Import the image; return its id."""
    changes = [f"--change={wish}" for wish in WISHES]
    made = engine.docker("import", *changes, "-", stdin=python_image())
    return made.stdout.decode().strip()


@pytest.fixture
def identity() -> Iterator[Identity]:
    with allocate_identity() as lease:
        yield lease.identity


def in_docker(program: Program, grants: Grants, **options: Any) -> Confined:
    handed = dict.fromkeys(("stdin", "stdout", "control"))
    return launch_confined(program, grants, walls=Walls(), run="test", **{**handed, **options})


def left(launcher: str) -> bool:
    """Whether a folder of that launcher should not be there; others may be at work on this machine."""
    return launcher == launcher_name(os.getpid()) or has_died(launcher)


@pytest.fixture
def launch(engine: Engine, image: str, identity: Identity) -> Iterator[Launch]:
    """Start code of Python's in the image; afterwards nothing of it is left."""
    before = set(engine.docker("volume", "ls", "-q").stdout.split())
    started: list[Confined] = []

    def start(code: str, *arguments: str, **options: Any) -> Confined:
        program = Program(
            "probe", (PYTHON, "-I", "-c", code, *arguments), files=options.pop("files", ())
        )
        container = Container(options.pop("image", image), engine.folder / "docker.sock")
        confined = in_docker(
            replace(options.pop("program", program), container=container),
            options.pop("grants", Grants()),
            identity=options.pop("identity", identity),
            **options,
        )
        started.append(confined)
        return confined

    yield start
    for confined in started:
        confined.close()
    assert engine.docker("ps", "-aq").stdout == b""
    assert set(engine.docker("volume", "ls", "-q").stdout.split()) == before
    assert [name for name in os.listdir(FOLDER) if left(name.rpartition(".")[0])] == []


def read(confined: Confined) -> str:
    with os.fdopen(os.dup(confined.stdout), "rb") as stdout:
        return stdout.read().decode()


def running(engine: Engine) -> str:
    """Return the one container, once the engine says that it runs: its first process is there earlier."""
    deadline = time.monotonic() + WITHIN_S
    while not (listed := engine.docker("ps", "-q").stdout.decode().split()):
        assert time.monotonic() < deadline
    [container] = listed
    return container


def test_the_walls_are_attested(launch: Launch, identity: Identity) -> None:
    confined = launch(
        "import os; print(os.getuid(), os.getgid(), set(os.getgroups()) - {os.getgid()})"
    )
    found = confined.attestation
    assert (found.uid, found.gid) == (identity.uid, identity.gid)
    assert found.network == "empty" and found.cgroup in ("v1", "v2")
    # One namespace is not its own here, and only this one.
    shared = [
        name
        for name, number in found.namespaces
        if number == Path(f"/proc/self/ns/{name}").stat().st_ino
    ]
    assert shared == ["user"]
    assert read(confined) == f"{identity.uid} {identity.gid} set()\n"
    assert confined.wait(WITHIN_S).succeeded


def test_nothing_of_the_engine_lies_between(launch: Launch, engine: Engine) -> None:
    """Streams are the caller's own descriptors, and the engine's log has nothing."""
    stdin_out, stdin_in = os.pipe()
    stdout_out, stdout_in = os.pipe()
    code = """\
import os, sys
os.write(1, os.readlink("/proc/self/fd/0").encode() + b" " + os.read(0, 99))
sys.stderr.write("told\\n")
"""
    confined = launch(code, stdin=stdin_out, stdout=stdout_in)
    os.close(stdin_out)
    os.close(stdout_in)
    container = running(engine)
    driver = engine.docker("inspect", "-f", "{{.HostConfig.LogConfig.Type}}", container)
    assert driver.stdout == b"none\n"
    inode = os.fstat(stdin_in).st_ino
    os.write(stdin_in, b"records")
    os.close(stdin_in)
    assert os.read(stdout_out, 999) == f"pipe:[{inode}] records".encode()
    assert os.read(stdout_out, 1) == b""
    os.close(stdout_out)
    assert confined.wait(WITHIN_S).succeeded
    assert confined.stderr_tail() == b"told\n"
    assert "docker" not in sys.modules


def test_what_the_image_wishes(launch: Launch, engine: Engine) -> None:
    code = """\
import os, sys
found = os.statvfs("/data")
open("/data/written", "w").close()
print(sorted(os.environ), os.getcwd(), found.f_blocks * found.f_frsize)
sys.stdin.read()
"""
    stdin_out, stdin_in = os.pipe()
    confined = launch(code, stdin=stdin_out, grants=Grants(limits=Limits(tmp_bytes=8 * MIB)))
    os.close(stdin_out)
    container = running(engine)
    shown = (
        "{{json .Config.Labels}} {{.Config.Healthcheck.Test}} {{json .State.Health}} "
        "{{range .Mounts}}{{.Type}}:{{.Destination}} {{end}}"
    )
    said = engine.docker("inspect", "-f", shown, container).stdout.decode()
    assert '"com.example.steer":""' in said
    assert "[NONE] null" in said or "[NONE] <nil>" in said
    assert "tmpfs:/data" in said and "volume:" not in said
    os.close(stdin_in)
    assert read(confined) == f"['HOME', 'LANG', 'PATH', 'TMPDIR'] /tmp {8 * MIB}\n"


# Each line of Python must fail with the errno that stands before it.
CLIMBS = [
    ("EPERM", "import socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)"),
    ("EPERM", "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW)"),
    ("EPERM", "libc.unshare(0x10000000)"),
    ("EPERM", "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)"),
    ("EPERM", "libc.ptrace(16, 1, 0, 0)"),
    ("EPERM", "libc.fcntl(1, 1031, 4096)"),
    ("EPERM", "import os; os.memfd_create('x', 0)"),
    ("EPERM", "import os; os.chmod(os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 0o4755)"),
    ("EROFS", "libc.mkdir(b'/usr/x', 0o755)"),
    ("EROFS", "open('/proc/sys/kernel/core_pattern', 'w')"),
    ("EACCES", "open('/proc/1/environ')"),
    ("EACCES", "import os, shutil; os.chmod(shutil.copy('/bin/sh', '/tmp/sh'), 0o755); os.execv('/tmp/sh', ['sh'])"),
    ("EACCES", "import os, shutil; os.chmod(shutil.copy('/bin/sh', '/data/sh'), 0o755); os.execv('/data/sh', ['sh'])"),
    ("EACCES", "import socket; socket.create_connection(('127.0.0.1', 1), 5)"),
    ("ENETUNREACH", "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))"),
    ("ENOENT", "open('/run/docker.sock')"),
    ("ENOENT", "open('/sys/kernel')"),
]  # fmt: skip
CLIMB = """\
import ctypes, errno, sys
class Libc:
    def __getattr__(self, name):
        call = getattr(ctypes.CDLL(None, use_errno=True), name)
        def checked(*arguments):
            if call(*arguments) == -1:
                raise OSError(ctypes.get_errno(), name)
        return checked
for number, line in enumerate(sys.argv[1:]):
    try:
        exec(line, {"libc": Libc()})
    except OSError as error:
        print(number, errno.errorcode[error.errno])
    else:
        print(number, "done")
"""


def test_the_walls_are_climbed(launch: Launch) -> None:
    confined = launch(CLIMB, *(line for _, line in CLIMBS))
    found = [line.split()[1] for line in read(confined).splitlines()]
    assert confined.wait(WITHIN_S).succeeded
    wrong = [
        (line, wanted, got)
        for (wanted, line), got in zip(CLIMBS, found, strict=True)
        if wanted != got
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("weaker", "wall"),
    [
        ({"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]}, "seccomp: number of filters is 1, not 2"),
        ({"CapDrop": [], "CapAdd": ["SYS_ADMIN"]}, "capabilities: "),
        ({"NetworkMode": "host"}, "the net namespace is the launcher's own"),
        ({"PidMode": "host"}, "namespaces: "),
        ({"IpcMode": "host"}, "the ipc namespace is the launcher's own"),
        ({"CgroupnsMode": "host"}, "the cgroup namespace is the launcher's own"),
        ({"UTSMode": "host"}, "the uts namespace is the launcher's own"),
        ({"User": "0:0"}, "docker: the container ended with status 125"),
        ({"Entrypoint": [PYTHON]}, "docker: the container ended with status"),
    ],
    ids=["seccomp", "capabilities", "network", "pid", "ipc", "cgroup", "uts", "user", "entry point"],
)  # fmt: skip
def test_a_wall_that_the_engine_leaves_out_is_found_missing(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, weaker: dict[str, Any], wall: str
) -> None:
    def body(*arguments: Any, **options: Any) -> dict[str, Any]:
        asked = container_body(*arguments, **options)
        for name, value in weaker.items():
            (asked if name in asked else asked["HostConfig"])[name] = value
        if "UTSMode" in weaker or "NetworkMode" in weaker:
            del asked["Hostname"]
        if "NetworkMode" in weaker:
            del asked["NetworkDisabled"]
        return asked

    monkeypatch.setattr("dativo.sandbox.docker_launch.container_body", body)
    with pytest.raises(WallMissing) as caught:
        launch("pass")
    assert wall in caught.value.message


def test_grants_are_seen_where_they_lie(launch: Launch, identity: Identity, tmp_path: Path) -> None:
    readable, writable = tmp_path / "in", tmp_path / "out"
    for folder in (readable, writable):
        folder.mkdir()
        os.chown(folder, identity.uid, identity.gid)
    (readable / "file").write_text("given")
    code = f"""\
print(open("{readable}/file").read(), open("/tmp/key").read())
open("{writable}/made", "w").write("back")
try:
    open("{readable}/file", "w")
except OSError as error:
    print(error.errno)
"""
    grants = Grants(read=(readable,), write=(writable,), environment=(("A", "1"),))
    confined = launch(code, grants=grants, files=(PrivateFile("/tmp/key", b"secret"),))
    assert read(confined) == "given secret\n30\n"
    assert confined.wait(WITHIN_S).succeeded
    assert (writable / "made").read_text() == "back"


def test_a_folder_for_another_and_a_program_that_is_granted(
    launch: Launch, identity: Identity, tmp_path: Path
) -> None:
    shared, tool = tmp_path / "shared", tmp_path / "tool"
    shared.mkdir()
    os.chown(shared, identity.uid, identity.gid)
    for path in (tool, tmp_path / "other"):
        path.write_text("#!/bin/sh\necho run\n")
        path.chmod(0o755)
    code = f"""\
import os, subprocess
open("/exchange/made", "w").write("for you")
for act in (lambda: os.symlink("/etc", "/exchange/link"), lambda: subprocess.run(["{tmp_path}/other"])):
    try:
        act()
    except OSError as error:
        print(error.errno, flush=True)
subprocess.run(["{tool}"], check=True)
"""
    grants = Grants(exchange=((shared, "/exchange"),), read=(tmp_path / "other",), execute=(tool,))
    confined = launch(code, grants=grants)
    assert read(confined) == "13\n13\nrun\n"
    assert confined.wait(WITHIN_S).succeeded
    assert (shared / "made").read_text() == "for you"


NETWORK = """\
import errno, socket
def told(what, *arguments):
    try:
        print(what(*arguments))
    except OSError as error:
        print(errno.errorcode.get(error.errno) or "no name")
def talk(host, port):
    with socket.create_connection((host, port), 10) as connection:
        return connection.recv(99).decode().strip()
told(talk, "db.internal", 443)
told(talk, "evil.test", 443)
told(talk, "db.internal", 80)
told(talk, "10.20.3.4", 443)
told(talk, "192.0.2.1", 443)
told(socket.create_server, ("127.0.0.1", 9999))
"""


def test_a_network_is_served_by_a_broker(launch: Launch) -> None:
    network = Network(((443, 443),), ("10.20.0.0/16",))
    with closing(StubBroker()) as broker:
        confined = launch(
            NETWORK,
            grants=Grants(network=network),
            sockets=broker.far.fileno(),
            client="source",
        )
        broker.serve()
        assert confined.attestation.network == "named"
        assert read(confined).splitlines() == [
            f"{KNOWN['db.internal']} 443", "no name", "EACCES", "10.20.3.4 443", "ENETUNREACH", "EACCES"
        ]  # fmt: skip
        assert broker.messages[0]["client"] == "source"


def test_an_own_loopback(launch: Launch) -> None:
    code = """\
import socket
with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 10):
    print("heard")
"""
    confined = launch(code, grants=Grants(network=Network(loopback=True)))
    assert (read(confined), confined.attestation.network) == ("heard\n", "empty")


@pytest.mark.parametrize(
    ("code", "code_or_signal", "cause"),
    [
        ("raise SystemExit(7)", 7, "exited"),
        ("import os; os.kill(os.getpid(), 6)", -6, "signaled"),
        ("x = bytearray(200 << 20)", None, "memory"),
        (
            "import signal; signal.signal(25, signal.SIG_DFL); open('/tmp/x', 'wb').write(bytes(3 << 20))",
            -25,
            "file_size",
        ),
        ("import time; time.sleep(600)", None, "wall_time"),
    ],
    ids=["status", "signal", "memory", "file_size", "wall_time"],
)
def test_ends(launch: Launch, code: str, code_or_signal: int | None, cause: str) -> None:
    limits = Limits(
        memory_bytes=64 * MIB,
        file_bytes=2 * MIB,
        wall_time_s=5 if cause == "wall_time" else None,
    )
    end = launch(code, grants=Grants(limits=limits)).wait(WITHIN_S)
    assert end.cause == cause, end
    if code_or_signal is not None:
        assert (end.code, end.signal) == ((code_or_signal, None) if code_or_signal > 0 else (None, -code_or_signal))  # fmt: skip


def test_a_signal_reaches_the_program(launch: Launch) -> None:
    code = "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(9))\nprint('ready', flush=True)\nsignal.pause()"
    confined = launch(code)
    assert os.read(confined.stdout, 99) == b"ready\n"
    assert confined.terminate(WITHIN_S).code == 9


def test_forks_are_bounded(launch: Launch) -> None:
    code = """\
import os, signal
made = 0
try:
    while made < 99:
        if os.fork() == 0:
            signal.pause()
        made += 1
except OSError as error:
    print(made, error.errno, flush=True)
os.kill(0, 9)
"""
    confined = launch(code, grants=Grants(limits=Limits(pids=16)))
    assert confined.wait(WITHIN_S).cause == "signaled"
    made, errno = read(confined).split()
    assert int(made) < 16 and errno == "11"


LAUNCHER = """\
import os, sys, time
from pathlib import Path
from dativo.sandbox import Container, Grants, Program, Walls, allocate_identity, launch
with allocate_identity() as lease:
    container = Container(sys.argv[2], Path(sys.argv[3]))
    program = Program("left", (sys.argv[1], "-I", "-c", "import time; time.sleep(600)"), container=container)
    confined = launch(
        program, Grants(), identity=lease.identity, walls=Walls(), stdin=None, stdout=None, control=None, run="test"
    )
    print(confined.pid, confined._handles.monitor, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("keeper_too", [False, True], ids=["launcher", "launcher-and-keeper"])
def test_nothing_outlives_its_launcher(
    engine: Engine, image: str, launch: Launch, keeper_too: bool
) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, PYTHON, image, str(engine.folder / "docker.sock")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert launcher.stdout is not None
    pid, keeper = map(int, launcher.stdout.readline().split())
    process = os.pidfd_open(pid)
    if keeper_too:
        os.kill(keeper, signal.SIGKILL)
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    poll = select.poll()
    poll.register(process, select.POLLIN)
    assert poll.poll(WITHIN_S * 1000)
    os.close(process)
    if keeper_too:
        # What is left is dead, and the next launch clears it.
        assert len(engine.docker("ps", "-aq").stdout.split()) == 1
        assert launch("pass").wait(WITHIN_S).succeeded
    deadline = time.monotonic() + WITHIN_S
    while engine.docker("ps", "-aq").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    launch("pass").wait(WITHIN_S)  # clears the folder of the one that died


def test_what_cannot_be_started_is_told(launch: Launch, engine: Engine, image: str) -> None:
    with pytest.raises(StartFailed, match="No such file"):
        launch("", program=Program("none", ("/nonexistent",)))
    with pytest.raises(WallMissing, match=r"docker: .*the engine has no image sha256:0"):
        launch("", image="sha256:" + 64 * "0")
    with pytest.raises(WallMissing, match="identity"):
        launch("", identity=Identity(0, 0))
    with pytest.raises(
        WallMissing, match="the launcher's own network, which this back end has not"
    ):
        launch("", grants=Grants(host_network=True))


def test_an_engine_that_is_none(image: str, identity: Identity, tmp_path: Path) -> None:
    container = Container(image, tmp_path / "docker.sock")
    program = Program("none", (PYTHON,), container=container)
    with pytest.raises(WallMissing) as caught:
        in_docker(program, Grants(), identity=identity)
    assert caught.value.wall == "docker"
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(str(tmp_path / "docker.sock"))
    silent.listen(1)
    with silent, pytest.raises(WallMissing, match="not there in time"):
        in_docker(program, Grants(), identity=identity, attest_timeout_s=1)
