"""The kernel's surface (C of the attack list)."""

from __future__ import annotations

from typing import Final

from tests.sandbox.probes.catalogue import MACHINE, Probe, answers

from dativo.sandbox.seccomp.policy import load_table

_NUMBER: Final = load_table(MACHINE)
CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SYS_MODULE, CAP_SYS_BOOT, CAP_SYSLOG = 21, 18, 16, 22, 34
CAP_SYS_PACCT: Final = 20
_X86: Final = "x86_64"


def _call(
    id: str,
    title: str,
    name: str,
    *arguments: str,
    works: tuple[str, ...] = (),
    machine: str | None = None,
) -> Probe:
    """A system call that only the filter refuses; ``works`` is the kernel's own answer to these arguments."""
    number = str(_NUMBER.get(name, -1))
    walls = answers(seccomp="EPERM")
    return Probe(id, title, "call", (number, *arguments), walls, works=works, machine=machine)


def _privileged(
    id: str,
    title: str,
    name: str,
    *arguments: str,
    needs: int,
    works: tuple[str, ...] = (),
    carried: bool = False,
) -> Probe:
    """A system call that takes a capability: of the own namespaces, or, where it is carried, of the host's."""
    walls = answers(seccomp="EPERM") if carried else answers(seccomp="EPERM", capabilities="EPERM")
    return Probe(
        id,
        title,
        "call",
        (str(_NUMBER[name]), *arguments),
        walls,
        works=works,
        needs=needs,
        carried=carried,
    )


PROBES: Final = (
    _call("C34", "make a user namespace", "unshare", "0x10000000"),
    Probe("C34clone", "make a process in a user namespace", "clone_with", ("0x10000000",),
          answers(seccomp="EPERM")),
    Probe("C35", "clone by the newer call", "call", (str(_NUMBER["clone3"]), "null", "0"),
          answers(seccomp="ENOSYS"), works=("EINVAL",)),
    _call("C36", "join a namespace", "setns", "-1", "0", works=("EBADF",)),
    Probe("C37", "mount a file system", "mount_tmpfs", (),
          answers(seccomp="EPERM", capabilities="EPERM", landlock="EPERM"), needs=CAP_SYS_ADMIN),
    _call("C37off", "take a mount off", "umount2", "null", "0", works=("EFAULT",)),
    _privileged("C37pivot", "put another root in place", "pivot_root", "null", "null",
                needs=CAP_SYS_ADMIN, works=("EFAULT",)),
    Probe("C37root", "change the root", "change_root", (),
          answers(seccomp="EPERM", capabilities="EPERM"), needs=CAP_SYS_CHROOT),
    _privileged("C37fs", "open a file system", "fsopen", "text:tmpfs", "0", needs=CAP_SYS_ADMIN),
    _call("C37tree", "take a handle of a mount", "open_tree", "-100", "text:/", "0"),
    _privileged("C37move", "move a mount", "move_mount", "-1", "null", "-1", "null", "0",
                needs=CAP_SYS_ADMIN, works=("EBADF", "EFAULT")),
    _call("C38", "load a program into the kernel", "bpf", "99", "null", "0", works=("EINVAL",)),
    _call("C39", "count events of the processor", "perf_event_open", "null", "0", "-1", "-1",
          "0x40000000", works=("EINVAL",)),
    _call("C40", "do system calls by a ring", "io_uring_setup", "0", "null",
          works=("EINVAL", "EFAULT")),
    _call("C41", "serve page faults", "userfaultfd", "1"),
    _call("C42", "reach the session's keys", "keyctl", "0", "-1", "1"),
    _call("C42add", "add a key", "add_key", "null", "null", "null", "0", "0", works=("EFAULT",)),
    _call("C42request", "ask for a key", "request_key", "null", "null", "null", "0",
          works=("EFAULT",)),
    _privileged("C43kexec", "load another kernel", "kexec_load", "null", "0", "null", "0xffff",
                needs=CAP_SYS_BOOT, works=("EINVAL", "ENOSYS"), carried=True),
    _privileged("C43module", "load a module", "init_module", "null", "0", "null",
                needs=CAP_SYS_MODULE, works=("ENOEXEC", "EFAULT", "ENOSYS"), carried=True),
    _privileged("C43boot", "restart the machine", "reboot", "0", "0", "0", "null",
                needs=CAP_SYS_BOOT, works=("EINVAL",), carried=True),
    _call("C43swap", "swap to a file", "swapon", "null", "0x7fff0000", works=("EINVAL",)),
    _call("C43quota", "change quotas", "quotactl", "0xffff", "null", "0", "null",
          works=("EINVAL",)),
    Probe("C43time", "set the clock", "invalid_time", (str(_NUMBER["settimeofday"]),),
          answers(seccomp="EPERM"), works=("EINVAL",)),
    _privileged("C43account", "have every process's end written down", "acct", "text:/nowhere/x",
                needs=CAP_SYS_PACCT, works=("ENOENT", "ENOSYS"), carried=True),
    _privileged("C43log", "read the kernel's log", "syslog", "10", "null", "0",
                needs=CAP_SYSLOG, carried=True),
    _call("C44", "have all memory executable", "personality", "0x0400000"),
    _call("C44ldt", "change segments", "modify_ldt", "0", "null", "0", machine=_X86),
    _call("C44port", "reach ports of the machine", "iopl", "0", works=("ENOSYS",), machine=_X86),
    Probe("C45", "use the x32 calls", "call", (str(0x40000000 + 39),),
          answers(seccomp="SIGSYS"), works=("ENOSYS",), machine=_X86),
    Probe("C45gate", "use the calls of 32 bits", "call_by_gate", (), answers(seccomp="SIGSYS"),
          works=("SIGSEGV",), machine=_X86),  # a kernel that was built without them
    Probe("C46", "type into a terminal", "control", ("0", "0x5412"), answers(seccomp="EPERM"),
          works=("ENOTTY",)),
    Probe("C46high", "the same with high bits", "control", ("0", "0x100005412"),
          answers(seccomp="EPERM"), works=("ENOTTY",)),
    Probe("C46linux", "paste into a console", "control", ("0", "0x541c"), answers(seccomp="EPERM"),
          works=("ENOTTY",)),
    Probe("C46console", "take the console's output", "control", ("0", "0x541d"),
          answers(seccomp="EPERM"), works=("ENOTTY",)),
    _call("C49filter", "add a filter of its own", "seccomp", "0", "1", "null", works=("EINVAL",)),
    Probe("C50", "attach the host's shared memory", "attach_memory", ("{shm}",),
          answers(ipc="EINVAL")),
    Probe("C50queue", "open the host's message queue", "open_queue", ("{queue}",),
          answers(ipc="ENOENT", landlock="EACCES")),
    Probe("C51name", "learn the host's name", "other_hostname", ("{hostname}",),
          answers(uts="ENODATA")),
    Probe("C51cgroup", "learn the own place among the host's cgroups", "other_cgroup", (),
          answers(cgroup_ns="ENODATA"), needs=CAP_SYS_ADMIN, outside=False),
    _privileged("C52name", "change the host name", "sethostname", "text:x", "-1",
                needs=CAP_SYS_ADMIN, works=("EINVAL",)),
    _call("R11inotify", "take a watch of those that a uid shares", "inotify_init1", "0"),
    _call("R11fanotify", "watch a file system", "fanotify_init", "0x200", "0"),
    Probe("R11pipe", "take pipe memory that a uid shares", "widen_pipe", (),
          answers(seccomp="EPERM")),
    Probe("R11folder", "be told of a folder's changes", "watch_folder", (),
          answers(seccomp="EPERM")),
    _call("C53memory", "place memory", "get_mempolicy", "null", "null", "0", "null", "0"),
    _call("C53secret", "hide memory", "memfd_secret", "0x40000000", works=("EINVAL", "ENOSYS")),
)  # fmt: skip
