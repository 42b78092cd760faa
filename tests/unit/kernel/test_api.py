"""``dativo.kernel.api`` can do what every command does, and is what the commands call."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click
import pytest

from dativo.kernel import api, cli

COMMANDS = {
    "run": ("plan_job", "run_plan"),
    "plan": ("plan_job",),
    "runs list": ("runs",),
    "runs show": ("run_report",),
    "files": ("committed",),
    "state show": ("committed",),
    "spec": ("spec",),
    "check": ("check", "check_plugin"),
    "discover": ("discover", "discover_plugin"),
    "read": ("plan_read", "read"),
    "write": ("planned_write", "write"),
    "jail": ("jail",),
    "grants show": ("approvals", "requested"),
    "grants approve": ("approve",),
    "grants block": ("block",),
    "grants unblock": ("unblock",),
    "stop": ("stop",),
    "plugin add": ("add",),
    "plugin list": ("plugins",),
    "plugin verify": ("verify",),
    "doctor": ("doctor",),
    "init": ("init",),
}


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


FOUND = dict(commands(cli.main))


def test_every_command_is_listed() -> None:
    assert set(FOUND) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_calls_the_api(name: str) -> None:
    callback = FOUND[name].callback
    assert callback is not None
    module = inspect.getmodule(inspect.unwrap(callback))
    assert module is not None
    source = inspect.getsource(module)
    for function in COMMANDS[name]:
        assert function in api.__all__
        assert re.search(rf"\bapi\.{function}\(", source), f"{name} does not call {function}"


def test_every_function_is_typed() -> None:
    for name in api.__all__:
        thing = getattr(api, name)
        if inspect.isfunction(thing):
            signature = inspect.signature(thing)
            assert signature.return_annotation is not signature.empty, name
            for parameter in signature.parameters.values():
                assert parameter.annotation is not parameter.empty, f"{name}({parameter})"
