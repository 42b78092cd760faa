"""Processes and limits (B of the attack list)."""

from __future__ import annotations

from typing import Final

from tests.sandbox.probes.catalogue import MACHINE, Probe, answers

from dativo.sandbox.seccomp.policy import load_table

_NUMBER: Final = load_table(MACHINE)
CAP_SYS_NICE, CAP_SYS_RESOURCE = 23, 24

PROBES: Final = (
    Probe("B18", "signal another's process", "send_signal", ("{victim}",),
          answers(pid="ESRCH", landlock="EPERM"), landlock_abi=6),
    Probe("B18see", "see another's process", "see_process", ("{victim}",), answers(pid="ENODATA")),
    Probe("B18slow", "slow another's process down", "change_priority", ("{victim}",),
          answers(pid="ESRCH")),
    Probe("B19", "trace another's process", "trace", ("{victim}",),
          answers(seccomp="EPERM", pid="ESRCH", landlock="EPERM")),
    Probe("B19memory", "read another's memory", "read_memory", ("{victim}", "{address}"),
          answers(seccomp="EPERM", pid="ESRCH", landlock="EPERM")),
    Probe("B19file", "open another's memory", "open_only", ("/proc/{victim}/mem", "2"),
          answers(pid="ENOENT", landlock="EACCES")),
    Probe("B19descriptor", "take another's descriptor", "take_descriptor",
          ("{victim}", str(_NUMBER["pidfd_getfd"])),
          answers(pid="ESRCH", seccomp="EPERM", landlock="EPERM")),
    Probe("B19stage2", "open stage 2's memory", "open_only", ("/proc/1/mem", "2"),
          answers(undumpable="EACCES", landlock="EACCES"), outside=False),
    Probe("B19me", "be traced", "trace_me", (), answers(seccomp="EPERM")),
    Probe("B20", "fork without end", "fork_until", ("60",), answers(bounds="EAGAIN")),
    Probe("B21", "start threads without end", "start_threads", ("60",), answers(bounds="EAGAIN")),
    Probe("B24", "raise the own priority", "raise_priority", (), answers(identity="EACCES"),
          needs=CAP_SYS_NICE, carried=True),
    Probe("B24real", "run in real time", "real_time", (), answers(identity="EPERM"),
          needs=CAP_SYS_NICE, carried=True),
    Probe("B25", "open files without end", "open_many", ("100",), answers(rlimits="EMFILE")),
    Probe("B31", "dump a core", "raise_core_limit", (), answers(rlimits="EPERM")),
    Probe("B32", "be spared by the kernel when memory is short", "open_only",
          ("/proc/self/oom_score_adj", "1"), answers(landlock="EACCES")),
    Probe("B33", "raise the own limits", "raise_size_limit", (), answers(rlimits="EPERM")),
)  # fmt: skip
