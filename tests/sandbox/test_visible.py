"""What programs make of the limits that they are shown."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sandbox.seen import Outcome

from dativo.sandbox import Confined, Grants, Limits, Walls

Run = Callable[..., Outcome]
Launch = Callable[..., Confined]
MIB = 1 << 20
WITHIN_S = 60.0
FOLDER = "/sys/fs/cgroup"
LIMITS = Limits(memory_bytes=256 * MIB, cpus=0.5, pids=300, wall_time_s=WITHIN_S)


def read(inside: Run, path: str) -> str:
    found = inside("read_file", path, limits=LIMITS)
    assert found.errno is None, found
    return str(found.value).strip()


def test_limits_are_seen_inside(inside: Run) -> None:
    assert read(inside, f"{FOLDER}/memory.max") == str(256 * MIB)
    assert read(inside, f"{FOLDER}/cpu.max") == "50000 100000"
    assert read(inside, f"{FOLDER}/pids.max") == "300"
    assert {"cpu", "memory", "pids"} <= set(read(inside, f"{FOLDER}/cgroup.controllers").split())


def test_what_is_used_is_seen_where_there_is_a_cgroup(inside: Run, walls: Walls) -> None:
    if walls.cgroup == "degraded":
        pytest.skip("no cgroup can be written here")
    found = inside("read_file", "/proc/self/cgroup")
    of_v1 = ":memory:" in str(found.value)
    name = "memory/memory.usage_in_bytes" if of_v1 else "memory.current"
    assert MIB < int(read(inside, f"{FOLDER}/{name}")) < 256 * MIB


def test_they_cannot_be_changed(inside: Run) -> None:
    refused = {"EROFS", "EACCES"}
    assert inside("write_file", f"{FOLDER}/memory.max").errno in refused
    assert inside("change_mode", f"{FOLDER}/memory.max").errno in {*refused, "EPERM"}
    assert inside("make_folder", f"{FOLDER}/below").errno in refused


def test_nobody_learns_or_changes_who_is_in_a_cgroup(inside: Run) -> None:
    """Not even where they are covered: nothing that lists or takes processes can be opened in the whole tree."""
    found = inside("open_all", FOLDER)
    assert found.errno is None, found
    names = {Path(path).name for path in found.value}
    assert "memory.max" in names
    assert not names & {"cgroup.procs", "cgroup.threads", "tasks", "release_agent"}


def test_a_jvm_takes_the_limit_for_the_machine(start: Launch, walls: Walls) -> None:
    """OpenJDK 17 gives its heap at most half of what it takes for small memory, else a quarter."""
    if shutil.which("java") is None:
        pytest.skip("java is not installed here")
    if walls.cgroup == "degraded" and Path(FOLDER, "cgroup.controllers").exists():
        pytest.skip("without a cgroup and version 1, newer JVMs see no limit: docs/spec/sandbox.md")
    flags = ("-Xshare:auto", "-XX:+PrintFlagsFinal", "-Xlog:os+container=trace", "-version")
    confined = start("/usr/bin/java", *flags, grants=Grants(limits=LIMITS))
    text = b""
    while part := os.read(confined.stdout, 65536):
        text += part
    assert confined.wait(WITHIN_S).succeeded, confined.stderr_tail()
    heap = next(line for line in text.decode().splitlines() if " MaxHeapSize " in line)
    assert 64 * MIB <= int(heap.split("=")[1].split()[0]) <= 128 * MIB
    assert f"Memory Limit is: {256 * MIB}" in text.decode()
    assert "CPU Quota is: 50000" in text.decode()


def test_node_takes_the_limit_for_the_machine(start: Launch) -> None:
    if shutil.which("node") != "/usr/bin/node":
        pytest.skip("node is not installed here")
    script = "console.log(process.constrainedMemory())"
    confined = start("/usr/bin/node", "-e", script, grants=Grants(limits=LIMITS))
    assert os.read(confined.stdout, 100) == b"%d\n" % (256 * MIB)
    assert confined.wait(WITHIN_S).succeeded


def test_a_jvm_finds_its_settings(start: Launch) -> None:
    """Debian keeps them in /etc; without them no program that has to do with security starts, and a compiler is one."""
    if shutil.which("javac") is None:
        pytest.skip("no Java compiler is installed here")
    limits = Limits(memory_bytes=512 * MIB, wall_time_s=WITHIN_S)
    script = "echo 'class A {}' >A.java && javac A.java && ls A.class"
    confined = start("/bin/sh", "-c", script, grants=Grants(limits=limits))
    assert os.read(confined.stdout, 100) == b"A.class\n", confined.stderr_tail()
