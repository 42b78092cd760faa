"""What files of known machines mean; the contents are as captured there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from dativo.sandbox import host
from dativo.sandbox.doctor import bubblewrap_status, judge
from dativo.sandbox.host import Host
from dativo.sandbox.status import WallStatus

# Debian 12's `bwrap --help`, first words of its lines.
OPTIONS_0_8 = """usage: bwrap [OPTIONS...] [--] COMMAND [ARGS...]
    --help --version --args FD --unshare-all --share-net --unshare-user --unshare-user-try --unshare-ipc
    --unshare-pid --unshare-net --unshare-uts --unshare-cgroup --unshare-cgroup-try --userns FD --userns2 FD
    --disable-userns --assert-userns-disabled --pidns FD --uid UID --gid GID --hostname NAME --chdir DIR --clearenv
    --setenv VAR VALUE --unsetenv VAR --lock-file DEST --sync-fd FD --bind SRC DEST --dev-bind SRC DEST
    --ro-bind SRC DEST --remount-ro DEST --exec-label LABEL --proc DEST --dev DEST --tmpfs DEST --mqueue DEST
    --dir DEST --file FD DEST --bind-data FD DEST --ro-bind-data FD DEST --symlink SRC DEST --seccomp FD
    --add-seccomp-fd FD --block-fd FD --info-fd FD --new-session --die-with-parent --as-pid-1 --cap-add CAP
    --perms OCTAL --size BYTES --chmod OCTAL PATH
"""


@pytest.fixture
def machine(tmp_path: Path) -> Host:
    return Host(tmp_path, uid=1000)


def put(machine: Host, path: str, text: str = "") -> None:
    file = machine.root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def only(found: Iterable[WallStatus]) -> WallStatus:
    (status,) = found
    return status


def test_a_machine_that_says_nothing(machine: Host) -> None:
    assert [status.name for status in host.look(machine)] == ["yama"]


@pytest.mark.parametrize("name", ["user.max_user_namespaces", "kernel.unprivileged_userns_clone"])
def test_user_namespaces_that_are_off(machine: Host, name: str) -> None:
    path = "/proc/sys/" + name.replace(".", "/")
    put(machine, path, "0\n")
    found = only(host.user_namespaces(machine))
    assert (found.name, found.state) == (name, "missing")
    assert f"sysctl -w {name}=" in found.remedy
    put(machine, path, "31231\n")
    assert not list(host.user_namespaces(machine))


def test_apparmor_of_ubuntu_24_04(machine: Host) -> None:
    assert not list(host.apparmor(machine))
    put(machine, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")
    found = only(host.apparmor(machine))
    assert found.state == "missing"
    assert "setting up uid map" in found.meaning and "RTM_NEWADDR" in found.meaning
    assert "/etc/apparmor.d/bwrap" in found.remedy and "userns," in found.remedy
    put(
        machine,
        "/sys/kernel/security/apparmor/profiles",
        "bwrap (unconfined)\nfirefox (unconfined)\n",
    )
    assert only(host.apparmor(machine)).state == "note"


def test_a_profile_that_only_root_could_list(machine: Host) -> None:
    put(machine, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")
    put(machine, "/etc/apparmor.d/bwrap-userns-restrict")
    assert only(host.apparmor(machine)).state == "note"


def test_a_container_whose_proc_is_masked(machine: Host) -> None:
    lines = [
        "632 631 0:62 / / rw,relatime - overlay overlay rw",
        "633 632 0:65 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw",
        "640 633 0:65 /bus /proc/bus ro,nosuid,nodev,noexec,relatime - proc proc rw",
        "641 633 0:66 / /proc/acpi ro,relatime - tmpfs tmpfs ro",
        "642 633 0:67 /null /proc/kcore rw,nosuid - tmpfs tmpfs rw",
        "643 633 0:67 /null /proc/keys rw,nosuid - tmpfs tmpfs rw",
        "644 633 0:67 /null /proc/timer_list rw,nosuid - tmpfs tmpfs rw",
    ]
    put(machine, "/proc/self/mountinfo", "\n".join(lines) + "\n")
    found = only(host.container(machine))
    assert found.state == "missing"
    assert "/proc/acpi, /proc/bus, /proc/kcore, /proc/keys and 1 more" in found.meaning
    assert "systempaths=unconfined" in found.remedy
    binfmt = "38 25 0:34 / /proc/sys/fs/binfmt_misc rw,relatime - autofs systemd-1 rw"
    put(machine, "/proc/self/mountinfo", "\n".join([*lines[:2], binfmt]) + "\n")
    assert not list(host.container(machine))
    put(machine, "/.dockerenv")
    assert only(host.container(machine)).state == "note"


def test_a_filter_that_was_there_before(machine: Host) -> None:
    put(machine, "/proc/self/status", "Name:\tcat\nSeccomp:\t2\nSeccomp_filters:\t1\n")
    assert "1 system call filter" in only(host.filtered(machine)).meaning
    put(machine, "/proc/self/status", "Name:\tcat\nSeccomp:\t0\nSeccomp_filters:\t0\n")
    assert not list(host.filtered(machine))


def test_wsl_2(machine: Host) -> None:
    put(machine, "/proc/version", "Linux version 6.1.0-18-amd64 (debian-kernel@lists.debian.org)\n")
    assert not list(host.wsl(machine))
    put(
        machine,
        "/proc/version",
        "Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1) (gcc 11.2.0)\n",
    )
    found = only(host.wsl(machine))
    assert "systemd=true" in found.remedy and "wsl --shutdown" in found.remedy
    (machine.root / "run/systemd/system").mkdir(parents=True)
    assert not only(host.wsl(machine)).remedy


def test_interpreters_from_outside(machine: Host) -> None:
    folder = "/proc/sys/fs/binfmt_misc"
    put(machine, f"{folder}/status", "enabled\n")
    put(machine, f"{folder}/register")
    put(
        machine,
        f"{folder}/qemu-aarch64",
        "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\nmagic 7f45\n",
    )
    put(
        machine,
        f"{folder}/python3.11",
        "enabled\ninterpreter /usr/bin/python3.11\nflags: \noffset 0\n",
    )
    put(machine, f"{folder}/off", "disabled\ninterpreter /x\nflags: F\n")
    found = only(host.binfmt(machine))
    assert found.state == "note"
    assert "qemu-aarch64" in found.meaning
    assert "python3.11" not in found.meaning and "off" not in found.meaning.split()
    assert found.remedy.endswith("echo -1 >/proc/sys/fs/binfmt_misc/qemu-aarch64")


def test_yama(machine: Host) -> None:
    path = "/proc/sys/kernel/yama/ptrace_scope"
    put(machine, path, "0\n")
    assert "ptrace_scope=1" in only(host.yama(machine)).remedy
    put(machine, path, "1\n")
    assert not list(host.yama(machine))


def test_a_kernel_without_the_memory_controller(machine: Host) -> None:
    head = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t0\t64\t1\n"
    put(machine, "/proc/cgroups", head + "memory\t0\t64\t0\npids\t0\t64\t1\n")
    assert "cgroup_enable=memory" in only(host.controllers(machine)).remedy
    put(machine, "/proc/cgroups", head + "memory\t0\t64\t1\n")
    assert not list(host.controllers(machine))


def test_what_to_type_for_a_cgroup(machine: Host) -> None:
    scope = "systemd-run --user --scope -p Delegate=yes COMMAND"
    assert "Without systemd" in host.delegation(machine)
    (machine.root / "run/systemd/system").mkdir(parents=True)
    cron = host.delegation(machine)
    assert "loginctl enable-linger 1000" in cron
    assert cron.endswith(f"XDG_RUNTIME_DIR=/run/user/1000 {scope}")
    put(machine, "/run/user/1000/systemd/private")
    assert host.delegation(machine) == f"Type: {scope}"
    assert "--user" not in host.delegation(Host(machine.root, uid=0))


@pytest.mark.parametrize(
    ("abi", "has", "lacks"),
    [
        (1, "ABI 1: files;", "moving files between folders, truncation, TCP ports"),
        (4, "truncation, TCP ports;", "ioctl on devices, signals"),
        (7, "signals and abstract sockets", ""),
    ],
)
def test_landlock_by_its_abi(machine: Host, abi: int, has: str, lacks: str) -> None:
    found = host.landlock(machine, abi)
    assert found.state == "up"
    assert has in found.meaning
    assert ("no rules for" in found.meaning) == bool(lacks)
    assert lacks in found.meaning


def test_why_there_is_no_landlock(machine: Host) -> None:
    assert "this kernel has none" in host.landlock(machine, 0).meaning
    put(machine, "/sys/kernel/security/lsm", "capability,yama,apparmor\n")
    found = host.landlock(machine, 0)
    assert found.state == "degraded" and "not among" in found.meaning
    assert "lsm=landlock,capability,yama,apparmor" in found.remedy


# --- bubblewrap, and what was climbed ---------------------------------------------------------------------------------


def test_bubblewrap_is_judged_by_its_options() -> None:
    up, note = bubblewrap_status("/usr/bin/bwrap", "bubblewrap 0.8.0\n", OPTIONS_0_8)
    assert (up.state, note.state, note.name) == ("up", "note", "CVE-2026-87766")
    old = OPTIONS_0_8.replace("--size BYTES", "").replace("--as-pid-1", "")
    (found,) = bubblewrap_status("/usr/bin/bwrap", "bubblewrap 0.4.0\n", old)
    assert found.state == "missing" and "has no --size, --as-pid-1" in found.meaning
    assert "apt install bubblewrap" in found.remedy
    (found,) = bubblewrap_status("/usr/bin/bwrap", "bubblewrap 0.12.1\n", OPTIONS_0_8)
    assert found.state == "up"


def test_a_wall_that_was_climbed_is_missing_whatever_it_attested() -> None:
    up = WallStatus("mounts", "up", "a root of its own")
    held = {"wall": "mounts", "what": "writing to /usr", "refused": "EROFS"}
    assert judge(up, [held]).meaning == "a root of its own; tried: writing to /usr (EROFS)"
    over = {"wall": "mounts", "what": "reading /etc/shadow", "refused": None}
    found = judge(up, [held, over])
    assert (found.state, found.meaning) == (
        "missing",
        "it was climbed: reading /etc/shadow succeeded",
    )
    assert judge(WallStatus("network", "up", "none"), [over]).state == "up"


def test_what_no_landlock_lets_through_is_no_news() -> None:
    """Where it is degraded, execution of what was written is what its meaning says."""
    degraded = WallStatus("landlock", "degraded", "none here", "Boot")
    act = {"wall": "landlock", "what": "executing what was written", "refused": None}
    assert judge(degraded, [act]) == degraded
