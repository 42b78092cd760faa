"""A pipeline's commit log in ``<dataset>/_dativo/<pipeline>`` (docs/spec/commit.md has the format).

    lock         held with flock(2) while anything below is changed
    fence.json   the run that holds the pipeline; the one before it is a zombie from then on
    intent.json  the one epoch that is being placed
    log/         00000000000000000001.json …, one entry per epoch; every 50 entries a .checkpoint.json of all before it

An entry appears whole, under a number that nobody had before (link(2)): that is the commit.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from dativo.plugins.commit import durable
from dativo.plugins.commit.faults import CommitFault, config_fault, conflict_fault, locating
from dativo.plugins.commit.kept import check_regular, read_kept
from dativo.plugins.commit.messages import Open
from dativo.plugins.commit.target import Intent, corrupt, file_record, files_from, states_from
from dativo.plugins.parquet.entries import LogState, states_record
from dativo.protocol.errors import ProtocolViolation

FORMAT: Final = 1
CHECKPOINT_EPOCHS: Final = 50
BUSY_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.05

_ENTRY = re.compile(r"(\d{20})(\.checkpoint)?\.json")


class Log:
    """The log of one pipeline on behalf of one run. Every method blocks on disk and raises CommitFault."""

    def __init__(self, dataset: Path, request: Open) -> None:
        self._dataset = dataset
        self._request = request
        self._folder = dataset / "_dativo" / request.key
        self._entries = self._folder / "log"
        with locating("create the commit log", self._folder):
            durable.make_directories(self._entries)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            check_regular(self._folder / "lock")
            self._lock = os.open(self._folder / "lock", flags, durable.FILE_MODE)

    @property
    def folder(self) -> Path:
        """The pipeline's private folder."""
        return self._folder

    def close(self) -> None:
        """Release the lock file."""
        os.close(self._lock)

    def attach(self) -> LogState:
        """Write our run into the fence; return what the log says. Finishes the deletions of the last entry."""
        with self._locked():
            fence = self._read(self._folder / "fence.json")
            if fence is not None and fence.get("owner") != self._request.owner:
                raise config_fault(
                    "pipeline_owned",
                    f"pipeline {self._request.pipeline} of this dataset belongs to {fence.get('owner')}",
                    value=self._request.owner,
                    hint="Name the pipeline otherwise, or use another namespace or warehouse.",
                )
            with locating("take the pipeline over", self._folder):
                durable.remove_temporaries(self._folder)
                durable.remove_temporaries(self._entries)
                durable.replace(self._folder / "fence.json", _dump(self._identity()))
            state = self.read()
            self._delete(state.removed)
        return state

    def read(self) -> LogState:
        """Return what the log says. Writes nothing."""
        state = LogState(self._request.namespace)
        for path, record in self._records():
            with _readable(path):
                state.add(record, str(path))
        return state

    def intents(self) -> Sequence[Intent]:
        """Return the intent that was never settled, if there is one."""
        path = self._folder / "intent.json"
        record = self._read(path)
        if record is None:
            return []
        where = str(path)
        with _readable(path):
            files = files_from(record["files"], where)
            states = states_from(record["states"], record["states_sha256"], where)
            return [Intent(record["epoch"], record["attempt"], record["run"], files, states)]

    def check_held(self) -> None:
        """Raise ``conflict.epoch`` unless the fence names our run."""
        fence = self._read(self._folder / "fence.json") or {}
        if fence.get("run") != self._request.run:
            raise self._taken_over(f"run {fence.get('run')} took over")

    def record(self, intent: Intent) -> None:
        """Write ``intent`` down. Raises ``conflict.epoch`` when the pipeline is not ours any more."""
        record = {
            **self._identity(),
            "epoch": intent.epoch,
            "parent": intent.parent,
            "attempt": intent.attempt,
            "files": [file_record(file) for file in intent.files],
            **states_record(intent.states),
        }
        with self._locked():
            self.check_held()
            with locating("write the intent", self._folder):
                durable.replace(self._folder / "intent.json", _dump(record))

    def forget(self, intent: Intent) -> None:
        """Remove ``intent``."""
        with self._locked():
            self._remove_intent(intent)

    def commit(self, epoch: int, entry: Mapping[str, object], intent: Intent) -> Path:
        """Add ``entry`` under the number ``epoch``, end ``intent``, and return the entry's path.

        Raises ``conflict.epoch`` when the pipeline is not ours any more or the number is taken.
        """
        path = self._entries / f"{epoch:020d}.json"
        with self._locked():
            self.check_held()
            with locating("write the commit log", path):
                try:
                    durable.create_whole(path, _dump({**self._identity(), **entry}))
                except FileExistsError as error:
                    raise self._taken_over(f"another run committed epoch {epoch} of") from error
            self._remove_intent(intent)
        return path

    def settle(self, state: LogState) -> None:
        """Delete what the last entry removed and, CHECKPOINT_EPOCHS after the last one, sum the log up in one file."""
        self._delete(state.removed)
        epoch = state.head.epoch
        last = max((number for number, is_sum in self._names() if is_sum), default=0)
        if epoch - last < CHECKPOINT_EPOCHS:
            return
        path = self._entries / f"{epoch:020d}.checkpoint.json"
        with locating("write a checkpoint of the log", path):
            durable.replace(path, _dump({**self._identity(), **state.checkpoint()}))

    def _delete(self, paths: Sequence[str]) -> None:
        with locating("delete removed files", self._dataset):
            durable.remove_files([self._request.warehouse / path for path in paths])

    def _records(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the last checkpoint and the entries after it, in order. Raises CommitFault on a gap."""
        names = self._names()
        start = max((number for number, is_sum in names if is_sum), default=0)
        if start:
            yield self._entry(f"{start:020d}.checkpoint.json", start)
        numbers = sorted(number for number, is_sum in names if not is_sum and number > start)
        for expected, number in enumerate(numbers, start + 1):
            if number != expected:
                raise corrupt(f"entry {expected} of the commit log is missing", str(self._entries))
            yield self._entry(f"{number:020d}.json", number)

    def _entry(self, name: str, epoch: int) -> tuple[Path, dict[str, Any]]:
        path = self._entries / name
        record = self._read(path)
        if record is None or record.get("format") != FORMAT or record.get("epoch") != epoch:
            raise corrupt(f"not an entry of format {FORMAT} for epoch {epoch}", str(path))
        return path, record

    def _names(self) -> list[tuple[int, bool]]:
        with locating("read the commit log", self._entries):
            matches = (_ENTRY.fullmatch(path.name) for path in self._entries.iterdir())
            return [(int(match[1]), match[2] is not None) for match in matches if match]

    def _read(self, path: Path) -> dict[str, Any] | None:
        with locating("read a file of the commit log", path), _readable(path):
            try:
                data = read_kept(path)
            except FileNotFoundError:
                return None
            record = json.loads(data)
            if not isinstance(record, dict):
                raise TypeError("not an object")
            return record

    def _remove_intent(self, intent: Intent) -> None:
        path = self._folder / "intent.json"
        record = self._read(path)
        if record is not None and record.get("attempt") == intent.attempt:
            with locating("remove the intent", path):
                path.unlink()

    def _identity(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "pipeline": self._request.pipeline,
            "partition": self._request.partition,
            "owner": self._request.owner,
            "run": self._request.run,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }

    def _taken_over(self, what: str) -> CommitFault:
        return conflict_fault(
            "epoch",
            f"{what} pipeline {self._request.pipeline}",
            value=f"this run is {self._request.run}",
            hint="Only one run of a pipeline may write: let the other one finish.",
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self._folder / "lock"
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise conflict_fault(
                        "locked",
                        f"the commit log is locked by another process for {BUSY_TIMEOUT_S:.0f} s",
                        value=str(path),
                        hint="Wait for the other run, or see who holds the file with fuser(1).",
                    ) from error
                time.sleep(_POLL_S)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, RecursionError, ProtocolViolation) as error:
        raise corrupt(f"a file of the commit log cannot be read: {error!r}", str(path)) from error


def _dump(record: Mapping[str, object]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
