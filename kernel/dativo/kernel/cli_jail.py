"""The command ``dativo jail``: its options, and every failure of its own as status 125."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from dativo.kernel.flags import CPUS, NET, SIZE, TIME
from dativo.protocol.errors import ConfigError, DativoError, ExitStatus, Where

if TYPE_CHECKING:
    from dativo.kernel.jail import Jail
    from dativo.kernel.paths import Paths


class _Jail(click.Command):
    """A command line that is wrong is status 125 too, since 2 may be the command's own."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read the command line."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            error.show()
            raise click.exceptions.Exit(ExitStatus.JAIL_FAILED) from error


@click.command(cls=_Jail, context_settings={"allow_interspersed_args": False})
@click.option("--ro", multiple=True, metavar="PATH", help="May read and execute this path.")
@click.option("--rw", multiple=True, metavar="PATH", help="May read and write this path.")
@click.option("--memory", type=SIZE, help="Memory of the process tree, such as 512MiB.")
@click.option("--cpus", type=CPUS, help="Processors; fractions are allowed.")
@click.option("--pids", type=click.IntRange(1, 2**22), help="Processes and threads.")
@click.option("--time", type=TIME, help="Wall clock, such as 1h; without it, no end.")
@click.option("--tmp", type=SIZE, help="Size of its own /tmp, which counts as memory.")
@click.option(
    "--env", "environment", multiple=True, metavar="NAME[=VALUE]", help="Set or pass on a variable."
)
@click.option("--cwd", metavar="PATH", help="Working directory; else this one if granted, or /tmp.")
@click.option(
    "--cgroup",
    type=click.Choice(["required", "degraded"]),
    help="Accept rlimits and a watchdog where no cgroup can be written: degraded.",
)
@click.option("--raw", is_flag=True, help="Do not escape control characters for a terminal.")
@NET
@click.option(
    "--observe", is_flag=True, help="Tell the grants that refused connections would have needed."
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def jail(command: tuple[str, ...], **options: Any) -> int:
    """Run COMMAND with no network, no files and no rights but what is given here.

    Its streams, signals and exit status pass through; 125 is a failure of the jail's own, 126 and 127 are as env(1).
    """
    from dativo.kernel import api
    from dativo.kernel import jail as jails
    from dativo.kernel.paths import Paths

    try:
        paths = Paths.from_environment(os.environ)
        return api.jail(_asked(command, paths, options), os.environ)
    except jails.JailFailed:
        raise
    except DativoError as error:
        raise jails.JailFailed.because(error) from error
    except OSError as error:
        raise jails.JailFailed(f"{error.strerror}: {error.filename or 'no file'}") from error


def _asked(command: tuple[str, ...], paths: Paths, options: dict[str, Any]) -> Jail:
    """Hold what is asked for against the policy's ceilings: a command line is the operator's own word, so no approval."""
    from dataclasses import replace

    from dativo.kernel.flags import GrantFlags, read_limits
    from dativo.kernel.grants import permit
    from dativo.kernel.jail import Jail
    from dativo.kernel.policy import load_policy
    from dativo.sandbox import Limits, Walls

    policy = load_policy(paths, os.environ)
    cgroup: Literal["required", "degraded"] | None = options["cgroup"]
    names = ("ro", "rw", "net", "memory", "cpus", "pids", "time")
    granted = GrantFlags(**{name: options[name] for name in names}).grants(policy)
    if options["tmp"] is not None:
        granted = replace(granted, tmp_bytes=options["tmp"])
        file = Where(file=str(policy.file))
        permit(granted, policy, read_limits(policy), where=file, asked_in="the command line")
    degraded = cgroup == "degraded" or policy.walls.get("cgroup") == "degraded"
    limits = Limits(
        memory_bytes=granted.memory_bytes,
        cpus=granted.cpus,
        pids=granted.pids,
        open_files=granted.open_files,
        file_bytes=granted.file_bytes,
        tmp_bytes=granted.tmp_bytes,
        wall_time_s=granted.wall_time_s,
    )
    if options["time"] is None and "time" not in policy.ceilings:
        limits = replace(limits, wall_time_s=None)
    return Jail(
        command=command,
        limits=limits,
        walls=Walls(cgroup="degraded" if degraded else "required"),
        read=granted.read,
        write=granted.write,
        environment=tuple(_variable(text) for text in options["environment"]),
        cwd=None if options["cwd"] is None else str(Path(options["cwd"]).absolute()),
        raw=options["raw"],
        network=granted.network,
        policy=policy.network,
        observe=options["observe"],
    )


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name:
        raise ConfigError("--env needs a name", hint="--env NAME=VALUE")
    if equals:
        return name, value
    from dativo.kernel import environment

    given = environment.current()
    if name not in given:
        raise ConfigError(f"--env {name}: it is not set here", hint=f"--env {name}=VALUE")
    return name, given[name]
