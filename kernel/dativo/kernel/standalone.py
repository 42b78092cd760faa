"""`dativo-target-parquet` and `dativo-target-iceberg`: dativo's targets at the end of somebody else's pipe.

    tap-x --config tap.json | dativo-target-parquet --config target.json > state.jsonl      a Singer target
    dativo-target-iceberg spec | check --config C | write --config C --catalog CAT          an Airbyte destination

Data on stdout (states, Airbyte messages), all else on stderr. Exit statuses: docs/spec/exit-codes.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NoReturn

from dativo.kernel import failures, show
from dativo.kernel._version import VERSION
from dativo.kernel.undumpable import make_undumpable
from dativo.protocol.errors import Blame, ConfigError, DativoError, ExitStatus, NotPermitted, Where

if TYPE_CHECKING:
    import argparse

    from dativo.kernel.plan import Site
    from dativo.kernel.standalone_run import Task
    from dativo.kernel.target_config import Target

VERBS: Final = ("spec", "check", "write")


def parquet() -> None:
    """Run dativo-target-parquet and exit with its status."""
    _command("parquet")


def iceberg() -> None:
    """Run dativo-target-iceberg and exit with its status."""
    _command("iceberg")


def _command(target: Target) -> NoReturn:
    make_undumpable()
    sys.exit(main(target, sys.argv[1:]))


def main(target: Target, arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    if list(arguments) == ["--version"]:
        sys.stdout.write(f"dativo-target-{target} v{VERSION}, dativo {VERSION}\n")
        return ExitStatus.DONE
    airbyte = bool(arguments) and arguments[0] in VERBS
    return failures.run(
        lambda: (_airbyte if airbyte else _singer)(target, arguments),
        _trace if airbyte else lambda _: None,
    )


def _trace(error: DativoError) -> None:
    """Tell of a failure on stdout, for a caller that speaks Airbyte."""
    from dativo.kernel import standalone_airbyte

    show.data(standalone_airbyte.trace_error(error))
    show.flush()


# --- Singer ----------------------------------------------------------------------------------------------------------------


def _singer(target: Target, arguments: Sequence[str]) -> int:
    asked = _singer_parser(target).parse_args(arguments)
    if asked.version:
        show.data(f"dativo-target-{target} v{VERSION}, dativo {VERSION}")
        return ExitStatus.DONE
    if asked.about:
        from dativo.kernel import standalone_singer

        show.data(standalone_singer.about(target, asked.format))
        return ExitStatus.DONE
    if asked.config is None:
        raise _Usage(f"--config FILE is missing; see: dativo-target-{target} --help")

    from dativo.kernel import standalone_singer, target_config
    from dativo.kernel.landing import Input
    from dativo.kernel.standalone_run import Task

    config = target_config.load(asked.config, target, Path.cwd())
    return _land(
        Task(
            config=config,
            input=Input(
                "singer",
                (),
                config.limits,
                declare=True,
                strict=config.strict,
                echo=True,
                first_state=True,
                contracts=config.contracts,
                layouts=config.layouts,
            ),
            overwrites=(),
            states=standalone_singer.states,
            complete=lambda: False,
            failed=lambda: False,
            on_message=lambda _: None,
            file=Path(asked.input) if asked.input is not None else None,
        ),
        asked.cgroup,
    )


def _singer_parser(target: Target) -> argparse.ArgumentParser:
    from dativo.kernel.standalone_singer import DESCRIPTIONS

    parser = _parser(
        f"dativo-target-{target}",
        f"{DESCRIPTIONS[target]}. Reads Singer messages from stdin and writes each state to stdout once "
        f"everything before it is stored. Also an Airbyte destination: spec, check, write.",
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="Settings: one JSON object.")
    parser.add_argument("--input", metavar="FILE", help="Read this file instead of stdin.")
    parser.add_argument("--about", action="store_true", help="Print what this target can be told.")
    parser.add_argument(
        "--format", choices=["text", "json", "markdown"], default="text", help="Of --about."
    )
    parser.add_argument("--version", action="store_true", help="Print the version.")
    _add_cgroup(parser)
    return parser


# --- Airbyte ---------------------------------------------------------------------------------------------------------------


def _airbyte(target: Target, arguments: Sequence[str]) -> int:
    asked = _airbyte_parser(target, arguments[0]).parse_args(arguments[1:])
    if arguments[0] == "spec":
        from dativo.kernel import standalone_airbyte

        show.data(standalone_airbyte.spec(target))
        return ExitStatus.DONE
    if arguments[0] == "check":
        return _check(target, asked)

    from dativo.kernel import standalone_airbyte, target_config
    from dativo.kernel.landing import Input
    from dativo.kernel.standalone_run import Task

    config = target_config.load(asked.config, target, Path.cwd())
    configured = standalone_airbyte.load_catalog(Path(asked.catalog), config)
    config.contracts.check(configured.streams, Where(file=str(config.file), pointer="/contracts"))
    config.layouts.check(configured.streams, Where(file=str(config.file), pointer="/layout"))
    for warning in configured.warnings:
        show.data(standalone_airbyte.log("WARN", warning))
    show.flush()
    statuses = standalone_airbyte.Statuses(configured.streams)
    return _land(
        Task(
            config=config,
            input=Input(
                "airbyte",
                configured.tables,
                config.limits,
                strict=config.strict,
                echo=True,
                first_state=True,
                contracts=config.contracts,
                layouts=config.layouts,
                platform=configured.platform,
            ),
            overwrites=configured.overwrites,
            states=standalone_airbyte.States(),
            complete=lambda: statuses.complete,
            failed=lambda: statuses.failed,
            on_message=statuses.take,
        ),
        asked.cgroup,
    )


def _check(target: Target, asked: argparse.Namespace) -> int:
    """Try the target. What is wrong with the configuration is the answer, not a failure of the check."""
    from dativo.kernel import standalone_airbyte, target_config
    from dativo.protocol.errors import Conflict, TargetFailed

    error: DativoError | None = None
    try:
        config = target_config.load(asked.config, target, Path.cwd())
        site = _site(asked.cgroup)
        with site.ledger:
            from dativo.kernel.standalone_check import check

            check(config, site)
    except (ConfigError, NotPermitted, TargetFailed, Conflict) as failure:
        error = failure
    show.data(standalone_airbyte.connection_status(error))
    return ExitStatus.DONE


def _airbyte_parser(target: Target, verb: str) -> argparse.ArgumentParser:
    meaning = {
        "spec": "Print the settings as an Airbyte SPEC.",
        "check": "Try the target that the settings name.",
        "write": "Write the Airbyte messages of stdin; print each STATE once everything before it is stored.",
    }
    parser = _parser(f"dativo-target-{target} {verb}", meaning[verb])
    if verb != "spec":
        parser.add_argument("--config", metavar="FILE", required=True, help="Settings, as JSON.")
    if verb == "write":
        parser.add_argument(
            "--catalog", metavar="FILE", required=True, help="The configured catalogue, as JSON."
        )
    _add_cgroup(parser)
    return parser


# --- both ------------------------------------------------------------------------------------------------------------------


class _Usage(DativoError):
    """The command line is wrong."""

    status = ExitStatus.USAGE
    default_blame = Blame.USER


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    import argparse

    return argparse.ArgumentParser(prog=program, description=description, allow_abbrev=False)


def _add_cgroup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cgroup",
        choices=["required", "degraded"],
        help="Accept rlimits and a watchdog where no cgroup can be written: degraded.",
    )


def _site(cgroup: Literal["required", "degraded"] | None) -> Site:
    from dativo.kernel.plan import Site

    return Site.open(os.environ, cgroup=cgroup)


def _land(task: Task, cgroup: Literal["required", "degraded"] | None) -> int:
    from dativo.kernel import environment, standalone_run
    from dativo.kernel.record import RunFailed
    from dativo.kernel.screen import Screen

    site = _site(cgroup)
    with site.ledger:
        terminal = sys.stderr.isatty() and site.env.get(environment.TERM.name) != "dumb"
        screen = Screen(_as_it_is, terminal=terminal, quiet=False)
        error: DativoError | None = None
        try:
            told = standalone_run.run(task, site, screen)
        except RunFailed as failed:
            error, told = failed.error, failed.report
        screen.clear()
    for notice in (*told.degraded, *told.notices):
        show.note(f"notice: {show.foreign(notice)}")
    show.note(f"dativo-target-{told.target}: {told.summary()}, run {told.run}")
    if error is not None:
        raise error
    return told.status


def _as_it_is(text: str) -> str:
    return text
