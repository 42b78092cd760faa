"""The committer's side of docs/spec/events.md, from ``hello`` to ``closed``, over the control socket."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from dativo.plugins.commit.committer import Committer
from dativo.plugins.commit.faults import CommitFault, io_fault, protocol_fault
from dativo.plugins.commit.messages import Inspected, Open, Sealed, StreamSchema
from dativo.plugins.commit.target import Target
from dativo.protocol.control import PROTOCOL_VERSION, Channel
from dativo.protocol.errors import ExitStatus, ProtocolViolation
from dativo.protocol.state import StateEntry

VERSION = "0.1.0"
FILES_PER_MESSAGE = 5000


class KernelGone(Exception):
    """The other end of the control socket is closed: there is nobody to work for, or to tell."""


def main(target: Target) -> int:
    """Serve the inherited control socket until ``close``; return the exit status of the process."""
    channel = Channel.inherited()
    try:
        return Session(channel, target).serve()
    finally:
        channel.close()


class Session:
    """One conversation with the kernel. Blocks on the socket between messages."""

    def __init__(self, channel: Channel, target: Target) -> None:
        self._channel = channel
        self._target = target
        self._input = "0"

    def serve(self) -> int:
        """Run the conversation; a failure is reported as ``error`` and returned as its exit status."""
        try:
            self._converse()
        except KernelGone as gone:
            sys.stderr.write(f"the kernel went away: {gone}\n")
            return int(ExitStatus.INTERNAL)
        except CommitFault as fault:
            return self._fail(fault)
        except ProtocolViolation as violation:
            return self._fail(protocol_fault(violation.message, value=violation.value))
        except OSError as error:
            return self._fail(io_fault(error, "use the warehouse", None))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            kind = type(error).__name__
            unexpected = CommitFault(
                f"the committer met a fault of its own: {kind}: {error}",
                code="internal.committer",
                hint="Report it with the traceback in the run's log.",
            )
            return self._fail(unexpected)
        return int(ExitStatus.DONE)

    def _fail(self, fault: CommitFault) -> int:
        with contextlib.suppress(KernelGone):  # then nobody listens; the exit status still tells
            self._send(fault.to_event(self._input))
        return fault.exit_status

    def _send(self, event: Mapping[str, object]) -> None:
        try:
            self._channel.send(event)
        except OSError as error:
            raise KernelGone(str(error)) from error

    def _converse(self) -> None:
        self._send(
            {
                "type": "hello",
                "protocol": PROTOCOL_VERSION,
                "program": self._target.program,
                "version": VERSION,
                "features": [],
            }
        )
        event = self._receive()
        if event["type"] != "open":
            raise protocol_fault("the first message is open", value=event["type"])
        request = Open.from_event(event)
        self._input = request.input
        if request.read_only:
            self._show(request)
            return
        committer = Committer(self._target, request)
        recovered = committer.recover()
        self._send(self._opened(committer.epoch, committer.resumed, recovered))
        # Only now: the source starts on `opened`, and the second of imports runs beside it.
        self._target.load()
        while (event := self._receive())["type"] != "close":
            self._answer(committer, event)
        committer.close()
        self._send({"type": "closed", "input": self._input})

    def _show(self, request: Open) -> None:
        """Answer ``open`` in mode read: state, tables and files, then ``closed``."""
        head, tables = self._target.inspect(request)
        self._send(self._opened(head.epoch, head.states, []))
        for table in tables:
            parts = [
                table.files[at : at + FILES_PER_MESSAGE]
                for at in range(0, len(table.files), FILES_PER_MESSAGE)
            ]
            columns = [column.to_event() for column in table.columns]
            for number, part in enumerate(parts or [()]):
                self._send(
                    {
                        "type": "table",
                        "input": self._input,
                        "stream": table.stream.to_event(),
                        "table": table.table,
                        "metadata_location": table.metadata_location,
                        **({"columns": columns} if columns and number == 0 else {}),
                        "files": [
                            {"path": file.path, "rows": file.rows, "bytes": file.bytes}
                            for file in part
                        ],
                    }
                )
        self._send({"type": "closed", "input": self._input})

    def _opened(
        self, epoch: int, states: Sequence[StateEntry], recovered: list[dict[str, object]]
    ) -> dict[str, object]:
        return {
            "type": "opened",
            "input": self._input,
            "epoch": epoch,
            "states": [state.to_event() for state in states],
            "recovered": recovered,
        }

    def _receive(self) -> Mapping[str, Any]:
        try:
            event = self._channel.receive()
        except OSError as error:
            raise KernelGone(str(error)) from error
        if event is None:
            raise KernelGone("the control socket ended without close")
        return event

    def _answer(self, committer: Committer, event: Mapping[str, Any]) -> None:
        if event.get("input") != self._input:
            raise protocol_fault("a message for another input", value=repr(event.get("input")))
        if event["type"] == "stream_schema":
            schema = StreamSchema.from_event(event)
            self._send(committer.plan(schema).to_event(self._input, schema))
        elif event["type"] == "inspected":
            committer.take_inspected(Inspected.from_event(event))
        elif event["type"] == "sealed":
            sealed = Sealed.from_event(event)
            epoch, tables = committer.commit(sealed)
            self._send(
                {
                    "type": "committed",
                    "input": self._input,
                    "sequence": sealed.sequence,
                    "epoch": epoch,
                    "tables": [table.to_event() for table in tables],
                }
            )
            committer.clear_staged(sealed)
        else:
            raise protocol_fault("unexpected message", value=event["type"])
