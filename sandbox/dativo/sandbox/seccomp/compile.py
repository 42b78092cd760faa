"""Compile the policy to classic BPF, one blob per machine (seccomp(2), linux/filter.h).

``python -m dativo.sandbox.seccomp.compile`` writes the blobs beside the policy. The program checks the architecture, finds
the number by a balanced search over ranges of equal verdict, and judges arguments in a block per call at its end.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from dativo.sandbox.seccomp import FOLDER
from dativo.sandbox.seccomp.policy import (
    Condition,
    Policy,
    PolicyError,
    Rule,
    Verdict,
    load_policy,
    load_table,
)

# linux/audit.h
AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT: Final = 0x40000000

# linux/seccomp.h; errno in the low half.
KILL_PROCESS: Final = 0x80000000
ALLOW: Final = 0x7FFF0000
ERRNO: Final = 0x00050000
EPERM: Final = 1
ENOSYS: Final = 38

# struct seccomp_data: nr, arch, instruction pointer, six arguments of 64 bits (little endian here).
NUMBER_OFFSET: Final = 0
ARCH_OFFSET: Final = 4
ARGUMENTS_OFFSET: Final = 16

# linux/bpf_common.h
LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
JUMP: Final = 0x05  # BPF_JMP | BPF_JA
IF_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
IF_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
RETURN: Final = 0x06  # BPF_RET | BPF_K

_MASK_32: Final = 0xFFFFFFFF
_MAX_OFFSET: Final = 255
_MAX_INSTRUCTIONS: Final = 4096  # BPF_MAXINSNS


@dataclass(frozen=True, slots=True)
class Instruction:
    """One ``struct sock_filter``."""

    code: int
    k: int
    jump_true: int = 0
    jump_false: int = 0

    def pack(self) -> bytes:
        """Return the eight bytes of it."""
        return struct.pack("<HBBI", self.code, self.jump_true, self.jump_false, self.k)


@dataclass(frozen=True, slots=True)
class _Range:
    """From ``start`` up to the next range: a return value, or the name of a block that judges arguments."""

    start: int
    action: int | str


def compile_policy(policy: Policy, machine: str) -> bytes:
    """Return the program for ``machine``; raise PolicyError when a call of its table has no verdict."""
    table = load_table(machine)
    if missing := sorted(set(table) - set(policy.verdicts)):
        raise PolicyError(f"no verdict on {', '.join(missing)}")
    head = [
        Instruction(LOAD, ARCH_OFFSET),
        Instruction(IF_EQUAL, AUDIT_ARCH[machine], 1, 0),
        Instruction(RETURN, KILL_PROCESS),
        Instruction(LOAD, NUMBER_OFFSET),
    ]
    if machine == "x86_64":
        # -1 is what a tracer leaves to skip a call; the kernel answers ENOSYS for it, as for any unknown number.
        head += [Instruction(IF_AT_LEAST, X32_BIT, 0, 1), Instruction(RETURN, KILL_PROCESS)]
    blocks = {
        name: [i for rule in policy.rules[name] for i in _rule(rule)] + [_errno(EPERM)]
        for name in sorted(table)
        if policy.verdicts[name] is Verdict.ARGUMENTS
    }
    tree = _tree(_ranges(policy, table))
    offsets, end = {}, len(head) + len(tree)
    for name, block in blocks.items():
        offsets[name], end = end, end + len(block)
    program = list(head)
    for node in tree:
        if isinstance(node, str):
            program.append(Instruction(JUMP, offsets[node] - len(program) - 1))
        else:
            program.append(node)
    for block in blocks.values():
        program += block
    if len(program) > _MAX_INSTRUCTIONS:
        raise PolicyError(f"{len(program)} instructions, and the kernel takes {_MAX_INSTRUCTIONS}")
    return b"".join(instruction.pack() for instruction in program)


def _errno(number: int) -> Instruction:
    return Instruction(RETURN, ERRNO | number)


def _ranges(policy: Policy, table: dict[str, int]) -> list[_Range]:
    returns = {
        Verdict.ALLOW: ALLOW,
        Verdict.REFUSE: ERRNO | EPERM,
        Verdict.ABSENT: ERRNO | ENOSYS,
    }
    unknown = ERRNO | ENOSYS
    names = {number: name for name, number in table.items()}
    ranges: list[_Range] = []
    for number in range(max(names) + 2):
        name = names.get(number)
        action: int | str = unknown
        if name is not None:
            verdict = policy.verdicts[name]
            action = name if verdict is Verdict.ARGUMENTS else returns[verdict]
        if not ranges or ranges[-1].action != action:
            ranges.append(_Range(number, action))
    return ranges


def _tree(ranges: list[_Range]) -> list[Instruction | str]:
    """Search tree, depth first; a string stands for a jump to that block."""
    if len(ranges) == 1:
        action = ranges[0].action
        return [action if isinstance(action, str) else Instruction(RETURN, action)]
    middle = len(ranges) // 2
    low, high = _tree(ranges[:middle]), _tree(ranges[middle:])
    if len(low) <= _MAX_OFFSET:
        return [Instruction(IF_AT_LEAST, ranges[middle].start, len(low), 0), *low, *high]
    # The offset of a conditional jump has eight bits: go over an unconditional one.
    jump = Instruction(JUMP, len(low))
    return [Instruction(IF_AT_LEAST, ranges[middle].start, 0, 1), jump, *low, *high]


def _rule(rule: Rule) -> list[Instruction]:
    """Code that returns ALLOW when all conditions hold and else runs on to what follows it."""
    code = [Instruction(RETURN, ALLOW)]
    for condition in reversed(rule):
        code = _test(condition, len(code)) + code
    return code


def _test(condition: Condition, rest: int) -> list[Instruction]:
    """Code that goes over ``rest`` instructions when the condition fails."""
    load = [Instruction(LOAD, ARGUMENTS_OFFSET + 8 * condition.argument)]
    if condition.mask != _MASK_32:
        load.append(Instruction(AND, condition.mask))
    count = len(condition.values)
    compares = []
    for index, value in enumerate(condition.values):
        after = count - index - 1
        if condition.negated:
            compares.append(Instruction(IF_EQUAL, value, after + rest, 0))
        else:
            compares.append(Instruction(IF_EQUAL, value, after, rest if after == 0 else 0))
    return load + compares


def main() -> None:
    """Write every blob."""
    policy = load_policy()
    for machine in AUDIT_ARCH:
        (FOLDER / f"{machine}.bpf").write_bytes(compile_policy(policy, machine))


if __name__ == "__main__":
    main()
