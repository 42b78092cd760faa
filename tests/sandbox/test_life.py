"""Limits that end a process, signals, and the death of the whole tree."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sandbox.seen import Outcome, living

from dativo.sandbox import Confined, Grants, Limits, SandboxError, Walls, cgroup

Run = Callable[..., Outcome]
Launch = Callable[..., Confined]
WITHIN_S = 30.0
MIB = 1 << 20
# Ignores SIGTERM, in a session of its own, child of process 1.
DAEMON = (
    "(trap '' TERM; setsid sh -c 'trap \"\" TERM HUP; echo up; while :; do sleep 1; done' &) ; "
)


def gone(confined: Confined) -> bool:
    namespace = dict(confined.attestation.namespaces)["pid"]
    return living(namespace) == []


def read_line(confined: Confined) -> bytes:
    poll = select.poll()
    poll.register(confined.stdout, select.POLLIN)
    assert poll.poll(WITHIN_S * 1000), "no line in time"
    return os.read(confined.stdout, 100)


# --- ends ----------------------------------------------------------------------------------------------------------


def test_exit_status_and_signal_are_the_programs_own(start: Launch) -> None:
    end = start("/bin/sh", "-c", "exit 7").wait(WITHIN_S)
    assert (end.code, end.signal, end.cause, end.succeeded) == (7, None, "exited", False)
    end = start("/bin/sh", "-c", "kill -SEGV $$").wait(WITHIN_S)
    assert (end.code, end.signal, end.cause) == (None, signal.SIGSEGV, "signaled")
    end = start("/bin/sh", "-c", "kill -KILL $$").wait(WITHIN_S)
    assert (end.signal, end.cause, end.detail) == (signal.SIGKILL, "signaled", "ended by SIGKILL")
    end = start("/bin/sh", "-c", "exit 137").wait(WITHIN_S)
    assert (end.code, end.cause) == (137, "exited")


def test_usage_is_counted(act: Launch) -> None:
    end = act("eat", str(64 * MIB)).wait(WITHIN_S)
    assert end.succeeded
    assert 64 * MIB < end.usage.peak_memory_bytes < 200 * MIB
    assert 0 < end.usage.cpu_s < WITHIN_S


def test_what_its_limits_did_is_told(act: Launch, walls: Walls) -> None:
    if walls.cgroup == "degraded":
        pytest.skip("no cgroup can be written here")
    end = act("spin", "1", limits=Limits(cpus=0.2, wall_time_s=60)).wait(WITHIN_S)
    assert end.succeeded
    assert end.usage.throttled_s is not None and end.usage.throttled_s > 0.5
    assert [event for event in end.usage.events if "at 0.2 cpus" in event]
    end = act("fork_until", "40", limits=Limits(pids=20, wall_time_s=60)).wait(WITHIN_S)
    assert any("refused 1 forks at 20" in event for event in end.usage.events), end
    end = act("eat", str(400 * MIB), limits=Limits(memory_bytes=96 * MIB)).wait(WITHIN_S)
    assert any("killed for want of memory" in event for event in end.usage.events), end


def test_memory(act: Launch) -> None:
    confined = act("eat", str(400 * MIB), limits=Limits(memory_bytes=96 * MIB, wall_time_s=60))
    end = confined.wait(WITHIN_S)
    assert end.cause == "memory"
    assert str(96 * MIB) in end.detail
    assert gone(confined)


def test_memory_of_a_child_ends_the_tree(act: Launch) -> None:
    limits = Limits(memory_bytes=96 * MIB, wall_time_s=60)
    confined = act("eat_in_child", str(400 * MIB), limits=limits)
    assert confined.wait(WITHIN_S).cause == "memory"
    assert gone(confined)


def test_a_fork_bomb_stays_below_the_limit(act: Launch, walls: Walls) -> None:
    confined = act("fork_for_ever", limits=Limits(pids=30, wall_time_s=4))
    end = confined.wait(WITHIN_S)
    assert end.cause == "wall_time"
    assert walls.cgroup == "degraded" or "was refused" in end.detail
    assert end.usage.pids_peak is None or end.usage.pids_peak <= 30
    assert gone(confined)


def test_wall_time(start: Launch) -> None:
    began = time.monotonic()
    confined = start("/usr/bin/sleep", "60", limits=Limits(wall_time_s=0.3))
    end = confined.wait(WITHIN_S)
    assert (end.code, end.signal, end.cause) == (None, None, "wall_time")
    assert end.detail == "ran longer than 0.3 s"
    assert time.monotonic() - began < 10
    assert gone(confined)


def test_bytes_of_stderr(start: Launch) -> None:
    script = "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo 0123456789 >&2; done"
    end = start("/bin/sh", "-c", script, limits=Limits(output_bytes=11_000)).wait(WITHIN_S)
    assert (end.cause, end.hit_limit) == ("exited", False)
    flood = start(
        "/bin/sh", "-c", "while :; do echo 0123456789 >&2; done", limits=Limits(output_bytes=11_000)
    )
    end = flood.wait(WITHIN_S)
    assert (end.cause, end.hit_limit) == ("output", True)
    assert end.detail == "wrote more than 11000 bytes to stderr"
    assert gone(flood)


def test_file_size(act: Launch) -> None:
    confined = act("grow", "/tmp/x", str(8 * MIB), limits=Limits(file_bytes=MIB, wall_time_s=60))
    end = confined.wait(WITHIN_S)
    assert (end.cause, end.signal) == ("file_size", signal.SIGXFSZ)


# --- degraded: no cgroup -------------------------------------------------------------------------------------------


def test_degraded_memory(act: Launch, without_cgroup: Walls) -> None:
    limits = Limits(memory_bytes=96 * MIB, wall_time_s=60)
    confined = act("eat", str(2000 * MIB), limits=limits, walls=without_cgroup)
    assert confined.attestation.cgroup == "degraded"
    end = confined.wait(WITHIN_S)
    assert end.cause == "memory"
    assert end.usage.peak_memory_bytes > 96 * MIB
    assert gone(confined)


def test_degraded_memory_is_of_the_tree(act: Launch, without_cgroup: Walls) -> None:
    limits = Limits(memory_bytes=96 * MIB, wall_time_s=60)
    confined = act("eat_in_child", str(2000 * MIB), limits=limits, walls=without_cgroup)
    assert confined.wait(WITHIN_S).cause == "memory"


def test_degraded_memory_that_is_shared_counts_once(inside: Run, without_cgroup: Walls) -> None:
    """Four processes with the same 64 MiB need 64 MiB."""
    limits = Limits(memory_bytes=128 * MIB, wall_time_s=60)
    found = inside("share", str(64 * MIB), "3", limits=limits, walls=without_cgroup)
    assert found.end is not None and found.end.succeeded, found
    assert found.value == 64 * MIB
    assert found.end.usage.peak_memory_bytes is not None
    assert 64 * MIB < found.end.usage.peak_memory_bytes < 128 * MIB
    few = Limits(memory_bytes=48 * MIB, wall_time_s=60)
    ended = inside("share", str(64 * MIB), "3", limits=few, walls=without_cgroup).end
    assert ended is not None and ended.cause == "memory"


def test_degraded_fork_bomb(act: Launch, without_cgroup: Walls) -> None:
    limits = Limits(pids=30, wall_time_s=2)
    confined = act("fork_for_ever", limits=limits, walls=without_cgroup)
    end = confined.wait(WITHIN_S)
    assert end.cause in ("wall_time", "pids")
    assert end.usage.pids_peak is not None
    assert end.usage.pids_peak <= 31
    assert gone(confined)


def test_degraded_pids_are_watched(start: Launch, without_cgroup: Walls) -> None:
    confined = start("/usr/bin/sleep", "60", walls=without_cgroup)
    confined.limits = Limits(pids=0)
    assert confined.wait(WITHIN_S).cause == "pids"


# --- signals -------------------------------------------------------------------------------------------------------


def test_term_reaches_the_programs_handler(start: Launch) -> None:
    script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    confined = start("/bin/sh", "-c", script)
    assert read_line(confined) == b"ready\n"
    end = confined.terminate(grace_s=WITHIN_S)
    assert (end.code, end.cause) == (9, "exited")
    assert read_line(confined) == b"caught\n"
    confined.signal(signal.SIGTERM)  # harmless afterwards


def test_a_signal_to_stage_2_itself_is_forwarded(start: Launch) -> None:
    confined = start("/bin/sh", "-c", "trap 'exit 5' HUP; echo ready; while :; do sleep 0.05; done")
    assert read_line(confined) == b"ready\n"
    os.kill(confined.pid, signal.SIGHUP)
    assert confined.wait(WITHIN_S).code == 5


def test_whoever_ignores_term_is_killed_with_all_it_started(start: Launch) -> None:
    confined = start("/bin/sh", "-c", f"trap '' TERM; {DAEMON} while :; do sleep 1; done")
    assert read_line(confined) == b"up\n"
    assert not gone(confined)
    end = confined.terminate(grace_s=0.2)
    assert (end.cause, end.detail) == ("killed", "killed 0.2 s after SIGTERM")
    assert gone(confined)


def test_daemons_die_with_the_program(start: Launch) -> None:
    confined = start("/bin/sh", "-c", f"{DAEMON} read line; exit 3", stdin=(pipe := os.pipe())[0])
    os.close(pipe[0])
    assert read_line(confined) == b"up\n"
    os.write(pipe[1], b"end\n")
    assert confined.wait(WITHIN_S).code == 3
    assert gone(confined)
    os.close(pipe[1])


def test_kill_and_close(start: Launch) -> None:
    confined = start("/bin/sh", "-c", f"{DAEMON} sleep 60")
    assert read_line(confined) == b"up\n"
    assert confined.poll_exit() is None
    confined.kill()
    end = confined.wait(WITHIN_S)
    assert end.cause == "killed"
    assert confined.poll_exit() is end
    confined.close()
    confined.close()
    assert gone(confined)


def test_the_context_reaps_after_an_error(start: Launch) -> None:
    confined = start("/usr/bin/sleep", "60")
    with pytest.raises(KeyError), confined:
        raise KeyError
    assert gone(confined)


def test_timeout_leaves_it_running(start: Launch) -> None:
    confined = start("/usr/bin/sleep", "60")
    with pytest.raises(TimeoutError, match="still runs"):
        confined.wait(0.05)
    assert not gone(confined)


def test_killing_bubblewrap_kills_the_tree(start: Launch) -> None:
    confined = start("/usr/bin/sleep", "60")
    os.kill(confined._handles.monitor, signal.SIGKILL)
    end = confined.wait(WITHIN_S)
    assert end.cause == "lost"
    assert "no report" in end.detail
    assert gone(confined)


LAUNCHER = textwrap.dedent(
    """
    import os, signal, sys
    from dativo.sandbox import *
    identity = allocate_identity() if os.geteuid() == 0 else None
    confined = launch(
        Program("orphan", ("/bin/sh", "-c", sys.argv[1])), Grants(),
        identity=identity and identity.identity, walls=Walls("degraded"), stdin=None, stdout=1, control=None, run="test",
    )
    print(dict(confined.attestation.namespaces)["pid"], flush=True)
    signal.pause()
    """
)


def test_all_die_with_the_launcher() -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, f"trap '' TERM HUP; {DAEMON} sleep 60"],
        stdout=subprocess.PIPE,
    )
    with launcher:
        assert launcher.stdout is not None
        lines = {launcher.stdout.readline(), launcher.stdout.readline()}
        assert b"up\n" in lines
        namespace = int((lines - {b"up\n"}).pop())
        assert living(namespace)
        launcher.kill()
        # The end of the pipe: whoever could write to it is dead.
        assert launcher.stdout.read() == b""
    deadline = time.monotonic() + WITHIN_S
    while living(namespace):
        assert time.monotonic() < deadline


# --- stderr and the streams ----------------------------------------------------------------------------------------


def test_a_flood_of_stderr_is_bounded(start: Launch) -> None:
    script = "head -c 20000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last >&2"
    confined = start("/bin/sh", "-c", script, limits=Limits(stderr_bytes=1000, wall_time_s=60))
    assert confined.wait(WITHIN_S).succeeded
    tail = confined.stderr_tail()
    assert len(tail) == 1000
    assert tail.endswith(b"x\nlast\n")
    assert confined.stderr_closed


def test_stderr_lines(start: Launch) -> None:
    confined = start("/bin/sh", "-c", "echo one >&2; printf two >&2")
    lines: list[bytes] = []
    poll = select.poll()
    poll.register(confined.stderr_fd, select.POLLIN)
    while not confined.stderr_closed:
        assert poll.poll(WITHIN_S * 1000)
        lines += confined.read_stderr()
    lines += confined.read_stderr()  # what the launch itself had read already
    assert lines == [b"one", b"two"]


def test_stdout_ends_when_the_program_closes_it(start: Launch) -> None:
    """Nobody else holds the write end: neither bubblewrap nor stage 2."""
    confined = start("/bin/sh", "-c", "echo x; exec >&-; sleep 60")
    assert read_line(confined) == b"x\n"
    assert read_line(confined) == b""
    assert confined.poll_exit() is None


def test_the_reader_of_stdin_alone_holds_it(start: Launch) -> None:
    out, into = os.pipe()
    confined = start("/bin/sh", "-c", "exec <&-; echo closed; sleep 60", stdin=out)
    os.close(out)
    assert read_line(confined) == b"closed\n"
    with pytest.raises(BrokenPipeError):
        os.write(into, b"x")
    os.close(into)


def test_stdout_that_was_handed_over_is_not_ours(start: Launch) -> None:
    out, into = os.pipe()
    confined = start("/usr/bin/echo", "hello", stdout=into)
    os.close(into)
    with pytest.raises(SandboxError, match="handed"):
        _ = confined.stdout
    assert confined.wait(WITHIN_S).succeeded
    assert os.read(out, 100) == b"hello\n"
    os.close(out)


def test_low_descriptors_can_be_handed_over() -> None:
    """A launcher whose own stdin and stdout go to the program, as a target in a shell pipe."""
    code = LAUNCHER.replace("stdin=None, stdout=1", "stdin=0, stdout=1").replace(
        'print(dict(confined.attestation.namespaces)["pid"], flush=True)\nsignal.pause()',
        "sys.exit(confined.wait(30).code)",
    )
    found = subprocess.run(
        [sys.executable, "-c", code, "cat; exit 6"],
        input=b"through",
        capture_output=True,
        timeout=60,
    )
    assert (found.returncode, found.stdout, found.stderr) == (6, b"through", b"")


# --- what is left --------------------------------------------------------------------------------------------------


def test_nothing_is_left_behind(start: Launch, walls: Walls) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    confined = start("/usr/bin/true")
    leaf = confined._handles.leaf
    confined.wait(WITHIN_S)
    confined.close()
    assert set(Path("/proc/self/fd").iterdir()) == before
    if walls.cgroup == "required":
        assert leaf is not None
        assert not any(path.exists() for path in leaf.members)
    with pytest.raises(ChildProcessError):
        os.waitpid(confined._handles.monitor, os.WNOHANG)


def test_limits_are_those_of_the_leaf(start: Launch, walls: Walls) -> None:
    if walls.cgroup == "degraded":
        pytest.skip("no cgroup can be written here")
    grants = Grants(limits=Limits(memory_bytes=100 * MIB, pids=50, cpus=0.5))
    confined = start("/usr/bin/sleep", "60", grants=grants)
    leaf = confined._handles.leaf
    assert leaf is not None
    for path in leaf.members:
        pids = set(map(int, path.read_text().split()))
        assert confined.pid in pids
        assert len(pids) == 3, "bubblewrap, stage 2, the program"
    if leaf.kind == "v1":
        folders = {path.parent for path in leaf.members}
        read = {
            name: cgroup.read_int(folder / name)
            for folder in folders
            for name in ("memory.limit_in_bytes", "pids.max", "cpu.cfs_quota_us")
            if (folder / name).exists()
        }
        assert read == {
            "memory.limit_in_bytes": 100 * MIB,
            "pids.max": 50,
            "cpu.cfs_quota_us": 50_000,
        }
