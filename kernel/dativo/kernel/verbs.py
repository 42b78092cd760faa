"""The protocol's verbs for one connector: ``spec``, ``check``, ``discover``; and the program that ``read`` or ``write`` runs.

A verb is one confined process whose stdout is one bounded document. SPEC and CATALOG are kept in the ledger: spec by the
environment's digest, catalogue by that and the configuration as the job writes it (secrets by reference: no hash of one is
ever stored). Nothing here sees a record of a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from dativo.kernel import grants, network, show, variables, walls
from dativo.kernel.audit import Audit
from dativo.kernel.broker import Broker, Networks, start_broker
from dativo.kernel.ledger import Ledger
from dativo.kernel.limits import (
    MAX_DOCUMENT_BYTES,
    SHM_BYTES,
    STDERR_TAIL_BYTES,
    VERB_TIMEOUT_S,
)
from dativo.kernel.network_policy import NetworkPolicy
from dativo.kernel.processes import Processes
from dativo.kernel.registry import Installed
from dativo.protocol import airbyte, catalog, commands, jsontext
from dativo.protocol.errors import (
    ConfigError,
    LimitExceeded,
    PluginFailed,
    ProtocolViolation,
    Where,
)
from dativo.sandbox import (
    Confined,
    Exit,
    Grants,
    Identity,
    Limits,
    PrivateFile,
    Program,
    Walls,
)

INSIDE: Final = "/tmp/dativo"  # noqa: S108  # a path inside the walls, on the process's own tmpfs
CONFIG: Final = f"{INSIDE}/config.json"
CATALOG: Final = f"{INSIDE}/catalog.json"
STATE: Final = f"{INSIDE}/state.json"


@dataclass(frozen=True, slots=True)
class Documents:
    """What a connector is handed as private files. ``config`` holds secrets: kept out of every repr."""

    config: bytes
    catalog: str | None = None
    state: str | None = None

    def __repr__(self) -> str:
        return "Documents(…)"

    def files(self) -> tuple[PrivateFile, ...]:
        """Return the private files, 0600 on the process's own tmpfs."""
        found = [PrivateFile(CONFIG, self.config)]
        if self.catalog is not None:
            found.append(PrivateFile(CATALOG, self.catalog.encode()))
        if self.state is not None:
            found.append(PrivateFile(STATE, self.state.encode()))
        return tuple(found)


def program(plugin: Installed, verb: commands.Verb, documents: Documents, *, name: str) -> Program:
    """Return the confined program of one verb of a foreign connector."""
    arguments = commands.arguments(
        plugin.dialect,
        verb,
        config=CONFIG,
        catalog=CATALOG,
        state=STATE if documents.state is not None else None,
    )
    return Program(
        name=name,
        argv=(*plugin.argv, *arguments),
        runtime=plugin.runtime,
        cwd=plugin.cwd,
        files=documents.files() if verb != "spec" else (),
        root=plugin.root if plugin.container is None else None,
        container=plugin.container,
    )


# As Docker sets it where an image does not.
IMAGE_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def walled(
    plugin: Installed, granted: grants.Grants, passed: tuple[tuple[str, str], ...] = ()
) -> Grants:
    """Return what a connector was granted, in the sandbox's terms; ``passed`` are its variables, by name and value."""
    return Grants(
        read=granted.read,
        write=granted.write,
        execute=granted.execute,
        network=network.walled(granted.network),
        environment=(*_environment(plugin), *passed),
        limits=Limits(
            memory_bytes=granted.memory_bytes,
            cpus=granted.cpus,
            pids=granted.pids,
            open_files=granted.open_files,
            file_bytes=granted.file_bytes,
            tmp_bytes=granted.tmp_bytes,
            shm_bytes=SHM_BYTES,
            wall_time_s=granted.wall_time_s,
            output_bytes=granted.output_bytes,
            stderr_bytes=STDERR_TAIL_BYTES,
        ),
    )


def _environment(plugin: Installed) -> tuple[tuple[str, str], ...]:
    """Return the variables of a connector: ours, over those that an image asks for; its PATH is that of its own root."""
    if plugin.root is None:
        return (*variables.OURS, ("PATH", ":".join([*plugin.path, "/usr/bin", "/bin"])))
    return (("PATH", IMAGE_PATH), *plugin.environment, *variables.OURS)


def default_grants(plugin: Installed) -> Grants:
    """Return the walls' grants of a connector that was granted nothing: no network, no files, default limits."""
    return walled(plugin, grants.Grants.default())


@dataclass(frozen=True, slots=True)
class Outside:
    """The network of a verb. ``env`` is the kernel's own; ``written_in`` says where the grants are written."""

    granted: tuple[network.NetworkGrant, ...]
    policy: NetworkPolicy
    audit: Audit
    env: Mapping[str, str] = field(repr=False)
    written_in: str = "--net"


@dataclass(frozen=True, slots=True)
class Asked:
    """How a connector is asked: its grants, who it becomes and under which walls.

    ``outside`` goes with a network in ``grants``.
    """

    plugin: Installed
    grants: Grants
    identity: Identity | None
    walls: Walls
    run: str
    outside: Outside | None = None

    def offline(self) -> Asked:
        """Return the same without a network and the operator's variables: what a plugin says of itself needs none."""
        alone = replace(self.grants, network=None, environment=_environment(self.plugin))
        return replace(self, grants=alone, outside=None)


@dataclass(frozen=True, slots=True)
class Answer:
    """Stdout of one verb, bounded, and how the process ended. ``refused``: what its network was refused, in a sentence."""

    text: str
    exit: Exit
    stderr: bytes
    refused: str | None = None


def ask(asked: Asked, verb: commands.Verb, documents: Documents) -> Answer:
    """Run one verb to its end. Blocks for at most VERB_TIMEOUT_S. Raises LimitExceeded, and sandbox errors."""
    name = f"{asked.plugin.role}-{verb}"
    return _collect(asked, program(asked.plugin, verb, documents, name=name))


def _collect(asked: Asked, program: Program) -> Answer:
    outside = asked.outside
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        processes = Processes(stack, asked.walls, asked.run, outside.env if outside else {})
        brokers: list[Broker] = []
        if outside is not None:
            clients = {program.name: outside.granted}
            facts = {"run": asked.run, "plugin": asked.plugin.reference}
            networks = Networks(clients, outside.policy, outside.audit, facts=facts)
            start_broker(processes, selector, networks, brokers.append)
        with walls.starting(asked.plugin.reference, PluginFailed):
            confined = processes.start(program, asked.grants, asked.identity)
        broker = brokers[0] if brokers else None
        text = _read_document(confined, asked.plugin, program.name, selector, broker)
        ended = confined.wait(VERB_TIMEOUT_S)
        confined.read_stderr()
        refused = None
        if broker is not None and outside is not None:
            broker.conclude()
            refused = broker.networks.record.of(program.name).explanation(outside.written_in)
        return Answer(text, ended, confined.stderr_tail(), refused)


def _read_document(
    confined: Confined,
    plugin: Installed,
    name: str,
    selector: selectors.BaseSelector,
    broker: Broker | None,
) -> str:
    """Read stdout to its end, at most MAX_DOCUMENT_BYTES; stderr is pumped and the broker heard meanwhile."""
    what, where = f"{plugin.reference} {name}", Where(plugin=plugin.role)
    collected = bytearray()
    deadline = time.monotonic() + VERB_TIMEOUT_S
    selector.register(confined.stdout, selectors.EVENT_READ)
    selector.register(confined.stderr_fd, selectors.EVENT_READ)
    while True:
        for key, mask in selector.select(0.1):
            if key.fd == confined.stdout:
                data = os.read(confined.stdout, 262144)
                if not data:
                    return collected.decode("utf-8", "backslashreplace")
                collected += data
            elif key.data is None:
                confined.read_stderr()
                if confined.stderr_closed:
                    selector.unregister(confined.stderr_fd)
            elif broker is not None:
                broker.take(mask)
        confined.watch()
        if broker is not None:
            broker.watch()
        if len(collected) > MAX_DOCUMENT_BYTES:
            raise LimitExceeded(f"{what} wrote more than {MAX_DOCUMENT_BYTES} bytes", where)
        if time.monotonic() > deadline:
            raise LimitExceeded(f"{what} did not end within {VERB_TIMEOUT_S:.0f} s", where)


def _failed(asked: Asked, verb: str, answer: Answer) -> PluginFailed | LimitExceeded:
    """Return the error of a verb without its answer, with the connector's own last words."""
    said: str | None = None
    for line in answer.text.splitlines():
        message = airbyte.parse_message(line)
        if message is not None and message.type == "TRACE":
            said = airbyte.trace_error(message.payload) or said
    if said is None:
        lines = (
            (answer.stderr.decode("utf-8", "backslashreplace") or answer.text).strip().splitlines()
        )
        said = lines[-1] if lines else None
    where = Where(plugin=asked.plugin.reference)
    value = show.foreign(said) if said else None
    if answer.exit.hit_limit:
        return LimitExceeded(
            f"{verb} hit its limit: {answer.exit.detail}", where, value=value, hint=answer.refused
        )
    how = (
        f"exit status {answer.exit.code}"
        if answer.exit.code is not None
        else f"signal {answer.exit.signal}"
    )
    return PluginFailed(f"{verb} gave no answer ({how})", where, value=value, hint=answer.refused)


def _airbyte_answer(
    asked: Asked, verb: commands.Verb, kind: str, documents: Documents
) -> tuple[str, Answer]:
    answer = ask(asked, verb, documents)
    for number, line in enumerate(answer.text.splitlines(), 1):
        message = airbyte.parse_message(line, number)
        if message is not None and message.type == kind:
            return message.payload, answer
    raise _failed(asked, verb, answer)


def spec(asked: Asked, ledger: Ledger, *, fresh: bool = False) -> airbyte.Spec | None:
    """Return the connector's SPEC; None for Singer, whose ``--about`` is not one. Cached by the environment's digest."""
    if asked.plugin.dialect == "singer":
        return None
    text = None if fresh else ledger.document("spec", asked.plugin.digest)
    if text is None:
        text, _ = _airbyte_answer(asked, "spec", "SPEC", Documents(b"{}"))
        airbyte.Spec.from_text(text)
        ledger.store_document("spec", asked.plugin.digest, text)
    return airbyte.Spec.from_text(text)


def about(asked: Asked) -> str:
    """Return what a tap or target of singer-sdk says with ``--about --format=json``. Raises PluginFailed for any other."""
    answer = ask(asked, "spec", Documents(b"{}"))
    text = answer.text.strip()
    if answer.exit.code != 0 or not text.startswith("{"):
        raise _failed(asked, "--about", answer)
    jsontext.loads(text, "--about")
    return text


def trial(asked: Asked, ledger: Ledger) -> None:
    """Start a freshly installed connector once, without network, files or secrets. Raises PluginFailed when it cannot answer.

    A tap or target need not know ``--about``; that it answers ``--help`` shows that it can be imported.
    """
    if asked.plugin.dialect == "airbyte":
        spec(asked, ledger)
        return
    answer = _collect(
        asked,
        Program(
            name=f"{asked.plugin.role}-help",
            argv=(*asked.plugin.argv, "--help"),
            runtime=asked.plugin.runtime,
        ),
    )
    if answer.exit.code != 0:
        raise _failed(asked, "--help", answer)


def check(asked: Asked, documents: Documents) -> airbyte.ConnectionStatus:
    """Ask whether the configuration works. A tap that discovers with it succeeds; for a Singer target raises ConfigError."""
    if asked.plugin.dialect == "airbyte":
        text, answer = _airbyte_answer(asked, "check", "CONNECTION_STATUS", documents)
        status = airbyte.ConnectionStatus.from_text(text)
        if status.succeeded or answer.refused is None:
            return status
        said = ". ".join(filter(None, (status.message.rstrip("."), answer.refused)))
        return airbyte.ConnectionStatus(False, said)
    if asked.plugin.role == "target":
        raise ConfigError(
            "a Singer target cannot check its configuration", Where(plugin=asked.plugin.reference)
        )
    answer = ask(asked, "check", documents)
    if answer.exit.code == 0:
        # A tap that may not see its files often finds none, and says nothing.
        found = catalog.from_singer(answer.text).streams
        return airbyte.ConnectionStatus(bool(found), "" if found else "it discovers no stream")
    return airbyte.ConnectionStatus(False, str(_failed(asked, "check", answer)))


def catalog_key(
    plugin: Installed, config_as_written: bytes, environment: tuple[str, ...] = ()
) -> str:
    """Return the cache key of a catalogue. ``config_as_written`` names secrets, ``environment`` variables; no value is in it."""
    named = "".join(f"\0{name}" for name in environment).encode()
    return hashlib.sha256(plugin.digest.encode() + b"\0" + config_as_written + named).hexdigest()


def discover(
    asked: Asked, documents: Documents, ledger: Ledger, *, key: str, fresh: bool = False
) -> catalog.Catalog:
    """Return the source's catalogue, from the ledger where it is known under ``key``. Raises ConfigError for a target."""
    if asked.plugin.role == "target":
        raise ConfigError("a target has nothing to discover", Where(plugin=asked.plugin.reference))
    read = catalog.from_airbyte if asked.plugin.dialect == "airbyte" else catalog.from_singer
    text = None if fresh else ledger.document("catalog", key)
    if text is not None:
        return read(text)
    if asked.plugin.dialect == "airbyte":
        text, _ = _airbyte_answer(asked, "discover", "CATALOG", documents)
    else:
        answer = ask(asked, "discover", documents)
        if answer.exit.code != 0 or not answer.text.strip():
            raise _failed(asked, "discover", answer)
        text = answer.text.strip()
    try:
        found = read(text)
    except ProtocolViolation as error:
        error.where = Where(
            plugin=asked.plugin.reference, byte=error.where.byte, stream=error.where.stream
        )
        raise
    ledger.store_document("catalog", key, text)
    return found
