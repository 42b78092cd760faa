"""The one process that speaks to Docker Engine: makes one container, waits for its end, and removes it.

``python -I -m dativo.sandbox.docker_keeper FD``: FD is a SOCK_SEQPACKET socket to the launcher. In comes one request: the path of
Docker's socket, the image by its id, and the body of the request to create a container; out goes ``{"type": "ended", "status",
"oom"}``. When the launcher's end closes, the container is killed. Nothing of what the program reads or writes passes here, and no
other process of dativo holds Docker's socket. What fails is told on stderr, as ``dativo-docker: WALL: REASON``.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dativo.sandbox.cgroup import start_time

if TYPE_CHECKING:
    from docker import APIClient

LAUNCHER_LABEL: Final = "dativo.launcher"
MAX_REQUEST_BYTES: Final = 192 * 1024
STATUS_FAILED: Final = 125
_API_S: Final = 60
# Not running any more, not there any more.
_GONE: Final = (404, 409)
_MAX_VOLUMES: Final = 64
_MAX_LABELS: Final = 256


class Refused(Exception):
    """The image or the engine cannot be used; the text says why."""


def main(fd: int) -> None:
    """Serve one container."""
    from docker import APIClient

    launcher = socket.socket(fileno=fd)
    request: dict[str, Any] = json.loads(launcher.recv(MAX_REQUEST_BYTES))
    engine = f"unix://{request['socket']}"
    client = APIClient(base_url=engine, version="auto", timeout=_API_S)
    _sweep(client)
    body = _adapted(client, request)
    made = str(client.create_container_from_config(body)["Id"])  # type: ignore[no-untyped-call]
    try:
        state = _run(client, made, launcher, engine)
    finally:
        client.remove_container(made, v=True, force=True)
    _tell(launcher, {"type": "ended", "status": state["ExitCode"], "oom": state["OOMKilled"]})


def launcher_name(pid: int) -> str:
    """Return what a launcher is known by: its pid namespace, its pid, its start."""
    return f"{Path('/proc/self/ns/pid').stat().st_ino}.{pid}.{start_time(pid)}"


def has_died(name: str) -> bool:
    """Whether that launcher has died; never of one whose pids are not seen here."""
    namespace, pid, _ = name.split(".")
    ours = launcher_name(int(pid))
    return ours.startswith(f"{namespace}.") and ours != name


def _sweep(client: APIClient) -> None:
    """Remove what is left where launcher and keeper have both died."""
    for left in client.containers(all=True, filters={"label": LAUNCHER_LABEL}):
        if has_died(left["Labels"][LAUNCHER_LABEL]):
            client.remove_container(left["Id"], v=True, force=True)


def _adapted(client: APIClient, request: dict[str, Any]) -> dict[str, Any]:
    """Complete the body with what takes the image's own wishes away."""
    from docker.errors import ImageNotFound

    try:
        found = client.inspect_image(request["image"])  # type: ignore[no-untyped-call]
    except ImageNotFound:
        raise Refused(f"the engine has no image {request['image']}") from None
    if found["Id"] != request["image"]:
        raise Refused(f"the image {request['image']} is {found['Id']} here")
    config = found.get("Config") or {}
    volumes, labels = config.get("Volumes") or {}, config.get("Labels") or {}
    if len(volumes) > _MAX_VOLUMES or len(labels) > _MAX_LABELS:
        raise Refused(f"the image has more than {_MAX_VOLUMES} volumes or {_MAX_LABELS} labels")
    body: dict[str, Any] = request["body"]
    body["Labels"] = {**dict.fromkeys(labels, ""), **body["Labels"]}
    mounts: list[dict[str, Any]] = body["HostConfig"]["Mounts"]
    taken = {os.path.normpath(mount["Target"]) for mount in mounts}
    for path in volumes:
        if os.path.normpath(path) not in taken:
            size = {"SizeBytes": request["volume_bytes"], "Mode": 0o1777}
            mounts.append({"Type": "tmpfs", "Target": path, "TmpfsOptions": size})
    return body


def _run(client: APIClient, made: str, launcher: socket.socket, engine: str) -> dict[str, Any]:
    """Start it and wait for its end; return the state that it ended in."""
    client.start(made)
    threading.Thread(target=_kill_when_left, args=(launcher, engine, made), daemon=True).start()
    client.wait(made, timeout=None)
    state: dict[str, Any] = client.inspect_container(made)["State"]
    return state


def _kill_when_left(launcher: socket.socket, engine: str, made: str) -> None:
    """Kill the container once the launcher's end is closed; the launcher says nothing more until then."""
    from docker import APIClient
    from docker.errors import APIError

    poll = select.poll()
    poll.register(launcher, select.POLLIN)
    poll.poll()
    try:
        APIClient(base_url=engine, version="auto", timeout=_API_S).kill(made)
    except APIError as error:
        if error.status_code not in _GONE:
            raise


def _tell(launcher: socket.socket, message: dict[str, Any]) -> None:
    try:
        launcher.send(json.dumps(message).encode())
    except (BrokenPipeError, ConnectionResetError):
        return  # it has died, and what it left is being cleared


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except Exception as error:  # whatever the engine or its client says is for the launcher to tell
        said = " ".join(str(error).split())[:1000]
        sys.stderr.write(f"dativo-docker: docker: {type(error).__name__}: {said}\n")
        sys.exit(STATUS_FAILED)
