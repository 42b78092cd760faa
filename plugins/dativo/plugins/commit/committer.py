"""The commit, the same for every target (docs/spec/commit.md):

    take ──▶ intent ──▶ place ──▶ publish
    copies    durable    final     files and states
    hashed    list       names     taken over in one step

A kill before ``publish`` leaves an intent, by which the next ``open`` removes what was placed. A kill after it leaves
nothing to do.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dativo.plugins.commit import durable
from dativo.plugins.commit.faults import TAKEN_OVER, CommitFault, locating, protocol_fault
from dativo.plugins.commit.generations import Overwrites
from dativo.plugins.commit.messages import (
    Inspected,
    Metrics,
    Open,
    Plan,
    Sealed,
    StagedFile,
    StreamSchema,
    TableCommit,
)
from dativo.plugins.commit.partitions import placed
from dativo.plugins.commit.staging import Staging
from dativo.plugins.commit.target import Head, Intent, PlacedFile, Target, states_text
from dativo.protocol.control import MAX_EVENT_BYTES
from dativo.protocol.errors import Blame
from dativo.protocol.state import StateEntry, Stream, digest

MAX_STATES_BYTES = MAX_EVENT_BYTES * 3 // 4
# Of the files of one epoch; the metrics of more are dropped.
MAX_METRICS = 100_000


class Committer:
    """One pipeline's hold on a target, from ``open`` to ``close``."""

    def __init__(self, target: Target, request: Open) -> None:
        self._target = target
        self._request = request
        self._plans: dict[tuple[Stream, int], Plan] = {}
        self._planned: set[Stream] = set()
        self._sequence = 0
        self._inspected: dict[str, Inspected] = {}
        self._metrics = 0
        self._staging = Staging(request.staging)
        head = target.attach(request)
        self._overwrites = Overwrites(request, head)
        self._ended = self._overwrites.ended
        self._head: Head = replace(head, pending=self._overwrites.pending)
        self._began_at = head.epoch

    @property
    def epoch(self) -> int:
        """The number of the last committed epoch."""
        return self._head.epoch

    @property
    def resumed(self) -> tuple[StateEntry, ...]:
        """The states that the source goes on from: the published ones, of overwritten streams the pending ones."""
        return self._overwrites.swapped(self._head.states, self._head.pending)[0]

    def recover(self) -> list[dict[str, object]]:
        """Clear what killed runs of this pipeline left; return the ``recovered`` items of ``opened``."""
        self._sweep_placing()
        recovered: list[dict[str, object]] = []
        for intent in self._target.intents():
            if self._is_committed(intent):
                action = "finished"
            else:
                action = "dropped"
                self._drop(intent)
            self._target.forget(intent)
            recovered.append({"epoch": intent.epoch, "action": action, "files": len(intent.files)})
        return recovered

    def plan(self, schema: StreamSchema) -> Plan:
        """Make or grow the table of a stream."""
        contract = schema.contract or self._request.contracts.get(schema.stream)
        layout = schema.layout or self._request.layouts.get(schema.stream)
        plan = self._target.plan(replace(schema, contract=contract, layout=layout))
        self._plans[schema.stream, schema.revision] = replace(plan, columns=())
        self._planned.add(schema.stream)
        generation = self._overwrites.number(schema.stream)
        return replace(plan, epoch=self._began_at, generation=generation)

    def take_inspected(self, inspected: Inspected) -> None:
        """Keep what was found in a file of the epoch that is sealed next."""
        self._metrics += len(inspected.columns)
        if not self._target.keeps_metrics or self._metrics > MAX_METRICS:
            inspected = replace(inspected, columns=())
        self._inspected[inspected.name] = inspected

    def commit(self, sealed: Sealed) -> tuple[int, list[TableCommit]]:
        """Make one epoch durable; return its number and what it added. Nothing new gives the old number."""
        if sealed.sequence != self._sequence + 1:
            raise protocol_fault(
                f"sealed {sealed.sequence} follows sealed {self._sequence}", code="sequence"
            )
        self._sequence = sealed.sequence
        intent = self._intent(sealed)
        if not intent.changes_tables and self._holds(intent):
            return self._head.epoch, []
        for states in (intent.states, self._overwrites.swapped(intent.states, intent.pending)[0]):
            self._check_size(states)
        if intent.changes_tables:
            self._prepare(intent, sealed.files)
        # Once publish has begun only its own word that nothing was shown lets us delete; any other failure may have come
        # after the commit, and the next open tells by the intent.
        with self._dropping_if_taken_over(intent):
            tables = self._target.publish(intent)
        self._head = Head(intent.epoch, intent.attempt, intent.states, intent.pending)
        self._ended = frozenset()
        return intent.epoch, tables

    def clear_staged(self, sealed: Sealed) -> None:
        """Delete the staged files of a committed epoch."""
        for file in sealed.files:
            self._staging.remove(file)

    def close(self) -> None:
        """Release target and staging."""
        self._staging.close()
        self._target.close()

    def _intent(self, sealed: Sealed) -> Intent:
        overwrites = self._overwrites
        attempt, epoch = str(uuid.uuid4()), self._head.epoch + 1
        files = tuple(self._name(sealed.files, epoch, attempt))
        states, pending = overwrites.add(self._head, sealed.states)
        generations = {
            stream: overwrites.filled(stream)
            for stream in (*sorted(self._ended), *(file.stream for file in files))
            if overwrites.includes(stream)
        }
        swaps = left_over = frozenset[Stream]()
        if sealed.complete and overwrites.any:
            swaps = overwrites.streams(self._planned)
            left_over = overwrites.left_over(swaps)
            states, pending = overwrites.swapped(states, pending)
            generations |= {stream: overwrites.given_up(stream) for stream in sorted(left_over)}
            generations |= {stream: overwrites.published(stream) for stream in sorted(swaps)}
        return Intent(
            epoch,
            attempt,
            self._request.run,
            files,
            states,
            pending,
            tuple(generations.values()),
            self._ended | left_over,
            swaps,
            sealed.activations if sealed.complete else {},
        )

    def _take_metrics(self, file: StagedFile) -> tuple[Metrics, ...]:
        inspected = self._inspected.pop(file.name, None)
        if inspected is None or not inspected.is_of(file):
            raise CommitFault(
                f"the writer's staged file {file.name} was not inspected as it was sealed",
                code="protocol.staged_file",
                stream=file.stream,
                value=file.name,
                blame=Blame.DATIVO,
            )
        return inspected.columns

    def _holds(self, intent: Intent) -> bool:
        head = self._head
        return digest(intent.states) == digest(head.states) and digest(intent.pending) == digest(
            head.pending
        )

    def _prepare(self, intent: Intent, staged: Sequence[StagedFile]) -> None:
        folder = self._target.placing() / intent.attempt
        copies = [folder / f"{number}.parquet" for number in range(len(staged))]
        try:
            with locating("create a folder", folder):
                durable.make_directories(folder)
            for file, copy in zip(staged, copies, strict=True):
                self._staging.take(file, copy)
            self._target.record(intent)
            self._place(copies, intent.files)
            with locating("remove an empty folder", folder):
                folder.rmdir()
        except CommitFault:
            self._remove_copies(folder)
            with self._dropping_if_taken_over(intent):
                self._target.check_held()
            raise

    def _remove_copies(self, folder: Path) -> None:
        with locating("remove unfinished copies", folder):
            if folder.exists():
                shutil.rmtree(folder)

    @contextmanager
    def _dropping_if_taken_over(self, intent: Intent) -> Iterator[None]:
        # Whoever took the pipeline over has dropped our intent: nobody but us can name what we placed since.
        try:
            yield
        except CommitFault as fault:
            if fault.code == TAKEN_OVER:
                self._drop(intent)
            raise

    def _place(self, copies: Sequence[Path], files: Sequence[PlacedFile]) -> None:
        folders = set()
        for copy, file in zip(copies, files, strict=True):
            final = self._request.warehouse / file.path
            self._place_file(copy, final)
            folders.add(final.parent)
        for folder in sorted(folders):
            with locating("sync a folder", folder):
                durable.sync_directory(folder)

    def _place_file(self, copy: Path, final: Path) -> None:
        with locating("place a file", final):
            copy.rename(final)

    def _name(self, files: Sequence[StagedFile], epoch: int, attempt: str) -> list[PlacedFile]:
        files_placed = []
        for number, file in enumerate(files):
            name = f"{self._request.key}-{epoch}-{attempt}-{number}.parquet"
            plan = self._plan_of(file)
            path = self._target.data_folder(file.stream) / name
            relative = path.relative_to(self._request.warehouse)
            files_placed.append(
                PlacedFile(
                    file.stream,
                    str(relative),
                    plan.schema_id,
                    file.rows,
                    file.bytes,
                    file.sha256,
                    file.version,
                    self._overwrites.number(file.stream),
                    self._take_metrics(file),
                    placed(plan.layout, plan.sources, file.partition, file.name),
                )
            )
        self._inspected.clear()
        self._metrics = 0
        return files_placed

    def _check_size(self, states: Sequence[StateEntry]) -> None:
        # What is committed must fit into the `opened` of the next run, or the pipeline could never start again.
        size = len(states_text(states).encode())
        if size > MAX_STATES_BYTES:
            raise CommitFault(
                f"the states of all streams have {size} bytes, the limit is {MAX_STATES_BYTES}",
                code="limit.states_bytes",
                hint="Split the streams over several pipelines, or see why the source keeps so much in its state.",
                blame=Blame.PLUGIN,
            )

    def _plan_of(self, file: StagedFile) -> Plan:
        plan = self._plans.get((file.stream, file.revision))
        if plan is None:
            raise CommitFault(
                f"the writer's staged file {file.name} was written by a schema that has no plan",
                code="protocol.unplanned",
                stream=file.stream,
                value=f"revision {file.revision}",
                blame=Blame.DATIVO,
            )
        return plan

    def _is_committed(self, intent: Intent) -> bool:
        if intent.epoch < self._head.epoch:
            return True
        return intent.epoch == self._head.epoch and intent.attempt == self._head.attempt

    def _drop(self, intent: Intent) -> None:
        for file in intent.files:
            path = self._request.warehouse / file.path
            with locating("remove an unfinished file", path):
                path.unlink(missing_ok=True)
        self._target.discard(intent)

    def _sweep_placing(self) -> None:
        # Renamed away first: a rival that is still alive then finds no folder to place files from.
        placing = self._target.placing()
        with locating("clear unfinished copies", placing):
            if placing.exists():
                placing.rename(placing.with_name(f".{placing.name}.{uuid.uuid4().hex}"))
            for grave in placing.parent.glob(f".{placing.name}.*"):
                shutil.rmtree(grave)
