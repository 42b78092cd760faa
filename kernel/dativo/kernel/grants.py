"""Grants: what a process asks for, what the policy leaves of it, and the operator's approvals.

Effective grants = requested within the policy's ceilings. What goes beyond the default (files, network, secrets, a warehouse
outside the workspace, higher limits) needs an approval, kept outside the workspace and keyed by the plugin's digest, the job's
digest and the grants themselves: when one of them changes, the approval no longer fits.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dativo.kernel import document, limits, quantities
from dativo.kernel.network import NetworkGrant, collect
from dativo.kernel.paths import Paths, make_folder
from dativo.protocol.errors import ConfigError, NotPermitted, Where

if TYPE_CHECKING:
    from dativo.kernel.job import Job
    from dativo.kernel.policy import Policy


@dataclass(frozen=True, slots=True)
class Grants:
    """What one process may do. Paths are real and absolute, sizes in bytes, times in seconds; ``environment`` are names.

    ``execute`` is what it may execute beside its own program; below /usr it may be a link of the machine's.
    """

    network: tuple[NetworkGrant, ...] = ()
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    execute: tuple[Path, ...] = (limits.SYSTEM,)
    memory_bytes: int = limits.MEMORY_BYTES
    cpus: float = float(limits.CPUS)
    pids: int = limits.PIDS
    open_files: int = limits.OPEN_FILES
    file_bytes: int = limits.FILE_BYTES
    tmp_bytes: int = limits.TMP_BYTES
    wall_time_s: int = limits.WALL_TIME_S
    idle_time_s: int = limits.IDLE_TIME_S
    output_bytes: int = limits.OUTPUT_BYTES
    exchange_bytes: int = limits.EXCHANGE_BYTES
    secrets: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()

    @classmethod
    def default(cls) -> Grants:
        """Return the default of this user: as a plain user fewer open files."""
        return cls(
            open_files=limits.OPEN_FILES if os.geteuid() == 0 else limits.OPEN_FILES_PLAIN_USER
        )

    @classmethod
    def requested(
        cls,
        given: Mapping[str, Any],
        base: Path,
        secrets: tuple[str, ...] = (),
        where: Callable[[tuple[str | int, ...]], Where] = lambda _: Where(),
    ) -> Grants:
        """Return the default changed by ``given`` (keys of a job, parsed). Paths are relative to ``base``.

        Raises ConfigError, placed by ``where``, for a path that is or passes a symbolic link: inside the sandbox it would not
        lead there; and for network grants that cannot stand together.
        """
        changed: dict[str, Any] = {
            field: given[key] for key, field in NUMBERS.items() if key in given
        }
        for key in ("read", "write"):
            changed[key] = tuple(
                sorted(
                    {
                        _plain_path(text, base, where((key, index)))
                        for index, text in enumerate(given.get(key, ()))
                    }
                )
            )
        if "exec" in given:
            changed["execute"] = _programs(given["exec"], base, where)
        changed["environment"] = tuple(sorted(set(given.get("environment", ()))))
        network = collect(given.get("network", ()), where(("network",)))
        return replace(cls.default(), network=network, secrets=secrets, **changed)

    def document(self) -> dict[str, Any]:
        """Return the grants as plain JSON values, for plans, audit and approvals."""
        return {
            field.name: [str(item) for item in value] if isinstance(value, tuple) else value
            for field in fields(self)
            for value in (getattr(self, field.name),)
        }


NUMBERS: Final = {
    "memory": "memory_bytes",
    "cpus": "cpus",
    "pids": "pids",
    "open_files": "open_files",
    "file_size": "file_bytes",
    "tmp": "tmp_bytes",
    "time": "wall_time_s",
    "idle": "idle_time_s",
    "output": "output_bytes",
    "exchange": "exchange_bytes",
}
"""Settings of a job and of the policy's ceilings → fields of Grants."""


def _programs(
    given: Sequence[str], base: Path, where: Callable[[tuple[str | int, ...]], Where]
) -> tuple[Path, ...]:
    """Return what ``exec`` of a job names; /usr holds what lies below it."""
    found = set()
    for index, text in enumerate(given):
        path = Path(os.path.normpath(base / text))
        # /bin is /usr/bin; only the machine's administrator makes links there.
        path = Path(os.path.realpath(path.parent)) / path.name
        if not path.is_relative_to(limits.SYSTEM):
            path = _plain_path(text, base, where(("exec", index)))
        if not path.exists():
            raise ConfigError(
                "what is to be executed is not there", where(("exec", index)), value=text
            )
        found.add(path)
    if limits.SYSTEM in found:
        found = {path for path in found if not path.is_relative_to(limits.SYSTEM)}
        found.add(limits.SYSTEM)
    return tuple(sorted(found))


def _plain_path(text: str, base: Path, where: Where) -> Path:
    path = Path(os.path.normpath(base / text))
    real = Path(os.path.realpath(path))
    if real != path:
        raise ConfigError(
            "a granted path must not lead through a symbolic link",
            where,
            value=text,
            hint=f"Write {real}",
        )
    return path


# --- ceilings ------------------------------------------------------------------------------------


def effective(requested: Grants, policy: Policy, job: Job) -> Grants:
    """Return what ``policy`` leaves of ``requested``, of the job's source or target; all of it or an error: less would fail
    later, without a reason.

    Raises NotPermitted that names the ceiling and its file; also for paths, or a warehouse, that overlap dativo's own folders,
    and for a source that could write into the warehouse.
    """
    warehouse = warehouse_of(job)
    permit(
        requested,
        policy,
        job.limits,
        () if warehouse is None else (warehouse,),
        where=Where(file=str(job.path)),
        asked_in=str(job.path),
    )
    for path in requested.write:
        if warehouse and (path.is_relative_to(warehouse) or warehouse.is_relative_to(path)):
            raise NotPermitted(
                f"the source may not write {path}, which overlaps the warehouse {warehouse}",
                Where(file=str(job.path), pointer="/source/grants/write"),
            )
    return requested


def warehouse_of(job: Job) -> Path | None:
    """Return the warehouse of a job whose target is dativo's own; None for a foreign one."""
    from dativo.kernel.job import TargetJob

    return job.target.warehouse if isinstance(job.target, TargetJob) else None


def permit(
    requested: Grants,
    policy: Policy,
    read_limits: limits.ReadLimits,
    others: Sequence[Path] = (),
    *,
    where: Where,
    asked_in: str,
) -> None:
    """Hold ``requested``, the read limits and ``others``, further paths of the same run, against the policy.

    ``asked_in`` says where less could be asked for. Raises NotPermitted for what is above a ceiling, blocked or not listed, and
    for paths that overlap dativo's own folders.
    """
    asked: dict[str, float] = {key: getattr(requested, name) for key, name in NUMBERS.items()}
    asked |= {field.name: getattr(read_limits, field.name) for field in fields(read_limits)}
    for key, ceiling in policy.ceilings.items():
        if asked[key] > ceiling:
            expired = "".join(
                f"; expired: {each}" for each in policy.waivers if key in each.ceilings
            )
            raise NotPermitted(
                f"{key} is above the policy's ceiling",
                Where(file=str(policy.file), pointer=f"/ceilings/{key}"),
                value=f"{show(key, asked[key])}, ceiling {show(key, ceiling)}",
                hint=f"Ask for less in {asked_in}, or have the operator raise the ceiling or waive it for this plugin{expired}",
            )
    if policy.secrets is not None:
        for secret in requested.secrets:
            if secret not in policy.secrets:
                raise NotPermitted(
                    f"secret {secret} is not listed by the policy",
                    Where(file=str(policy.file), pointer="/secrets"),
                )
    for name in requested.environment:
        if name not in policy.environment:
            raise NotPermitted(
                f"environment variable {name} is not listed by the policy",
                Where(file=str(policy.file), pointer="/environment"),
                hint=f"The operator allows it there: environment: [{name}]; or take it out of {asked_in}",
            )
    policy.network.permit(requested.network, policy.file)
    for path in requested.execute if policy.execute is not None else ():
        if not any(path.is_relative_to(listed) for listed in policy.execute or ()):
            raise NotPermitted(
                f"executing {path} is not permitted by the policy",
                Where(file=str(policy.file), pointer="/exec"),
                hint=f"Ask for less in {asked_in}, such as exec: [], or have the operator list it there",
            )
    for path in (*requested.read, *requested.write, *requested.execute, *others):
        for own in policy.protected:
            real = Path(os.path.realpath(own))
            if path.is_relative_to(real) or real.is_relative_to(path):
                raise NotPermitted(f"{path} overlaps {own}, which no run may touch", where)


def show(setting: str, value: float) -> str:
    """Return the value of a setting with its unit."""
    if setting in ("memory", "file_size", "tmp", "output", "exchange") or setting.endswith(
        "_bytes"
    ):
        return quantities.show_bytes(int(value))
    if setting in ("time", "idle"):
        return quantities.show_seconds(int(value))
    return f"{value:g}"


# --- approvals -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing beyond the default: ``kind`` (read, write, exec, network, secret, environment, warehouse, limit) and what."""

    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind} {self.what}"


def beyond_default(
    grants: Grants,
    warehouse: Path | None,
    workspace: Path,
    read_limits: limits.ReadLimits | None = None,
) -> tuple[Ask, ...]:
    """Return what needs an approval, in a fixed order; empty = none is needed. ``warehouse`` None: there is none to ask for."""
    asks = [Ask("network", str(grant)) for grant in grants.network]
    asks += [Ask("read", str(path)) for path in grants.read]
    asks += [Ask("write", str(path)) for path in grants.write]
    asks += [
        Ask("exec", str(path)) for path in grants.execute if not path.is_relative_to(limits.SYSTEM)
    ]
    asks += [Ask("secret", secret) for secret in grants.secrets]
    asks += [Ask("environment", name) for name in grants.environment]
    if warehouse is not None:
        real = Path(os.path.realpath(workspace))
        if not Path(os.path.realpath(warehouse)).is_relative_to(real) or warehouse == real:
            asks.append(Ask("warehouse", str(warehouse)))
    default = Grants.default()
    for key, name in NUMBERS.items():
        if getattr(grants, name) > getattr(default, name):
            asks.append(Ask("limit", f"{key} {show(key, getattr(grants, name))}"))
    if read_limits is not None:
        usual = limits.ReadLimits()
        for field in fields(read_limits):
            value = getattr(read_limits, field.name)
            if value > getattr(usual, field.name):
                asks.append(Ask("limit", f"{field.name} {show(field.name, value)}"))
    return tuple(asks)


@dataclass(frozen=True, slots=True)
class Request:
    """What is approved: one plugin, by digest, in one job, by digest, with these grants.

    ``asks`` belong to the key too, since they name the warehouse and the read limits.
    """

    plugin: str
    artefact: str
    pipeline: str
    job_path: Path
    job_digest: str
    grants: Grants
    asks: tuple[Ask, ...]

    @property
    def key(self) -> str:
        """The approval's digest (SHA-256, hex). The job's path and the plugin's name are not part of it."""
        return _key(
            {
                "artefact": self.artefact,
                "job": self.job_digest,
                "grants": self.grants.document(),
                "asks": [str(ask) for ask in self.asks],
            }
        )


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval as it is kept."""

    key: str
    plugin: str
    artefact: str
    pipeline: str
    job_path: str
    job_digest: str
    grants: Mapping[str, Any]
    asks: Sequence[str]
    approved_at: str
    approved_by: str


def _key(parts: Mapping[str, Any]) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def request(job: Job, plugin: str, artefact: str, grants: Grants) -> Request:
    """Return what ``job`` asks for its source ``plugin`` (digest ``artefact``) with effective ``grants``.

    The warehouse and the limits on what is read are asked for with the source.
    """
    asks = beyond_default(grants, warehouse_of(job), job.workspace, job.limits)
    return _request(job, plugin, artefact, grants, asks)


def request_target(job: Job, plugin: str, artefact: str, grants: Grants) -> Request:
    """Return what ``job`` asks for its foreign target ``plugin`` (digest ``artefact``) with effective ``grants``."""
    asks = beyond_default(grants, None, job.workspace)
    return _request(job, plugin, artefact, grants, asks)


def _request(
    job: Job, plugin: str, artefact: str, grants: Grants, asks: tuple[Ask, ...]
) -> Request:
    return Request(
        plugin=plugin,
        artefact=artefact,
        pipeline=job.pipeline,
        job_path=job.path,
        job_digest=job.digest,
        grants=grants,
        asks=asks,
    )


def approve(wanted: Request, paths: Paths) -> Path:
    """Keep the approval of ``wanted``; approving twice is one approval. Returns its file."""
    import time

    paths.ensure()
    make_folder(paths.approvals, 0o700 if paths.private_config else 0o755)
    approval = {
        "version": 1,
        "key": wanted.key,
        "plugin": wanted.plugin,
        "artefact": wanted.artefact,
        "pipeline": wanted.pipeline,
        "job_path": str(wanted.job_path),
        "job_digest": wanted.job_digest,
        "grants": wanted.grants.document(),
        "asks": [str(ask) for ask in wanted.asks],
        "approved_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "approved_by": f"uid {os.getuid()}",
    }
    file = paths.approvals / f"{wanted.key}.json"
    document.write_atomic(file, json.dumps(approval, indent=2, ensure_ascii=False) + "\n")
    return file


def is_approved(wanted: Request, paths: Paths) -> bool:
    """Tell whether ``wanted`` needs no approval or has one. Raises ConfigError for a damaged approval."""
    if not wanted.asks:
        return True
    file = paths.approvals / f"{wanted.key}.json"
    return file.exists() and _read(file).key == wanted.key


def demand(wanted: Sequence[Request], paths: Paths) -> None:
    """Raise NotPermitted (exit 8) unless everything ``wanted`` is approved: what is asked for and the line that approves it."""
    missing = [request for request in wanted if not is_approved(request, paths)]
    if not missing:
        return
    first = missing[0]
    several = len(wanted) > 1
    asks = "; ".join(
        f"{request.plugin}: {ask}" if several else str(ask)
        for request in missing
        for ask in request.asks
    )
    keys = ", ".join(request.key[:12] for request in missing)
    raise NotPermitted(
        f"pipeline {first.pipeline} asks for more than the default: {asks}",
        Where(file=str(first.job_path), plugin=first.plugin),
        hint=f"To allow it: dativo grants approve {shlex.quote(str(first.job_path))} "
        f"(approval {keys})",
    )


def revoke(key: str, paths: Paths) -> None:
    """Delete the approval of this key, whole or its first 12 or more digits. Raises ConfigError."""
    found = [approval for approval in listing(paths) if approval.key.startswith(key)]
    if len(key) < 12 or len(found) != 1:
        raise ConfigError(f"{len(found)} approvals begin with {key!r}; 12 digits name one")
    (paths.approvals / f"{found[0].key}.json").unlink()


def listing(paths: Paths) -> tuple[Approval, ...]:
    """Return every approval, oldest first. Raises ConfigError for a damaged one."""
    if not paths.approvals.is_dir():
        return ()
    found = [_read(file) for file in paths.approvals.glob("*.json") if file.name[:1] != "."]
    return tuple(sorted(found, key=lambda approval: (approval.approved_at, approval.key)))


def _read(file: Path) -> Approval:
    """Return the approval in ``file`` after its owner, mode, key and name were checked."""
    document.check_owner(file.parent.stat(), file.parent, "the folder of approvals")
    value = document.load_json(file, "approval", limits.JOB_BYTES, trusted=True).value
    names = [field.name for field in fields(Approval)]
    if not isinstance(value, dict) or value.keys() != {"version", *names} or value["version"] != 1:
        raise ConfigError("this is not an approval", Where(file=str(file)), hint="Delete it")

    approval = Approval(**{name: _plain(value[name]) for name in names})
    key = _key(
        {
            "artefact": approval.artefact,
            "job": approval.job_digest,
            "grants": approval.grants,
            "asks": approval.asks,
        }
    )
    if key != approval.key or file.name != f"{key}.json":
        raise ConfigError(
            "the approval does not match its key", Where(file=str(file)), hint="Delete it"
        )
    return approval


def _plain(value: Any) -> Any:
    from decimal import Decimal

    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
