"""Grants on a command line: the operator's own word, so that no approval is asked for; the policy's ceilings and blocks hold.

--ro PATH… --rw PATH… --net GRANT… --memory SIZE --cpus N --pids N --time TIME --idle TIME --cgroup degraded
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click

from dativo.kernel import quantities
from dativo.kernel.limits import SYSTEM, ReadLimits
from dativo.protocol.errors import Where

if TYPE_CHECKING:
    from dativo.kernel.grants import Grants
    from dativo.kernel.policy import Policy

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class GrantFlags:
    """What a command line grants. Sizes in bytes, times in seconds; None is the default of docs/spec/limits.md."""

    ro: tuple[str, ...] = ()
    rw: tuple[str, ...] = ()
    net: tuple[str, ...] = ()
    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None
    time: int | None = None
    idle: int | None = None
    cgroup: Literal["required", "degraded"] | None = None

    def grants(self, policy: Policy, secrets: tuple[str, ...] = ()) -> Grants:
        """Return the grants; paths are relative to the current folder. What no flag says is lowered to the policy's ceiling.

        Raises ConfigError for a path through a symbolic link and for what is no network grant, NotPermitted for what the policy
        does not allow.
        """
        from dativo.kernel.grants import NUMBERS, Grants, permit
        from dativo.kernel.network_text import parse

        default = Grants.default()
        given: dict[str, Any] = {
            key: min(getattr(default, name), policy.ceilings[key])
            for key, name in NUMBERS.items()
            if key in policy.ceilings
        }
        given |= {
            name: value
            for name in ("memory", "cpus", "pids", "time", "idle")
            if (value := getattr(self, name)) is not None
        }
        if policy.execute is not None and not any(
            SYSTEM.is_relative_to(listed) for listed in policy.execute
        ):
            given["exec"] = ()
        given |= {"read": self.ro, "write": self.rw, "network": tuple(map(parse, self.net))}
        found = Grants.requested(given, Path.cwd(), secrets)
        permit(
            found,
            policy,
            read_limits(policy),
            where=Where(file=str(policy.file)),
            asked_in="the command line",
        )
        return found


def read_limits(policy: Policy) -> ReadLimits:
    """Return the default bounds on what a plugin writes, lowered to the policy's ceilings."""
    default = ReadLimits()
    lowered = {
        field.name: min(getattr(default, field.name), int(policy.ceilings[field.name]))
        for field in fields(default)
        if field.name in policy.ceilings
    }
    return replace(default, **lowered)


class _Amount(click.ParamType[float]):
    """A quantity such as 512MiB or 12h."""

    def __init__(self, name: str, parse: Callable[[object], float]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the amount; click tells of the fault with the option's name."""
        if not isinstance(value, str):
            return float(value)
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


SIZE: Final = _Amount("size", quantities.parse_bytes)
TIME: Final = _Amount("time", quantities.parse_seconds)
CPUS: Final = _Amount("cpus", quantities.parse_cpus)

NET: Final = click.option(
    "--net",
    multiple=True,
    metavar="GRANT",
    help="May connect there, such as api.example.com or 'db.corp:5432 private'. Repeatable.",
)

_OPTIONS: Final = (
    click.option("--ro", multiple=True, metavar="PATH", help="May read this path. Repeatable."),
    click.option(
        "--rw", multiple=True, metavar="PATH", help="May read and write this path. Repeatable."
    ),
    NET,
    click.option("--memory", type=SIZE, help="Memory of the process tree, such as 512MiB."),
    click.option("--cpus", type=CPUS, help="Processors; fractions are allowed."),
    click.option("--pids", type=click.IntRange(1, 2**22), help="Processes and threads."),
    click.option("--time", type=TIME, help="Wall clock, such as 12h."),
    click.option("--idle", type=TIME, help="Longest silence while its reader waits, such as 10m."),
    click.option(
        "--cgroup",
        type=click.Choice(["required", "degraded"]),
        help="Accept rlimits and a watchdog where no cgroup can be written: degraded.",
    ),
)


def grant_flags(command: F) -> F:
    """Add the options; the command gets them as one argument, ``granted``."""
    names = [field.name for field in fields(GrantFlags)]

    @functools.wraps(command)
    def with_flags(*arguments: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in names}
        return command(*arguments, granted=GrantFlags(**given), **options)

    decorated: Any = with_flags
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep the command's type
