"""Try acts, each in a process of its own: a JSON list on stdin, one JSON object a line on stdout.

In: ``{"id", "act", "arguments", "within_s"}``. Out: ``{"id", "answer", "value"}``; the answer is null when the act was done,
else the name of an errno, of the signal that ended it, or what went wrong with the act itself.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import sys
from typing import Any

from tests.sandbox.probes.inside import files, kernel, network, processes

ACTS: dict[str, Any] = {**vars(files), **vars(kernel), **vars(network), **vars(processes)}


def answer_of(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and error.errno is None:
        return "ETIMEDOUT"
    if isinstance(error, OSError) and error.errno:
        return errno.errorcode.get(error.errno, f"errno {error.errno}")
    return f"{type(error).__name__}: {error}"


def attempt(job: dict[str, Any], out: int) -> None:
    os.setpgid(0, 0)
    said: dict[str, Any] = {"answer": None, "value": None}
    try:
        said["value"] = ACTS[job["act"]](*job["arguments"])
    except BaseException as error:
        said["answer"] = answer_of(error)
    os.write(out, json.dumps(said).encode())
    os._exit(0)


def outcome(job: dict[str, Any]) -> dict[str, Any]:
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        attempt(job, into)
    os.close(into)
    text = b""
    if select.select([out], [], [], job["within_s"])[0]:
        text = os.read(out, 65536)
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(out)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):  # it left nobody behind
        os.killpg(pid, signal.SIGKILL)
    if text:
        found: dict[str, Any] = json.loads(text)
        return found
    ended = f"status {status}"
    if os.WIFSIGNALED(status):
        ended = signal.Signals(os.WTERMSIG(status)).name
    return {"answer": ended, "value": None}


def main() -> None:
    for job in json.load(sys.stdin):
        print(json.dumps({"id": job["id"], **outcome(job)}), flush=True)
