"""Command lines of foreign connectors.

Sources: Airbyte docs, airbyte-protocol-docker.md and CDK entrypoint.py; Singer spec, RUNNING_AND_DEVELOPING.md. Only long options
are used: singer-sdk knows no short ones.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from dativo.protocol.catalog import Dialect

Verb: TypeAlias = Literal["spec", "check", "discover", "read", "write"]


def arguments(
    dialect: Dialect, verb: Verb, *, config: str, catalog: str, state: str | None = None
) -> tuple[str, ...]:
    """Return the arguments after the connector's executable; paths are those inside its walls.

    A Singer tap has no ``check``: ``--discover`` with the configuration comes closest; a Singer target has nothing like it. Their
    ``spec`` is ``--about``, which only taps and targets of singer-sdk answer. A Singer target learns its streams from its input.
    """
    with_state = ("--state", state) if state is not None else ()
    if dialect == "airbyte":
        return {
            "spec": ("spec",),
            "check": ("check", "--config", config),
            "discover": ("discover", "--config", config),
            "read": ("read", "--config", config, "--catalog", catalog, *with_state),
            "write": ("write", "--config", config, "--catalog", catalog),
        }[verb]
    return {
        "spec": ("--about", "--format=json"),
        "check": ("--config", config, "--discover"),
        "discover": ("--config", config, "--discover"),
        "read": ("--config", config, "--catalog", catalog, *with_state),
        "write": ("--config", config),
    }[verb]
