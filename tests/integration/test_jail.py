"""``dativo jail`` as a shell user meets it: streams, signals, statuses, and what a jailed command tries against them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.conftest import DATIVO, Result, Workspace
from tests.integration.outside import audit

PREFIX = str(Path(sys.base_prefix))
PYTHON = str(Path(sys.executable).resolve())
CODE = ("--ro", PREFIX, "--", PYTHON, "-I", "-B", "-c")
WITHIN_S = 60.0
MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("nothing_left")


def as_in_the_foreground() -> None:
    """Undo what a shell does to the background: these tests may be run there, and what is ignored stays ignored."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Jail:
    """Starts jails in one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def start(self, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
        given = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "preexec_fn": as_in_the_foreground,
        }
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [str(DATIVO), "jail", *self.workspace.flags, *arguments],
            cwd=self.workspace.folder,
            env=self.workspace.environment(),
            **{**given, **options},  # type: ignore[call-overload]
        )
        return process

    def __call__(self, *arguments: str, input: bytes = b"", **options: object) -> Result:
        process = self.start(*arguments, **{"stdin": subprocess.PIPE, **options})
        stdout, stderr = self.talk(process, input)
        return Result(process.returncode, stdout.decode(), stderr.decode())

    @staticmethod
    def talk(process: subprocess.Popen[bytes], input: bytes = b"") -> tuple[bytes, bytes]:
        try:
            out, err = process.communicate(input or None, timeout=WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return out or b"", err or b""


@pytest.fixture
def jail(workspace: Workspace) -> Jail:
    return Jail(workspace)


@pytest.fixture
def writable(workspace: Workspace) -> Iterator[Path]:
    """A folder below the workspace that everybody may write, so that the own uid of a jail under root can."""
    folder = workspace.folder / "out"
    folder.mkdir()
    yield folder
    opened(folder)


def opened(folder: Path) -> Path:
    """Let everybody write all that is in a folder now."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o777)
    return folder


def lines_until(process: subprocess.Popen[bytes], wanted: bytes) -> bytes:
    assert process.stdout is not None
    found = b""
    deadline = time.monotonic() + WITHIN_S
    while wanted not in found:
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"no {wanted!r} in {found!r}"
        found += (part := os.read(process.stdout.fileno(), 65536))
        assert part, f"end of {found!r} before {wanted!r}"
    return found


# --- statuses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "arguments", "told"),
    [
        (0, ("--", "true"), ""),
        (0, ("true",), ""),
        (7, ("--", "sh", "-c", "exit 7"), ""),
        (137, ("--", "sh", "-c", "kill -KILL $$"), ""),
        (143, ("--", "sh", "-c", "kill -TERM $$"), ""),
        (134, ("--", "sh", "-c", "kill -ABRT $$"), ""),
        (127, ("--", "no-such-command"), "no such command in /usr/bin:/bin"),
        (127, ("--", "/no/such/command"), "No such file"),
        (127, ("--", "./true"), "No such file"),
        (126, ("--", "/etc/passwd"), "Permission denied"),
        (126, ("--", "/usr"), "Permission denied"),
        (125, ("--net", "https://example.com", "--", "true"), "Write example.com"),
        (125, ("--frobnicate", "--", "true"), "--frobnicate"),
        (125, (), "COMMAND"),
        (125, ("--memory", "lots", "--", "true"), "512MiB"),
        (125, ("--ro", "/no/such/folder", "--", "true"), "/no/such/folder"),
        (125, ("--rw", "/proc", "--", "true"), "/proc"),
        (125, ("--cwd", "/no/such/folder", "--", "true"), "cannot enter /no/such/folder"),
        (125, ("--env", "DATIVO_NOT_SET_HERE", "--", "true"), "is not set here"),
        (125, ("--env", "=1", "--", "true"), "needs a name"),
        (125, ("--time", "1s", "--", "sleep", "60"), "longer than 1 s"),
        (
            125,
            ("--memory", "64MiB", *CODE, "x = bytearray(300_000_000)"),
            "needed more than 67108864 bytes",
        ),
    ],
)
def test_status(jail: Jail, status: int, arguments: tuple[str, ...], told: str) -> None:
    found = jail(*arguments)
    assert (found.status, found.stdout) == (status, ""), found.stderr
    assert told in found.stderr
    assert bool(found.stderr) == bool(told)
    assert "Traceback" not in found.stderr


def test_each_is_on_record(jail: Jail) -> None:
    assert (
        jail("--env", "TOKEN=sesame", "--memory", "100MiB", *CODE, "import sys; sys.exit(7)").status
        == 7
    )
    assert jail("--", "/nowhere/at/all").status == 127
    started, failed = audit(jail.workspace, "jail_started")
    plan = started["plan"]
    assert (plan["program"], plan["arguments"], plan["read"]) == (PYTHON, 4, [PREFIX])
    assert (plan["environment"], plan["network"], plan["write"]) == (["TOKEN"], [], [])
    assert plan["limits"]["memory_bytes"] == 100 * MIB
    assert plan["walls"] == {"cgroup": "degraded" if jail.workspace.flags else "required"}
    ends = {each["run"]: each for each in audit(jail.workspace, "jail_ended")}
    assert (ends[started["run"]]["status"], ends[started["run"]]["error"]) == (7, None)
    pump, command = ends[started["run"]]["processes"]
    assert (pump["name"], command["name"], command["ended"]) == ("pump", "jail", "exit 7")
    assert {"no network", "seccomp"} < set(command["walls"])
    assert ends[failed["run"]]["status"] == 127
    assert "/nowhere/at/all" in ends[failed["run"]]["error"]
    kept = (jail.workspace.home / "dativo/state/audit.jsonl").read_text()
    # What a command line holds besides its program may be a secret.
    assert "sesame" not in kept
    assert "sys.exit" not in kept


def test_what_cannot_be_recorded_does_not_begin(jail: Jail) -> None:
    kept = jail.workspace.home / "dativo/state/audit.jsonl"
    kept.mkdir(parents=True)
    ran = jail("--", "/usr/bin/echo", "begun")
    assert (ran.status, ran.stdout) == (125, "")
    assert "cannot write the audit" in ran.stderr


def test_help_is_no_failure(jail: Jail) -> None:
    found = jail("--help")
    assert found.status == 0
    assert "--rw PATH" in found.stdout
    assert "--net GRANT" in found.stdout


def test_refused_processes_are_told(jail: Jail) -> None:
    code = "import subprocess as s\ntry:\n  [s.Popen(['sleep', '9']) for _ in range(60)]\nexcept OSError: raise SystemExit(3)"
    found = jail("--pids", "20", *CODE, code)
    assert found.status in (3, 125)  # a watchdog ends the tree where no cgroup refuses the forks
    if found.status == 3 and not jail.workspace.flags:
        assert "forks at 20 processes" in found.stderr


# --- what is inside ------------------------------------------------------------------------------------------------


def test_nothing_is_given_by_default(jail: Jail) -> None:
    jail.workspace.env["SECRET_TOKEN"] = "sesame-opens-it"
    script = "env; cat /proc/1/environ /proc/self/environ; ls -A /; ls -A /tmp /home; pwd; id -u"
    found = jail("--", "sh", "-c", script)
    assert "sesame" not in found.stdout
    assert "dativo" not in found.stdout.replace(".dativo", "")
    assert str(jail.workspace.folder) not in found.stdout
    assert found.stdout.splitlines()[-2] == "/tmp"
    assert found.stdout.splitlines()[-1] != "0"


def test_environment_is_what_is_said(jail: Jail) -> None:
    jail.workspace.env["PASSED"] = "on"
    found = jail("--env", "PASSED", "--env", "A=b=c", "--env", "LANG=C", "--", "env")
    variables = dict(line.split("=", 1) for line in found.stdout.splitlines())
    path = "/usr/bin:/bin"
    assert variables == {
        "PASSED": "on",
        "A": "b=c",
        "LANG": "C",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "PATH": path,
    }


def test_paths_and_working_folder(jail: Jail, writable: Path) -> None:
    tools = jail.workspace.folder / "tools"
    tools.mkdir(mode=0o755)
    tool = tools / "greet"
    tool.write_text("#!/bin/sh\npwd\necho hello > /dev/null && touch made\n")
    tool.chmod(0o755)
    opened(writable)
    # In a folder that is not granted the working folder is /tmp; program files are found in granted folders.
    assert jail("--ro", "tools", "--", "greet").stdout == "/tmp\n"
    assert jail("--ro", "tools", "--", str(tool)).stdout == "/tmp\n"
    found = jail("--ro", "tools", "--rw", "out", "--cwd", "out", "--", "greet")
    assert (found.status, found.stdout) == (0, f"{writable}\n")
    assert (writable / "made").exists()
    here = Jail(Workspace(writable, jail.workspace.home, flags=jail.workspace.flags))
    assert here("--rw", ".", "--", "pwd").stdout == f"{writable}\n"
    # What can be written is not executed, what can be executed is not written.
    (writable / "tool").write_bytes(tool.read_bytes())
    opened(writable)
    if has_landlock():
        assert here("--rw", ".", "--", "./tool").status == 126
    assert "Read-only" in jail("--ro", "tools", "--", "touch", str(tools / "x")).stderr


def has_landlock() -> bool:
    found = subprocess.run([DATIVO, "doctor"], capture_output=True, text=True, check=False)
    return "up        landlock" in found.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_root_writes_as_the_owner_or_not_at_all(jail: Jail) -> None:
    folder = jail.workspace.folder / "theirs"
    folder.mkdir(mode=0o755)
    found = jail("--rw", "theirs", "--", "true")
    assert found.status == 125
    assert "chown" in found.stderr
    os.chown(folder, 12345, 12346)
    found = jail("--rw", "theirs", "--", "sh", "-c", f"id -u; id -g; touch {folder}/x")
    assert (found.status, found.stdout) == (0, "12345\n12346\n")
    assert (folder / "x").stat().st_uid == 12345


# --- streams -------------------------------------------------------------------------------------------------------


def test_streams_pass_through(jail: Jail) -> None:
    found = jail(
        "--",
        "sh",
        "-c",
        "cat; echo wrong >&2",
        input=b"\x00right\xff\x1b[1m\r\n".replace(b"\xff", b""),
    )
    assert found.stdout == "\x00right\x1b[1m\r\n"
    assert found.stderr == "wrong\n"


def test_end_of_input_arrives(jail: Jail) -> None:
    assert jail("--", "wc", "-c", input=b"").stdout.strip() == "0"
    assert jail("--", "wc", "-c", input=b"x" * 1_000_000).stdout.strip() == "1000000"


def test_much_both_ways_at_once(jail: Jail) -> None:
    data = os.urandom(MIB) * 48
    process = jail.start("--", "sh", "-c", "cat; cat /dev/null >&2", stdin=subprocess.PIPE)
    out, err = jail.talk(process, data)
    assert process.returncode == 0, err
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()


def test_all_three_at_once(jail: Jail) -> None:
    script = "head -c 20000000 /dev/zero & head -c 20000000 /dev/zero >&2 & wc -c >/dev/null; wait"
    process = jail.start("--", "sh", "-c", script, stdin=subprocess.PIPE)
    out, err = jail.talk(process, b"y" * 20_000_000)
    assert (process.returncode, len(out), len(err)) == (0, 20_000_000, 20_000_000)


def test_a_command_that_reads_nothing_ends(jail: Jail) -> None:
    process = jail.start("--", "true", stdin=subprocess.PIPE)
    jail.talk(process, b"z" * 10_000_000)
    assert process.returncode == 0


def test_an_idle_input_keeps_nobody(jail: Jail) -> None:
    out, into = os.pipe()  # nobody writes, nobody closes
    try:
        process = jail.start("--", "echo", "done", stdin=out)
        assert jail.talk(process)[0] == b"done\n"
    finally:
        os.close(out)
        os.close(into)


def test_a_closed_input_reaches_the_writer(jail: Jail) -> None:
    process = jail.start("--", "sh", "-c", "exec <&-; echo closed; sleep 30", stdin=subprocess.PIPE)
    assert process.stdin is not None
    lines_until(process, b"closed")
    deadline = time.monotonic() + WITHIN_S
    with pytest.raises(BrokenPipeError):
        while time.monotonic() < deadline:
            os.write(process.stdin.fileno(), b"more")
            time.sleep(0.01)
    process.terminate()
    process.stdin.close()
    process.stdin = None
    jail.talk(process)


def test_a_reader_that_leaves_ends_the_command(jail: Jail) -> None:
    process = jail.start("--", "yes")
    assert process.stdout is not None
    lines_until(process, b"y\n")
    process.stdout.close()
    process.stdout = None
    jail.talk(process)
    assert process.returncode == 128 + signal.SIGPIPE


def test_closed_streams(jail: Jail) -> None:
    flags = " ".join(jail.workspace.flags)
    for closed, script, status in [
        ("<&-", "cat", 0),
        (">&-", "echo x", 0),
        ("2>&-", "echo x >&2", 0),
        ("<&- >&- 2>&-", "cat; exit 5", 5),
    ]:
        line = f"exec {DATIVO} jail {flags} -- sh -c '{script}' {closed}"
        found = subprocess.run(
            ["sh", "-c", line], env=jail.workspace.environment(), timeout=WITHIN_S, check=False
        )
        assert found.returncode == status, closed


def test_streams_that_fail_are_told(jail: Jail) -> None:
    with Path("/dev/full").open("wb") as full:
        process = jail.start("--", "sh", "-c", "echo x; sleep 1", stdout=full)
        assert b"No space left" in jail.talk(process)[1]
        assert process.returncode == 125
    ours, theirs = socket.socketpair()
    with ours:
        ours.send(b"unread")
        theirs.close()  # with something unread: a read at the other end fails (unix(7))
        process = jail.start("--", "cat", stdin=ours)
        assert b"stdin was cut" in jail.talk(process)[1]
        assert process.returncode == 125
    with Path(os.devnull).open("wb") as unreadable:  # as nohup(1) leaves it
        process = jail.start("--", "cat", stdin=unreadable)
        jail.talk(process)
        assert process.returncode == 0


def test_files_are_read_and_appended_to(jail: Jail) -> None:
    source, log = jail.workspace.folder / "source", jail.workspace.folder / "log"
    source.write_bytes(b"0123456789")
    log.write_bytes(b"before ")
    with source.open("rb") as given, log.open("ab") as appended:
        os.lseek(given.fileno(), 4, os.SEEK_SET)
        process = jail.start("--", "cat", stdin=given, stdout=appended)
        jail.talk(process)
    assert log.read_bytes() == b"before 456789"


def test_a_users_descriptor_is_left_as_it_is(jail: Jail) -> None:
    out, into = os.pipe()
    try:
        process = jail.start("--", "sh", "-c", "echo up; cat", stdin=subprocess.PIPE, stdout=into)
        assert os.read(out, 100) == b"up\n"
        assert process.stdin is not None
        for fd in (out, into, process.stdin.fileno()):
            assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK
        jail.talk(process)
        # One that is non-blocking already, full at first, is written all the same.
        os.set_blocking(into, False)
        process = jail.start("--", "head", "-c", "5000000", "/dev/zero", stdout=into)
        os.close(into)
        into = -1
        left = 5_000_000
        while left and (part := os.read(out, 65536)):
            left -= len(part)
        assert left == 0
        assert process.wait(WITHIN_S) == 0
        jail.talk(process)
    finally:
        os.close(out)
        if into >= 0:
            os.close(into)


# --- signals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2"])
def test_signals_are_passed_on(jail: Jail, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    script = f"trap 'echo got; exit 9' {name}; echo up; while :; do sleep 0.05; done"
    process = jail.start("--", "sh", "-c", script)
    lines_until(process, b"up\n")
    process.send_signal(number)
    out, _ = jail.talk(process)
    assert (process.returncode, out) == (9, b"got\n")
    process = jail.start("--", "sh", "-c", "echo up; exec sleep 60")
    lines_until(process, b"up\n")
    process.send_signal(number)
    jail.talk(process)
    assert process.returncode == 128 + number


def test_what_a_terminal_sends_reaches_the_whole_job(jail: Jail) -> None:
    # The shell waits for its child, which alone could end the wait; the child says that it is there.
    process = jail.start("--", "sh", "-c", "trap : INT; (echo up; exec sleep 60); echo after")
    lines_until(process, b"up\n")
    process.send_signal(signal.SIGINT)
    assert jail.talk(process)[0] == b"after\n"
    assert process.returncode == 0


def test_a_change_of_the_window_is_nothing(jail: Jail) -> None:
    process = jail.start("--", "sh", "-c", "echo up; sleep 0.3; exit 4")
    lines_until(process, b"up\n")
    process.send_signal(signal.SIGWINCH)
    jail.talk(process)
    assert process.returncode == 4


def test_a_daemon_does_not_outlive_the_command(jail: Jail) -> None:
    script = "(setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 1; done' &); echo done"
    assert jail("--", "sh", "-c", script).stdout == "done\n"


def test_a_killed_jail_takes_all_with_it(jail: Jail) -> None:
    process = jail.start("--", "sh", "-c", "echo up; sleep 600", stdin=subprocess.PIPE)
    lines_until(process, b"up\n")
    process.kill()
    jail.talk(process)  # ends only when nobody holds the streams any more


def test_a_reader_that_stalls_is_left_on_a_signal(jail: Jail) -> None:
    process = jail.start("--", "sh", "-c", "echo up; exec yes")
    lines_until(process, b"up\n")
    process.send_signal(signal.SIGTERM)  # nobody reads: what was written cannot go out
    assert process.wait(WITHIN_S) == 143
    jail.talk(process)


# --- attacks -------------------------------------------------------------------------------------------------------

LAUNDER = """
import os
for fd in (0, 1, 2):
    for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY, os.O_RDWR | os.O_TRUNC):
        for path in (f"/proc/self/fd/{fd}", f"/dev/fd/{fd}"):
            try:
                again = os.open(path, flags | os.O_NONBLOCK)
            except OSError:
                continue
            for attack in (
                lambda: os.ftruncate(again, 0),
                lambda: os.pwrite(again, b"EVIL", 0),
                lambda: os.lseek(again, 0, 0),
            ):
                try:
                    attack()
                    raise SystemExit("done: " + path)
                except OSError:
                    pass
    try:
        os.ftruncate(fd, 0)
        raise SystemExit("cut")
    except OSError:
        pass
print("tried")
"""


def test_descriptors_cannot_be_laundered(jail: Jail) -> None:
    source, log = jail.workspace.folder / "source", jail.workspace.folder / "log"
    for file in (source, log):
        file.write_bytes(b"precious\n" * 100)
        file.chmod(0o666)
    kept = source.read_bytes()
    with source.open("r+b") as given, log.open("r+b") as appended:
        os.lseek(appended.fileno(), 0, os.SEEK_END)
        process = jail.start(*CODE, LAUNDER, stdin=given, stdout=appended, stderr=appended)
        jail.talk(process)
    assert process.returncode == 0, log.read_bytes()[len(kept) :]
    assert source.read_bytes() == kept
    assert log.read_bytes() == kept + b"tried\n"


TYPE_IN = """
import fcntl, os, termios
for fd in (0, 1, 2):
    assert not os.isatty(fd)
    try:
        fcntl.ioctl(fd, termios.TIOCSTI, b"x")
        raise SystemExit("typed")
    except OSError:
        pass
for path in ("/dev/tty", "/dev/pts/0", "/dev/ptmx", "/dev/console"):
    try:
        os.open(path, os.O_RDWR)
        raise SystemExit(path)
    except OSError:
        pass
assert not os.path.exists("/dev/pts")
"""


def on_terminal(jail: Jail, *arguments: str, typed: bytes = b"") -> tuple[int, bytes]:
    """Run a jail whose three streams are a terminal; return its status and what the terminal was sent."""
    master, slave = pty.openpty()
    modes = termios.tcgetattr(slave)
    modes[1] &= ~termios.OPOST
    modes[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    try:
        process = jail.start(
            *arguments, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.write(master, typed)
        seen = b""
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            ready, _, _ = select.select([master], [], [], 0.05)
            if ready:
                seen += os.read(master, 65536)
            elif process.poll() is not None:
                break
        return process.wait(1), seen
    finally:
        os.close(master)
        os.close(slave)


def test_nothing_is_typed_into_a_terminal(jail: Jail) -> None:
    assert on_terminal(jail, *CODE, TYPE_IN) == (0, b"")


def test_a_terminal_is_read_from(jail: Jail) -> None:
    status, seen = on_terminal(jail, "--", "head", "-n1", typed=b"typed\n")
    assert (status, seen) == (0, b"typed\n")


def test_what_a_terminal_would_obey_is_shown(jail: Jail) -> None:
    evil = "a\x1b]0;owned\x07b\rc\u202ed\u009b31m\n"
    shown = "a\\x1b]0;owned\\x07b\\x0dc\\u202ed\\x9b31m\n"
    script = 'printf "%s" "$EVIL"; printf "%s" "$EVIL" >&2'
    given = ("--env", f"EVIL={evil}", "--", "sh", "-c", script)
    status, seen = on_terminal(jail, *given)
    assert status == 0
    assert seen.decode() in (shown * 2, seen.decode())
    assert sorted(seen) == sorted((shown * 2).encode())
    assert b"\x1b" not in seen and "\u202e".encode() not in seen
    assert sorted(on_terminal(jail, "--raw", *given)[1]) == sorted((evil * 2).encode())
    assert jail(*given).stdout == evil  # into a pipe nothing is changed
    status, seen = on_terminal(jail, "--", "printf", r"\377\233x\n")
    assert seen == b"\\xff\\x9bx\n"


# --- what other programs obey --------------------------------------------------------------------------------------


@pytest.fixture
def repository(writable: Path) -> Path:
    """A folder with files that other programs obey, in two depths."""
    for folder in (writable, writable / "deep/er"):
        (folder / ".git/hooks").mkdir(parents=True)
        (folder / ".git/hooks/pre-push").write_text("kept")
        (folder / ".git/config").write_text("kept")
        (folder / ".dativo").mkdir()
        for name in (".envrc", "Makefile", "GNUmakefile", "makefile"):
            (folder / name).write_text("kept")
    return opened(writable)


def kept(folder: Path) -> bool:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "other"]
    return len(files) >= 10 and all(path.read_text() == "kept" for path in files)


@pytest.mark.parametrize("where", [".", "deep/er"])
def test_protected_files_stay_as_they_are(jail: Jail, repository: Path, where: str) -> None:
    script = f"""cd {repository / where} && echo other > other && cat other
    for f in .envrc Makefile makefile GNUmakefile .dativo/x .git/config .git/hooks/pre-push .git/hooks/new; do
        echo evil > $f && echo wrote $f; rm -r $f && echo removed $f; mv other $f && echo replaced $f
        ln $f link && echo evil > link && echo linked $f; chmod 700 $f && echo chmod $f
    done 2>/dev/null
    mv .git/hooks h && echo moved; rm -rf .dativo && echo gone
    mount -o remount,rw .envrc && echo mounted; umount .envrc && echo bare"""
    found = jail("--rw", "out", "--", "sh", "-c", script)
    assert found.stdout == "other\n", found.stderr
    assert kept(repository)
    assert "new or replaced" not in found.stderr


def told(found: Result, folder: Path) -> set[str]:
    lines = [line for line in found.stderr.splitlines() if "new or replaced" in line]
    return {
        line.partition(": ")[2].rpartition(": ")[2].removeprefix(f"{folder}/") for line in lines
    }


def test_new_files_that_others_obey_are_told(jail: Jail, repository: Path) -> None:
    script = f"""cd {repository} && mkdir -p new/.git/hooks a/b bare/objects bare/refs bare/hooks
    touch new/.git/hooks/post a/.envrc a/b/Makefile bare/HEAD; ln -s /etc a/b/makefile; exit 3"""
    found = jail("--rw", "out", "--", "sh", "-c", script)
    assert found.status == 3
    assert told(found, repository) == {
        "new/.git/hooks",
        "a/.envrc",
        "a/b/Makefile",
        "a/b/makefile",
        "bare/hooks",
    }


def test_a_renamed_parent_shows_up(jail: Jail, repository: Path) -> None:
    script = f"""cd {repository} && mv .git .was && mkdir -p .git/hooks && touch .git/hooks/pre-push
    mv deep deeper && mkdir -p deep/er && echo evil > deep/er/.envrc"""
    found = jail("--rw", "out", "--", "sh", "-c", script)
    assert found.status == 0, found.stderr
    shown = told(found, repository)
    assert {".git/hooks", "deep/er/.envrc"} <= shown
    assert (repository / ".was/hooks/pre-push").read_text() == "kept"
    # What moved with its folder is new where it is now.
    assert "deeper/er/Makefile" in shown


def test_links_lead_nowhere(jail: Jail, repository: Path) -> None:
    outside = jail.workspace.folder / "outside"
    (outside / "hooks").mkdir(parents=True)
    (outside / "victim").write_text("kept")
    opened(outside)
    trap = repository / "trap"
    trap.mkdir()
    (trap / ".git").symlink_to(outside)
    (trap / ".envrc").symlink_to(outside / "victim")
    (trap / ".dativo").symlink_to("nowhere")
    (trap / "loop").symlink_to("..")
    (repository / "real").write_text("kept")
    (trap / "Makefile").symlink_to("../real")
    opened(repository)
    script = f"""cd {repository}/trap
    echo evil > .envrc && echo through; echo evil > .git/hooks/x && echo hooks
    echo evil > Makefile && echo make; echo evil > ../real && echo real
    rm Makefile && ln -s other Makefile"""
    found = jail("--rw", "out", "--", "sh", "-c", script)
    assert found.stdout == ""
    assert (repository / "real").read_text() == "kept"  # what the link leads to is protected
    assert (outside / "victim").read_text() == "kept"
    assert not any((outside / "hooks").iterdir())
    assert told(found, repository) == {"trap/Makefile"}


def test_a_folder_that_cannot_be_looked_into_is_told(jail: Jail, repository: Path) -> None:
    found = jail(
        "--rw",
        "out",
        "--",
        "sh",
        "-c",
        f"cd {repository} && mkdir dark && touch dark/Makefile && chmod 0 dark",
    )
    assert found.status == 0, found.stderr
    assert told(found, repository) == ({"dark/Makefile"} if os.geteuid() == 0 else {"dark"})
    (repository / "dark").chmod(0o700)
