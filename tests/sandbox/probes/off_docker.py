"""Take walls off that Docker Engine has built: another request to it, and other filters. For tests alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest import mock

from tests.sandbox.probes.catalogue import STAYS, WALLS
from tests.sandbox.probes.off import (
    PR_SET_DUMPABLE,
    believe,
    filter_without,
    limits_without,
    writable_view,
)
from tests.sandbox.probes.scene import LAUNCHERS_SECRET, SECRET, Scene

from dativo.sandbox import docker_body, docker_launch

_MODES: Final = {
    "net": "NetworkMode",
    "ipc": "IpcMode",
    "uts": "UTSMode",
    "cgroup-ns": "CgroupnsMode",
}


@contextmanager
def without_in_docker(
    walls: Collection[str], scene: Scene, *, stamped: bool = False, believed: bool = True
) -> Iterator[None]:
    """Launch as usual, without ``walls``, as off.without does."""
    assert set(walls) <= set(WALLS) - STAYS
    blob = scene.root / "filter.bpf"
    blob.write_bytes(filter_without(walls, stamped=stamped))
    with ExitStack() as stack:

        def patch(name: str, value: Any) -> None:
            stack.enter_context(mock.patch.object(docker_launch, name, value))

        def body(*arguments: Any, **options: Any) -> dict[str, Any]:
            return body_without(walls, docker_body.container_body(*arguments, **options), scene)

        patch("blob_path", lambda: blob)
        patch("container_body", body)
        if walls and believed:
            patch("verify", believe)
        if "read-only" in walls:
            patch("plan_view", writable_view)
        if "rlimits" in walls:
            patch("rlimits", limits_without({"rlimits"}))
        yield


def body_without(walls: Collection[str], body: dict[str, Any], scene: Scene) -> dict[str, Any]:
    """Change the request to the engine."""
    host = body["HostConfig"]
    for name, mode in _MODES.items():
        if name in walls:
            host[mode] = "host"
    if {"net", "uts"} & set(walls):
        del body["Hostname"]
    if "net" in walls:
        del body["NetworkDisabled"]
    if "root-ro" in walls:
        host["ReadonlyRootfs"] = False
    if "environment" in walls:
        body["Env"] = [f"{LAUNCHERS_SECRET}={SECRET}"]
    if "mounts" in walls:
        show_host(host, scene)
    no_new_privileges, profile = host["SecurityOpt"]
    if "seccomp" in walls:
        profile = "seccomp=unconfined"
    elif "undumpable" in walls:
        profile = f"seccomp={json.dumps(dumpable(json.loads(profile.partition('=')[2])))}"
    host["SecurityOpt"] = [no_new_privileges, profile]
    return body


def show_host(host: dict[str, Any], scene: Scene) -> None:
    """Bind what the host has: its accounts over ours, what was not granted, and /sys."""
    mounts: list[dict[str, Any]] = host["Mounts"]
    own = [mount for mount in mounts if mount["Target"] != "/etc/passwd"]
    shown = [("/etc/passwd", True), ("/etc/shadow", True), (str(scene.hidden), False)]
    host["Mounts"] = own + [
        {"Type": "bind", "Source": path, "Target": path, "ReadOnly": read_only}
        for path, read_only in shown
    ]
    host["MaskedPaths"] = [path for path in host["MaskedPaths"] if path != "/sys"]


def dumpable(profile: dict[str, Any]) -> dict[str, Any]:
    """Have prctl(PR_SET_DUMPABLE) do nothing and succeed: dativo-confine does it before it puts up the filter of ours."""
    rules = profile["syscalls"]
    for rule in rules:
        rule["names"] = [name for name in rule["names"] if name != "prctl"]
    argument = {"index": 0, "value": PR_SET_DUMPABLE}
    rules += [
        {
            "names": ["prctl"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{**argument, "op": "SCMP_CMP_NE"}],
        },
        {
            "names": ["prctl"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 0,
            "args": [{**argument, "op": "SCMP_CMP_EQ"}],
        },
    ]
    return profile
