"""The committed filters, interpreted over every number of both tables."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.unit.sandbox import bpf

from dativo.sandbox.seccomp import FOLDER
from dativo.sandbox.seccomp.compile import (
    ALLOW,
    AUDIT_ARCH,
    ENOSYS,
    EPERM,
    ERRNO,
    KILL_PROCESS,
    X32_BIT,
    compile_policy,
)
from dativo.sandbox.seccomp.policy import PolicyError, Verdict, load_policy, load_table

MACHINES = sorted(AUDIT_ARCH)
POLICY = load_policy()
REFUSED = ERRNO | EPERM
UNKNOWN = ERRNO | ENOSYS

NEWUSER, NEWNS, NEWPID, NEWNET = 0x10000000, 0x00020000, 0x20000000, 0x40000000
FASTOPEN = 0x20000000
CREAT, TMPFILE = 0o100, 0o20000000

# call, arguments, verdict: boundaries of every argument rule.
ARGUMENT_CASES = [
    ("socket", (2, 1, 0), ALLOW),
    ("socket", (10, 2 | 0o2000000 | 0o4000, 17), ALLOW),
    ("socket", (2, 1, 6), ALLOW),
    ("socket", (2, 1, 262), REFUSED),  # MPTCP
    ("socket", (2, 1, 132), REFUSED),  # SCTP
    ("socket", (2, 3, 0), REFUSED),  # raw
    ("socket", (1, 1, 0), REFUSED),  # unix
    ("socket", (16, 3 | 0o2000000, 0), ALLOW),  # netlink route
    ("socket", (16, 3, 9), REFUSED),  # audit
    ("socket", (17, 3, 0), REFUSED),  # packet
    ("socket", (38, 5, 0), REFUSED),  # AF_ALG
    ("socket", (40, 1, 0), REFUSED),  # vsock
    ("socket", (0x1_0000_0000 | 1, 1, 0), REFUSED),
    ("socket", (0x1_0000_0000 | 2, 1, 0), ALLOW),  # the kernel reads an int
    ("socketpair", (1, 1, 0), ALLOW),
    ("socketpair", (2, 1, 0), REFUSED),
    ("sendto", (3, 0, 0, 0), ALLOW),
    ("sendto", (3, 0, 0, 0x4000), ALLOW),
    ("sendto", (3, 0, 0, FASTOPEN), REFUSED),
    ("sendto", (3, 0, 0, FASTOPEN | 0x4000), REFUSED),
    ("sendmsg", (3, 0, FASTOPEN), REFUSED),
    ("sendmsg", (3, 0, 0), ALLOW),
    ("sendmmsg", (3, 0, 1, FASTOPEN), REFUSED),
    ("sendmmsg", (3, FASTOPEN, 1, 0), ALLOW),
    ("setsockopt", (3, 1, 2), ALLOW),  # SO_REUSEADDR
    ("setsockopt", (3, 1, 15), ALLOW),  # SO_REUSEPORT
    ("setsockopt", (3, 1, 26), REFUSED),  # SO_ATTACH_FILTER
    ("setsockopt", (3, 1, 27), ALLOW),  # SO_DETACH_FILTER
    ("setsockopt", (3, 1, 50), REFUSED),  # SO_ATTACH_BPF
    ("setsockopt", (3, 1, 51), REFUSED),  # SO_ATTACH_REUSEPORT_CBPF
    ("setsockopt", (3, 1, 52), REFUSED),  # SO_ATTACH_REUSEPORT_EBPF
    ("setsockopt", (3, 0x1_0000_0001, 0x1_0000_001A), REFUSED),
    ("setsockopt", (3, 6, 1), ALLOW),  # TCP_NODELAY
    ("setsockopt", (3, 6, 4), ALLOW),  # TCP_KEEPIDLE
    ("setsockopt", (3, 6, 23), REFUSED),  # TCP_FASTOPEN
    ("setsockopt", (3, 6, 30), REFUSED),  # TCP_FASTOPEN_CONNECT
    ("setsockopt", (3, 6, 31), REFUSED),  # TCP_ULP
    ("setsockopt", (3, 6, 33), REFUSED),  # TCP_FASTOPEN_KEY
    ("setsockopt", (3, 6, 34), REFUSED),  # TCP_FASTOPEN_NO_COOKIE
    ("setsockopt", (3, 41, 26), ALLOW),  # IPV6_V6ONLY
    ("setsockopt", (3, 0, 11), ALLOW),  # IP_RECVERR
    ("setsockopt", (3, 17, 23), ALLOW),
    ("setsockopt", (3, 270, 1), ALLOW),
    ("setsockopt", (3, 132, 1), REFUSED),  # SCTP
    ("setsockopt", (3, 263, 1), REFUSED),  # packet
    ("fcntl", (3, 1030), ALLOW),  # F_DUPFD_CLOEXEC
    ("fcntl", (3, 1031), REFUSED),  # F_SETPIPE_SZ
    ("fcntl", (3, 1032), ALLOW),  # F_GETPIPE_SZ
    ("fcntl", (3, 0x1_0000_0407), REFUSED),
    ("fcntl", (3, 1026), REFUSED),  # F_NOTIFY
    ("memfd_create", (0, 0x9), ALLOW),  # CLOEXEC and NOEXEC_SEAL
    ("memfd_create", (0, 0x1), REFUSED),  # executable, as it has been of old
    ("memfd_create", (0, 0x11), REFUSED),  # EXEC
    ("memfd_create", (0, 0x18), REFUSED),
    ("execveat", (3, 0, 0, 0, 0), ALLOW),
    ("execveat", (3, 0, 0, 0, 0x1000), REFUSED),  # AT_EMPTY_PATH
    ("execveat", (3, 0, 0, 0, 0x100), ALLOW),  # AT_SYMLINK_NOFOLLOW
    ("clone", (0x3D0F00,), ALLOW),  # a thread
    ("clone", (0x1200011,), ALLOW),  # a fork of glibc
    ("clone", (NEWUSER,), REFUSED),
    ("clone", (NEWNS | 17,), REFUSED),
    ("clone", (NEWPID,), REFUSED),
    ("clone", (NEWNET,), REFUSED),
    ("ioctl", (0, 0x5401), ALLOW),
    ("ioctl", (0, 0x5412), REFUSED),  # TIOCSTI
    ("ioctl", (0, 0x541C), REFUSED),  # TIOCLINUX
    ("ioctl", (0, 0x541D), REFUSED),  # TIOCCONS
    ("ioctl", (0, 0x5423), REFUSED),  # TIOCSETD
    ("ioctl", (0, 0x1_0000_5412), REFUSED),  # high bits, which the kernel drops (CVE-2023-1523)
    ("personality", (0,), ALLOW),
    ("personality", (0xFFFFFFFF,), ALLOW),
    ("personality", (0x0400000,), REFUSED),  # READ_IMPLIES_EXEC
    ("personality", (0x0040000,), REFUSED),  # ADDR_NO_RANDOMIZE
    ("fchmod", (3, 0o755), ALLOW),
    ("fchmod", (3, 0o4755), REFUSED),
    ("fchmodat", (3, 0, 0o2755), REFUSED),
    ("fchmodat2", (3, 0, 0o1777), ALLOW),
    ("openat", (3, 0, 0, 0o7777), ALLOW),  # without O_CREAT the mode means nothing
    ("openat", (3, 0, CREAT, 0o644), ALLOW),
    ("openat", (3, 0, CREAT, 0o4755), REFUSED),
    ("openat", (3, 0, TMPFILE, 0o2755), REFUSED),
    ("mknodat", (3, 0, 0o10644), ALLOW),  # FIFO
    ("mknodat", (3, 0, 0o20644), REFUSED),  # character device
    ("mknodat", (3, 0, 0o60644), REFUSED),  # block device
    ("mknodat", (3, 0, 0o4755), REFUSED),
]


def blob(machine: str) -> bytes:
    return (FOLDER / f"{machine}.bpf").read_bytes()


@pytest.mark.parametrize("machine", MACHINES)
def test_blobs_are_the_compiled_policy(machine: str) -> None:
    assert blob(machine) == compile_policy(POLICY, machine)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_number_gets_its_verdict(machine: str) -> None:
    program, arch, table = blob(machine), AUDIT_ARCH[machine], load_table(machine)
    names = {number: name for name, number in table.items()}
    wanted = {Verdict.ALLOW: ALLOW, Verdict.REFUSE: REFUSED, Verdict.ABSENT: UNKNOWN}
    for number in range(1024):
        name = names.get(number)
        found = bpf.run(program, arch, number)
        if name is None:
            assert found == UNKNOWN, number
        elif POLICY.verdicts[name] is not Verdict.ARGUMENTS:
            assert found == wanted[POLICY.verdicts[name]], name
        else:
            assert found in (ALLOW, REFUSED), name


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("call", "arguments", "verdict"), ARGUMENT_CASES)
def test_arguments(machine: str, call: str, arguments: tuple[int, ...], verdict: int) -> None:
    table = load_table(machine)
    if call not in table:
        pytest.skip(f"{machine} has no {call}")
    assert bpf.run(blob(machine), AUDIT_ARCH[machine], table[call], arguments) == verdict


def test_legacy_opens_of_x86() -> None:
    table, program, arch = load_table("x86_64"), blob("x86_64"), AUDIT_ARCH["x86_64"]
    assert bpf.run(program, arch, table["open"], (0, CREAT, 0o644)) == ALLOW
    assert bpf.run(program, arch, table["open"], (0, CREAT, 0o4755)) == REFUSED
    assert bpf.run(program, arch, table["creat"], (0, 0o4755)) == REFUSED
    assert bpf.run(program, arch, table["chmod"], (0, 0o4755)) == REFUSED


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("arch", [0x40000003, 0x40000028, 0])
def test_other_architectures_die(machine: str, arch: int) -> None:
    assert bpf.run(blob(machine), arch, 0) == KILL_PROCESS


def test_x32_dies() -> None:
    for number in (0, 59, 520):
        assert bpf.run(blob("x86_64"), AUDIT_ARCH["x86_64"], X32_BIT | number) == KILL_PROCESS


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    "name",
    ["ptrace", "mount", "unshare", "setns", "bpf", "keyctl", "io_uring_setup", "userfaultfd"],
)
def test_dangerous_calls_are_refused_by_name(machine: str, name: str) -> None:
    number = load_table(machine)[name]
    assert bpf.run(blob(machine), AUDIT_ARCH[machine], number) == REFUSED


@pytest.mark.parametrize("name", ["clone3", "openat2"])
def test_calls_with_a_fall_back_are_absent(name: str) -> None:
    assert POLICY.verdicts[name] is Verdict.ABSENT


@pytest.mark.parametrize("machine", MACHINES)
def test_subset_of_dockers_default(machine: str) -> None:
    """What we let through unconditionally, Docker does for a container without capabilities."""
    if not (corpora := os.environ.get("DATIVO_CORPORA")):
        pytest.skip("DATIVO_CORPORA is not set: no corpora here")
    profile = json.loads((Path(corpora) / "seccomp/docker-default.json").read_text())
    docker: set[str] = set()
    conditional: set[str] = set()
    arches = {"x86_64": {"amd64"}, "aarch64": {"arm64"}}[machine]
    for rule in profile["syscalls"]:
        includes = rule.get("includes") or {}
        if rule["action"] != "SCMP_ACT_ALLOW" or includes.get("caps"):
            continue
        if includes.get("arches") and not arches & set(includes["arches"]):
            continue
        (conditional if rule.get("args") else docker).update(rule["names"])
    assert len(docker) > 300
    table = load_table(machine)
    ours = {name for name in table if POLICY.verdicts[name] is Verdict.ALLOW}
    judged = {name for name in table if POLICY.verdicts[name] is Verdict.ARGUMENTS}
    assert ours <= docker
    assert judged <= docker | conditional
    # Docker's own conditions: we allow nothing that they refuse.
    program, arch = blob(machine), AUDIT_ARCH[machine]
    for family in (38, 40):
        assert bpf.run(program, arch, table["socket"], (family, 1, 0)) == REFUSED
    for persona in range(0x40):
        if persona not in (0, 8):
            assert bpf.run(program, arch, table["personality"], (persona,)) == REFUSED
    for bit in range(32):
        if 0x7E020000 >> bit & 1:
            assert bpf.run(program, arch, table["clone"], (1 << bit,)) == REFUSED


def test_policy_errors_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "policy.txt"
    path.write_text("[allow]\nread\n[refuse]\nread\n")
    with pytest.raises(PolicyError, match="line 4: read is already in"):
        load_policy(path)
    path.write_text("read\n")
    with pytest.raises(PolicyError, match="line 1"):
        load_policy(path)
    for bad in ("a9 in 1", "a0 in", "a0 is 1", "a0 & in 1", "b0 in 1"):
        path.write_text(f"[arguments]\nsocket: {bad}\n")
        with pytest.raises(PolicyError, match="line 2"):
            load_policy(path)


def test_a_call_without_a_verdict_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "policy.txt"
    path.write_text("[allow]\nread\n")
    with pytest.raises(PolicyError, match=r"no verdict on .*write"):
        compile_policy(load_policy(path), "x86_64")
