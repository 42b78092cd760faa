"""What a machine's own files say of it: each detector reads them below a root, and says nothing where there is nothing to say.

No wall is judged here: the doctor builds and climbs them. This tells why one may be missing, and what to type.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dativo.sandbox.diagnosis import APPARMOR, CONTAINER
from dativo.sandbox.status import WallStatus

_MAX_BYTES: Final = 1 << 20
_SYSTEMD: Final = "/run/systemd/system"
# userspace-api/landlock.rst: what each ABI brought.
_LANDLOCK: Final = (
    (1, "files"),
    (2, "moving files between folders"),
    (3, "truncation"),
    (4, "TCP ports"),
    (5, "ioctl on devices"),
    (6, "signals and abstract sockets"),
)


@dataclass(frozen=True, slots=True)
class Host:
    """Where the files are, and who asks."""

    root: Path = Path("/")
    uid: int = 0

    def text(self, path: str) -> str | None:
        """Read a file below the root, at most 1 MiB of it; None where there is none or it may not be read."""
        try:
            with (self.root / path.lstrip("/")).open("rb") as file:
                return file.read(_MAX_BYTES).decode("utf-8", "replace")
        except OSError:
            return None

    def word(self, path: str) -> str | None:
        """Read a file of one value."""
        text = self.text(path)
        return None if text is None else text.strip()

    def has(self, path: str) -> bool:
        """Tell whether something is there."""
        return os.path.lexists(self.root / path.lstrip("/"))


def look(host: Host) -> tuple[WallStatus, ...]:
    """Return what every detector has to say."""
    return tuple(status for detect in DETECTORS for status in detect(host))


def user_namespaces(host: Host) -> Iterable[WallStatus]:
    """user_namespaces(7); the second file is Debian's and Arch's."""
    switches = (
        ("user.max_user_namespaces", "/proc/sys/user/max_user_namespaces", "15000"),
        ("kernel.unprivileged_userns_clone", "/proc/sys/kernel/unprivileged_userns_clone", "1"),
    )
    for name, path, value in switches:
        if host.word(path) == "0":
            yield WallStatus(
                name,
                "missing",
                f"{name} is 0: no user namespace can be made here, and no wall can be built without one",
                f"Type as root: sysctl -w {name}={value}, and to keep it: "
                f"echo {name}={value} >/etc/sysctl.d/60-dativo.conf",
            )


def apparmor(host: Host) -> Iterable[WallStatus]:
    """Ubuntu from 23.10 on: a user namespace made by a program without a profile has no capabilities."""
    if host.word("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") != "1":
        return
    profiles = host.text("/sys/kernel/security/apparmor/profiles")
    profile = profiles is not None and any(
        line.startswith(("bwrap ", "/usr/bin/bwrap ")) for line in profiles.splitlines()
    )
    if (
        profile
        or host.has("/etc/apparmor.d/bwrap")
        or host.has("/etc/apparmor.d/bwrap-userns-restrict")
    ):
        yield WallStatus(
            "apparmor",
            "note",
            "only programs with a profile have user namespaces here, and bubblewrap has one",
        )
        return
    yield WallStatus(
        "apparmor",
        "missing",
        "only programs with a profile have user namespaces here (kernel.apparmor_restrict_unprivileged_userns is 1), and "
        "bubblewrap has none: it says 'setting up uid map: Permission denied' or 'Failed RTM_NEWADDR'",
        APPARMOR,
    )


def container(host: Host) -> Iterable[WallStatus]:
    """Containers mask parts of /proc, and the kernel then lets nobody in them mount a new one (mount_too_revealing())."""
    masked = sorted(
        line.split()[4]
        for line in (host.text("/proc/self/mountinfo") or "").splitlines()
        if line.split()[4].startswith("/proc/") and line.split()[4] != "/proc/sys/fs/binfmt_misc"
    )
    if masked:
        shown = ", ".join(masked[:4]) + (f" and {len(masked) - 4} more" if len(masked) > 4 else "")
        yield WallStatus(
            "container",
            "missing",
            f"parts of /proc are masked ({shown}), as a container's are: nobody inside mounts a /proc of their own",
            CONTAINER,
        )
    elif host.has("/.dockerenv") or host.has("/run/.containerenv"):
        yield WallStatus("container", "note", "this is a container, whose /proc is not masked")


def filtered(host: Host) -> Iterable[WallStatus]:
    """A filter that was there before us."""
    for line in (host.text("/proc/self/status") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "Seccomp_filters" and value.strip() != "0":
            yield WallStatus(
                "filter",
                "note",
                f"{value.strip()} system call filters are over this process already, such as a container's: "
                "they stay over all that it starts",
            )


def wsl(host: Host) -> Iterable[WallStatus]:
    """Windows Subsystem for Linux 2; version 1 has no such kernel."""
    version = host.text("/proc/version") or ""
    if "microsoft" not in version.lower():
        return
    if host.has(_SYSTEMD):
        yield WallStatus("wsl", "note", "WSL 2, under systemd: as on any Linux")
        return
    yield WallStatus(
        "wsl",
        "note",
        "WSL 2 without systemd: nothing delegates a cgroup, so that only root has one",
        "Put [boot] and below it systemd=true into /etc/wsl.conf, and type in Windows: wsl --shutdown",
    )


def binfmt(host: Host) -> Iterable[WallStatus]:
    """binfmt-misc.rst: with the flag F an interpreter is opened when it is registered, and found from any root."""
    folder = host.root / "proc/sys/fs/binfmt_misc"
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return
    fixed = []
    for name in names:
        lines = (host.text(f"/proc/sys/fs/binfmt_misc/{name}") or "").splitlines()
        flags = next((line.partition(":")[2] for line in lines if line.startswith("flags:")), "")
        if lines[:1] == ["enabled"] and "F" in flags:
            fixed.append(name)
    if fixed:
        yield WallStatus(
            "binfmt_misc",
            "note",
            f"files of {', '.join(fixed)} are run by a program of this machine that is not seen inside the walls; it runs behind "
            "them all the same",
            "Where nobody needs it, type as root: "
            + "; ".join(f"echo -1 >/proc/sys/fs/binfmt_misc/{name}" for name in fixed),
        )


def yama(host: Host) -> Iterable[WallStatus]:
    """Yama.rst: who may trace whom, outside the walls."""
    scope = host.word("/proc/sys/kernel/yama/ptrace_scope")
    if scope in (None, "0"):
        yield WallStatus(
            "yama",
            "note",
            "outside the walls, a program of this user can trace others of this user, but not dativo; one inside can trace none",
            "" if scope is None else "Type as root: sysctl -w kernel.yama.ptrace_scope=1",
        )


def controllers(host: Host) -> Iterable[WallStatus]:
    """The memory controller, which some kernels are booted without (Raspberry Pi OS)."""
    for line in (host.text("/proc/cgroups") or "").splitlines():
        words = line.split()
        if words[:1] == ["memory"] and words[3:4] == ["0"]:
            yield WallStatus(
                "memory controller",
                "missing",
                "this kernel was booted without it, so that no cgroup bounds memory",
                "Add cgroup_enable=memory to the kernel's command line (/boot/firmware/cmdline.txt or "
                "/etc/default/grub) and reboot.",
            )


def delegation(host: Host) -> str:
    """Return what to type for a cgroup that this user may divide."""
    if host.uid == 0:
        return (
            "Type: systemd-run --scope -p Delegate=yes COMMAND. Without systemd, have a cgroup mounted that can be written, "
            "with the memory, pids and cpu controllers."
        )
    command = "systemd-run --user --scope -p Delegate=yes COMMAND"
    if not host.has(_SYSTEMD):
        return (
            "Without systemd, as root: make a cgroup with the memory, pids and cpu controllers, give it and its files to this "
            "user, and start dativo in it; or run dativo as root."
        )
    if host.has(f"/run/user/{host.uid}/systemd/private"):
        return f"Type: {command}"
    # cron, sudo -u, a service: nobody has logged in, so that no systemd of this user's runs.
    return (
        "No systemd of this user's runs, as under cron or sudo -u. Type once as root: "
        f"loginctl enable-linger {host.uid}, and then: XDG_RUNTIME_DIR=/run/user/{host.uid} {command}"
    )


def landlock(host: Host, abi: int) -> WallStatus:
    """Tell what the ABI that was attested has, and why there is none."""
    if abi:
        has = ", ".join(what for number, what in _LANDLOCK if number <= abi)
        lacks = ", ".join(what for number, what in _LANDLOCK if number > abi)
        behind = (
            f"; this kernel's has no rules for {lacks}, where other walls stand alone"
            if lacks
            else ""
        )
        return WallStatus("landlock", "up", f"ABI {abi}: {has}{behind}")
    modules = host.word("/sys/kernel/security/lsm")
    if modules is None:
        why, remedy = "this kernel has none", "Boot a kernel with CONFIG_SECURITY_LANDLOCK."
    elif "landlock" in modules.split(","):
        why, remedy = "it is switched off", "Boot without whatever switches it off."
    else:
        why = "it is not among the security modules of this boot"
        remedy = f"Boot with lsm=landlock,{modules} on the kernel's command line."
    return WallStatus(
        "landlock",
        "degraded",
        f"{why}: the mounts stand alone, and what is written can be executed",
        remedy,
    )


DETECTORS: Final[tuple[Callable[[Host], Iterable[WallStatus]], ...]] = (
    user_namespaces,
    apparmor,
    container,
    filtered,
    wsl,
    controllers,
    yama,
    binfmt,
)
