"""What Docker Engine is asked for: the walls of a container, as the body of POST /containers/create."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from dativo.sandbox import cgroup
from dativo.sandbox.docker_keeper import LAUNCHER_LABEL, launcher_name
from dativo.sandbox.docker_profile import docker_profile
from dativo.sandbox.mounts import HOSTNAME, STAGE2, Mount
from dativo.sandbox.program import Identity, Limits
from dativo.sandbox.seccomp.policy import load_policy

SOCKET: Final = "/.dativo/socket"
# Docker's own list (moby, oci/defaults.go), and all of /sys.
_MASKED: Final = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys",
)


def container_body(
    image: str,
    limits: Limits,
    identity: Identity,
    mounts: tuple[Mount, ...],
    files: Mapping[str, tuple[str, bool]],
    *,
    confine: str,
    handed: str,
) -> dict[str, Any]:
    """Return the body. ``files`` are the small files inside, each with its source and whether it may be written; ``handed`` is
    the socket of the launcher, ``confine`` the entry point.
    """
    quota, period = cgroup.quota_us(limits.cpus), cgroup.PERIOD_US
    own = (Mount(confine, STAGE2, "execute"), Mount(handed, SOCKET, "read"))
    shown = [_bind(mount.source, mount.inside, mount.writable) for mount in (*own, *mounts)]
    shown += [_bind(source, inside, writable) for inside, (source, writable) in files.items()]
    tmp = {"SizeBytes": limits.tmp_bytes, "Mode": 0o1777}
    return {
        "Image": image,
        "User": f"{identity.uid}:{identity.gid}",
        "Entrypoint": [STAGE2],
        "Cmd": ["container", SOCKET],
        "Env": [],
        "WorkingDir": "/",
        "Hostname": HOSTNAME,
        "Labels": {LAUNCHER_LABEL: launcher_name(os.getpid())},
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGKILL",
        "NetworkDisabled": True,
        "HostConfig": {
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": [
                "no-new-privileges:true",
                f"seccomp={json.dumps(docker_profile(load_policy()))}",
            ],
            "LogConfig": {"Type": "none", "Config": {}},
            "MaskedPaths": list(_MASKED),
            "RestartPolicy": {"Name": "no"},
            "IpcMode": "private",
            "CgroupnsMode": "private",
            # Our range of uids lies beyond those that an engine with users of its own would map.
            "UsernsMode": "host",
            "Memory": limits.memory_bytes,
            "MemorySwap": limits.memory_bytes,
            "CpuPeriod": period,
            "CpuQuota": quota,
            "PidsLimit": limits.pids,
            "ShmSize": limits.shm_bytes,
            "Mounts": [{"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": tmp}, *shown],  # noqa: S108 - inside
        },
    }


def _bind(source: str, inside: str, writable: bool) -> dict[str, Any]:
    # What is mounted below a source is not shown: the engine would leave it writable.
    options = {"Propagation": "rprivate", "NonRecursive": True}
    return {
        "Type": "bind",
        "Source": source,
        "Target": inside,
        "ReadOnly": not writable,
        "BindOptions": options,
    }
