"""What Docker Engine is asked for: the profile out of the one policy, and the body of the request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.sandbox import bpf

from dativo.sandbox.docker_body import container_body
from dativo.sandbox.docker_launch import begin_in_docker
from dativo.sandbox.docker_profile import docker_profile
from dativo.sandbox.docker_view import in_memory
from dativo.sandbox.errors import WallMissing
from dativo.sandbox.mounts import Mount
from dativo.sandbox.program import Container, Grants, Identity, Limits, Program
from dativo.sandbox.seccomp import FOLDER
from dativo.sandbox.seccomp.compile import ALLOW, AUDIT_ARCH
from dativo.sandbox.seccomp.policy import Verdict, load_policy, load_table
from dativo.sandbox.streams import Handed

POLICY = load_policy()
AF_UNIX, SEQPACKET = 1, 5 | 0o2000000


def lets_through(profile: dict[str, Any], name: str, arguments: tuple[int, ...]) -> bool:
    """Judge a call as libseccomp does: it passes by any rule whose comparisons all hold."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    return any(
        name in rule["names"]
        and rule["action"] == "SCMP_ACT_ALLOW"
        and all(padded[found["index"]] & found["value"] == found["valueTwo"] for found in rule.get("args", ()))
        for rule in profile["syscalls"]
    )  # fmt: skip


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_profile_is_no_narrower_than_the_policy_and_refuses_what_it_refuses(
    machine: str,
) -> None:
    profile = docker_profile(POLICY, machine)
    program = (FOLDER / f"{machine}.bpf").read_bytes()
    table, arch = load_table(machine), AUDIT_ARCH[machine]
    values = sorted({0, 1, 2, 3, 5, 6, 10, 16, 17, *(1 << bit for bit in range(32))})
    tried = 0
    for name, number in table.items():
        verdict = POLICY.verdicts[name]
        if verdict is not Verdict.ARGUMENTS:
            assert lets_through(profile, name, ()) == (verdict is Verdict.ALLOW), name
            continue
        for first in values:
            for second in values:
                for arguments in ((first, second), (0, first, second), (0, 0, first, second)):
                    if bpf.run(program, arch, number, arguments) == ALLOW:
                        assert lets_through(profile, name, arguments), (name, arguments)
                        tried += 1
    assert tried > 10_000
    # What the format can say, it says: beyond the way to the launcher no socket is let through that the policy refuses.
    for family in range(48):
        for kind in range(8):
            ours = bpf.run(program, arch, table["socket"], (family, kind, 0)) == ALLOW
            assert lets_through(profile, "socket", (family, kind, 0)) == ours
    assert lets_through(profile, "socket", (AF_UNIX, SEQPACKET, 0))
    assert not lets_through(profile, "clone", (0x10000000,))


def test_unknown_calls_are_absent_and_refused_ones_refused() -> None:
    profile = docker_profile(POLICY, "x86_64")
    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    assert profile["architectures"] == ["SCMP_ARCH_X86_64"]
    [refused] = [rule for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ERRNO"]
    assert refused["errnoRet"] == 1 and {"mount", "ptrace", "unshare"} <= set(refused["names"])


def test_the_body_asks_for_every_wall() -> None:
    limits = Limits(memory_bytes=1 << 28, cpus=0.5, pids=99, shm_bytes=1 << 20, tmp_bytes=1 << 22)
    mounts = (Mount("/host/in", "/in", "read"), Mount("/host/out", "/out", "write"))
    body = container_body(
        "sha256:" + 64 * "0", limits, Identity(1879048193, 1879048194), mounts,
        {"/tmp/key": ("/run/x/0", True)}, confine="/usr/lib/confine", handed="/run/x/socket",
    )  # fmt: skip
    assert body["User"] == "1879048193:1879048194"
    assert body["Entrypoint"] == ["/.dativo/confine"] and body["Healthcheck"] == {"Test": ["NONE"]}
    host = body["HostConfig"]
    assert host["CapDrop"] == ["ALL"] and host["ReadonlyRootfs"] is True
    assert host["NetworkMode"] == "none" and host["LogConfig"]["Type"] == "none"
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (1 << 28, 1 << 28, 99)
    assert host["CpuQuota"] * 2 == host["CpuPeriod"] and host["ShmSize"] == 1 << 20
    no_new_privileges, seccomp = host["SecurityOpt"]
    assert no_new_privileges == "no-new-privileges:true"
    assert json.loads(seccomp.removeprefix("seccomp=")) == docker_profile(POLICY)
    for never in (
        "Privileged",
        "CapAdd",
        "Devices",
        "PidMode",
        "VolumesFrom",
        "PortBindings",
        "Runtime",
    ):
        assert never not in host
    writable = {mount["Target"] for mount in host["Mounts"] if not mount.get("ReadOnly")}
    assert writable == {"/tmp", "/out", "/tmp/key"}
    [tmp] = [mount for mount in host["Mounts"] if mount["Target"] == "/tmp"]
    assert tmp["TmpfsOptions"] == {"SizeBytes": 1 << 22, "Mode": 0o1777}


def test_what_liesin_memory() -> None:
    lines = (
        "1 0 254:0 /vfs/1 / ro,relatime - ext4 /dev/vda rw",
        "2 1 0:80 / /dev rw,nosuid - tmpfs tmpfs rw",
        "3 1 0:136 / /sys ro,relatime - tmpfs tmpfs ro",
        "4 1 0:80 /null /proc/keys rw,nosuid - tmpfs tmpfs rw",
        "5 1 0:85 / /tmp rw,nosuid master:3 - tmpfs tmpfs rw,size=262144k",
        "6 1 0:86 / /var/my\\040data rw,nosuid - tmpfs tmpfs rw",
        "7 1 0:87 /file /etc/passwd ro - tmpfs tmpfs rw",
    )
    assert in_memory("\n".join(lines)) == ["/tmp", "/var/my data"]


def test_only_root_speaks_to_an_engine() -> None:
    container = Container("sha256:" + 64 * "0", Path("/run/docker.sock"))
    program = Program("shop", ("/app/run",), container=container)
    with pytest.raises(WallMissing, match="only root may"):
        begin_in_docker(program, container, Grants(), None, Handed(None, None, None, None))
