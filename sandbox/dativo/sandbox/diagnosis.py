"""What bubblewrap's and stage 1's messages mean on known hosts, and what to type."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dativo.sandbox.errors import SandboxError, StartFailed, WallMissing

APPARMOR: Final = (
    "Give bubblewrap a profile that permits user namespaces: put\n"
    "  abi <abi/4.0>,\n  include <tunables/global>\n"
    "  profile bwrap /usr/bin/bwrap flags=(unconfined) { userns, }\n"
    "into /etc/apparmor.d/bwrap and type: systemctl reload apparmor"
)
_SYSCTLS: Final = (
    "Type as root: sysctl -w user.max_user_namespaces=15000, and where it exists "
    "sysctl -w kernel.unprivileged_userns_clone=1"
)
CONTAINER: Final = (
    "In Docker, with the files of docs/guide/containers, type: docker run --user 1000:1000 --cap-drop ALL "
    "--security-opt no-new-privileges --security-opt seccomp=seccomp.json --security-opt systempaths=unconfined IMAGE, and on "
    "a host with AppArmor --security-opt apparmor=dativo; in Kubernetes: pod.yaml (procMount: Unmasked, hostUsers: false). "
    "docs/guide/kubernetes.md says why"
)

_UNKNOWN: Final = "Try each wall with: dativo doctor. Install bubblewrap 0.8 or later; build dativo's executables anew: uv sync."
_ENGINE: Final = (
    "Docker Engine must run, and have the image under this id: "
    "see docker images --no-trunc, and docker load --input ARCHIVE"
)
_OURS: Final = ("dativo-confine stage", "dativo-confine container", "dativo-docker")
_FILTERED: Final = (
    "a system call filter over this process, such as a container's, refuses namespaces"
)


@dataclass(frozen=True, slots=True)
class _Sign:
    """``filtered``: it means this only under a system call filter that was there before us, such as a container's."""

    text: bytes
    wall: str
    meaning: str
    remedy: str
    filtered: bool = False


# In this order: the first that occurs is the cause. Ubuntu 23.10 and later deny capabilities in user namespaces of
# programs without a profile, which shows in either of the first two ways (bubblewrap issue 632).
_SIGNS: Final = (
    _Sign(b"setting up uid map", "namespaces", "AppArmor keeps bubblewrap from mapping a user", APPARMOR),
    _Sign(b"RTM_NEWADDR", "namespaces", "AppArmor keeps bubblewrap from its own network", APPARMOR),
    _Sign(b"No permissions to creat", "namespaces", _FILTERED, CONTAINER, filtered=True),
    _Sign(b"reating new namespace failed", "namespaces", _FILTERED, CONTAINER, filtered=True),
    _Sign(b"No permissions to creat", "namespaces", "unprivileged user namespaces are switched off", _SYSCTLS),
    _Sign(b"reating new namespace failed", "namespaces", "new namespaces are refused here", _SYSCTLS),
    _Sign(b"an't mount proc", "namespaces", "parts of /proc are masked, so a new one is refused", CONTAINER),
    _Sign(b"ake / slave: Permission denied", "mounts", "AppArmor keeps this container from mounting", CONTAINER),
    _Sign(b"ake / slave: Operation not permitted", "mounts", "a system call filter refuses mounting", CONTAINER),
    _Sign(b"unshare of the mount", "mounts", "mount namespaces may not be made here", CONTAINER),
    _Sign(
        b"setresgid: Invalid",
        "identity",
        "this root is one of a user namespace that has no such uid",
        "Run as a plain user instead, or map 0x70000000 and the numbers above it into the namespace.",
    ),
    _Sign(b"prctl(PR_SET_SECCOMP)", "seccomp", "the kernel refuses seccomp filters", "Use a kernel with CONFIG_SECCOMP_FILTER."),
    _Sign(b"Unknown option", "bubblewrap", "this bubblewrap is too old", "Install bubblewrap 0.8 or later."),
    _Sign(
        b"an't find source path",
        "mounts",
        "a path cannot be reached by the user that runs this",
        "Make it readable for that user, or run as root.",
    ),
)  # fmt: skip


def explain(stderr: bytes, status: int | None, *, attested: bool = False) -> SandboxError:
    """Return the error for a launch that ended before the program ran; ``status`` is bubblewrap's or stage 1's.

    ``attested``: the walls were found to stand before, so it is not they that are missing.
    """
    lines = [line for line in stderr.splitlines() if line.strip()]
    said = lines[-1].decode("utf-8", "replace") if lines else "nothing was said"
    for sign in _SIGNS:
        if sign.text in stderr and (not sign.filtered or under_filter()):
            return WallMissing(sign.wall, f"{sign.meaning} ({said})", sign.remedy)
    wall, reason = stage_failure(said)
    if wall:
        return WallMissing(wall, reason, _ENGINE if wall == "docker" else _UNKNOWN)
    reason = f"bubblewrap ended with status {status}: {said}"
    if attested:
        return StartFailed(reason, stderr)
    return WallMissing("bubblewrap", reason, _UNKNOWN)


def stage_failure(said: str) -> tuple[str, str]:
    """Split ``dativo-confine stage1: WALL: REASON`` (or of another of our programs); the wall is empty for any other text."""
    prefix, _, rest = said.partition(": ")
    wall, _, reason = rest.partition(": ")
    return (wall, reason) if prefix.startswith(_OURS) and reason else ("", said)


def under_filter() -> bool:
    """Whether this process itself, which installs none, stands under a seccomp filter (proc_pid_status(5))."""
    return "\nSeccomp:\t2\n" in Path("/proc/self/status").read_text("utf-8", "replace")
