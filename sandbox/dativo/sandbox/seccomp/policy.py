"""Read policy.txt and the tables of system call numbers into values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from dativo.sandbox.seccomp import FOLDER

_MAX_ARGUMENT: Final = 5
_MASK_32: Final = 0xFFFFFFFF


class PolicyError(ValueError):
    """The policy or a table is wrong; the text names file and line."""


class Verdict(StrEnum):
    """What a system call gets; the names are the sections of the policy."""

    ALLOW = "allow"
    ARGUMENTS = "arguments"
    REFUSE = "refuse"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Condition:
    """``argument & mask`` is (or, negated, is not) one of ``values``. Low 32 bits, as the kernel reads these arguments."""

    argument: int
    mask: int
    values: tuple[int, ...]
    negated: bool = False


Rule = tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """The verdict of each name; ``rules`` holds the alternatives of those judged by argument."""

    verdicts: dict[str, Verdict]
    rules: dict[str, tuple[Rule, ...]]


def load_policy(path: Path = FOLDER / "policy.txt") -> Policy:
    """Parse the policy; a name in two sections, or a line that is no rule, raises PolicyError."""
    verdicts: dict[str, Verdict] = {}
    rules: dict[str, tuple[Rule, ...]] = {}
    section: Verdict | None = None
    for number, raw in enumerate(path.read_text("ascii").splitlines(), 1):
        line = raw.partition("#")[0].strip()
        where = f"{path.name}, line {number}"
        if not line:
            continue
        if line.startswith("["):
            section = Verdict(line.strip("[]"))
            continue
        if section is None:
            raise PolicyError(f"{where}: stands before the first section")
        if section is Verdict.ARGUMENTS:
            name, _, text = line.partition(":")
            rule = tuple(_condition(part, where) for part in text.split(" and "))
            rules[name] = (*rules.get(name, ()), rule)
            names = [] if verdicts.get(name) is Verdict.ARGUMENTS else [name]
        else:
            names = line.split()
        for name in names:
            if name in verdicts:
                raise PolicyError(f"{where}: {name} is already in [{verdicts[name]}]")
            verdicts[name] = section
    return Policy(verdicts, rules)


def _condition(text: str, where: str) -> Condition:
    words = text.split()
    try:
        argument, words = int(words[0].removeprefix("a")), words[1:]
        mask = _MASK_32
        if words[0] == "&":
            mask, words = int(words[1], 0), words[2:]
        negated = words[0] == "not"
        words = words[1:] if negated else words
        if words[0] != "in" or not words[1:] or not 0 <= argument <= _MAX_ARGUMENT:
            raise PolicyError(f"{where}: cannot read {text.strip()!r}")
        return Condition(argument, mask, tuple(int(word, 0) for word in words[1:]), negated)
    except (IndexError, ValueError) as error:
        raise PolicyError(f"{where}: cannot read {text.strip()!r}") from error


def load_table(machine: str) -> dict[str, int]:
    """Return the number of each system call of ``machine`` (x86_64 or aarch64)."""
    table: dict[str, int] = {}
    for line in (FOLDER / f"{machine}.tbl").read_text("ascii").splitlines():
        if not line.startswith("#"):
            name, number = line.split()
            table[name] = int(number)
    return table
