"""Environment variables of the operator's that a process is given, by name: ``grants.environment`` of a job.

A process inherits nothing. A name that a job asks for must be listed by the policy and approved; its value is that of dativo's
own environment, and is taken out of what is shown as a secret is. Never given are variables that dativo sets itself, and those
that have a loader, a shell or an interpreter run other code: a repository could turn what the operator set for his own tools
against a connector.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from dativo.kernel import limits
from dativo.protocol.errors import ConfigError

OURS: Final = (
    ("HOME", "/tmp"),  # noqa: S108 - inside, a tmpfs of its own
    ("TMPDIR", "/tmp"),  # noqa: S108 - inside
    ("LANG", "C.UTF-8"),
    ("DO_NOT_TRACK", "1"),
    # What Airbyte's platform sets and connectors of the CDK read (notes of the reference launcher, RuntimeEnvVarFactory).
    ("DEPLOYMENT_MODE", "OSS"),
    ("DATA_CHANNEL_MEDIUM", "STDIO"),
    ("USE_STREAM_CAPABLE_STATE", "true"),
)
"""What every connector is given; PATH, which depends on the connector, beside it."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_OURS: Final = frozenset({"PATH", *dict(OURS)})
_STEERING: Final = re.compile(
    # ld.so(8) and the C library: locale(7), gconv.
    r"LD_.*|DYLD_.*|GLIBC_TUNABLES|GCONV_PATH|LOCPATH|NLSPATH|MALLOC_.*"
    # Shells.
    r"|BASH_ENV|BASH_FUNC_.*|BASHOPTS|SHELLOPTS|ENV|IFS|PS4|PROMPT_COMMAND"
    # Interpreters and virtual machines.
    r"|PYTHON.*|PERL5.*|PERLLIB|RUBY.*|NODE_OPTIONS|NODE_PATH|CLASSPATH"
    r"|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|JDK_JAVA_OPTIONS|JAVA_OPTS|DOTNET_.*|CORECLR_.*|COR_.*"
    # Libraries and tools that load modules or start programs.
    r"|OPENSSL_.*|SSLKEYLOGFILE|GIT_.*"
)
_OWN: Final = re.compile(r"DATIVO_.*|UV_.*")


def parse(name: str) -> str:
    """Return ``name`` where it may be given to a process at all. Raises ConfigError."""
    if not _NAME.fullmatch(name):
        raise ConfigError("expected the name of an environment variable", value=name)
    if name in _OURS:
        raise ConfigError(f"{name} is set by dativo and cannot be given", hint=f"Leave {name} out")
    if _STEERING.fullmatch(name):
        raise ConfigError(
            f"{name} decides what code a program runs and is given to no process",
            hint=f"Leave {name} out; the connector's own configuration says how it is run",
        )
    if _OWN.fullmatch(name):
        raise ConfigError(
            f"{name} is a setting of dativo's own and is given to no process",
            hint=f"Leave {name} out",
        )
    return name


def resolve(names: Iterable[str], env: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return name and value of each of ``names``, which policy and approval permit.

    Raises ConfigError, never showing a value, when one is not set, too large or not UTF-8. An empty value is one.
    """
    return tuple((name, _value(name, env)) for name in names)


def _value(name: str, env: Mapping[str, str]) -> str:
    value = env.get(name)
    if value is None:
        raise ConfigError(
            f"environment variable {name} is not set",
            hint=f"Set {name} where dativo is started, or take it out of grants.environment",
        )
    if len(value.encode("utf-8", "surrogateescape")) > limits.SECRET_BYTES:
        raise ConfigError(
            f"environment variable {name} has more than {limits.SECRET_BYTES} bytes",
            hint="Grant a file with it for reading instead",
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"environment variable {name} is not UTF-8", hint=f"Set {name} to a text in UTF-8"
        ) from None
    return value
