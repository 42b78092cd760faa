"""The policy of system calls as Docker's JSON: the outer of two filters, as narrow as that format can say it.

libseccomp takes one comparison for each argument of a rule, so what the policy says of an argument by "not" cannot be written
down; such a call is judged by the rest of its rule here, or passes. The inner filter, the policy itself, is put up by
dativo-confine before anything of the image runs, and of two filters the stricter answer holds (seccomp(2)).
"""

from __future__ import annotations

import itertools
import platform
from typing import Any, Final

from dativo.sandbox.seccomp.policy import Condition, Policy, Rule, Verdict

_ALLOW: Final = "SCMP_ACT_ALLOW"
_ERRNO: Final = "SCMP_ACT_ERRNO"
_EPERM: Final = 1
_ENOSYS: Final = 38
_ARCHITECTURES: Final = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_MASK_32: Final = 0xFFFFFFFF
# AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC: how dativo-confine reaches its launcher, before the inner filter refuses it.
_HAND_OVER: Final[Rule] = (Condition(0, _MASK_32, (1,)), Condition(1, _MASK_32, (5 | 0o2000000,)))


def docker_profile(policy: Policy, machine: str = "") -> dict[str, Any]:
    """Return the profile for ``machine`` (x86_64 or aarch64; this one)."""
    by_verdict: dict[Verdict, list[str]] = {verdict: [] for verdict in Verdict}
    for name, verdict in sorted(policy.verdicts.items()):
        by_verdict[verdict].append(name)
    rules: list[dict[str, Any]] = [
        {"names": by_verdict[Verdict.ALLOW], "action": _ALLOW},
        {"names": by_verdict[Verdict.REFUSE], "action": _ERRNO, "errnoRet": _EPERM},
    ]
    judged = {name: policy.rules[name] for name in by_verdict[Verdict.ARGUMENTS]}
    judged["socket"] = (*judged["socket"], _HAND_OVER)
    for name, alternatives in judged.items():
        arguments = [found for rule in alternatives for found in _arguments(rule)]
        if not all(arguments):
            rules.append({"names": [name], "action": _ALLOW})
            continue
        rules += [{"names": [name], "action": _ALLOW, "args": found} for found in arguments]
    return {
        "defaultAction": _ERRNO,
        "defaultErrnoRet": _ENOSYS,
        "architectures": [_ARCHITECTURES[machine or platform.machine()]],
        "syscalls": rules,
    }


def _arguments(rule: Rule) -> list[list[dict[str, Any]]]:
    """Return the comparisons of each rule that this one becomes; an empty one has none."""
    said = [condition for condition in rule if not condition.negated]
    choices = [[(condition, value) for value in condition.values] for condition in said]
    return [
        [
            {
                "index": condition.argument,
                "value": condition.mask,
                "valueTwo": value,
                "op": "SCMP_CMP_MASKED_EQ",
            }
            for condition, value in choice
        ]
        for choice in itertools.product(*choices)
    ]
