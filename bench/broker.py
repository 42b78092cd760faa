"""The broker on a link of 1 Gbit/s: how much of it is left, what a megabyte and a connection cost.

A network namespace of its own has one end of a veth pair, shaped by tc(8) at both ends, and the real dativo-broker; the server
stands in a second namespace behind the other end, the client in a third, as a plugin does. Nothing of the machine's own network
is touched, and no root is needed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.contract.broker_kernel import Broker, Inside, host, opening

from bench.measure import MB, Bar, median, table

NAME: Final = "api.example.com"
NEAR, FAR, PREFIX, PORT = "10.77.0.1", "10.77.0.2", 24, 4430
# Two ends on one machine: the burst is that of a network card's queue.
SHAPE: Final = ("tbf", "rate", "1gbit", "burst", "256kb", "latency", "20ms")
BYTES: Final = 500 * MB
BLOCK: Final = bytes(256 << 10)
CONNECTIONS: Final = 500
TIME_BAR = 1 / 0.95
CPU_BAR_MS = 1.0
RSS_BAR_MB = 64.0


def measure() -> list[Bar]:
    """Measure in a network namespace of its own."""
    command = ["unshare", "--user", "--map-root-user", "--net"]
    command += [sys.executable, "-m", "bench.broker", "inside"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=600)
    return [Bar(*row) for row in json.loads(done.stdout)]


@contextmanager
def _link() -> Iterator[socket.socket]:
    """Lay the link; the value is a listener at its far end."""
    with Inside() as far:
        pid = far.path.split("/")[2]
        there = ["nsenter", f"--net={far.path}"]
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", pid)
        for prefix, end, address in (([], "near", NEAR), (there, "far", FAR)):
            _run(*prefix, "ip", "address", "add", f"{address}/{PREFIX}", "dev", end)
            _run(*prefix, "ip", "link", "set", end, "up")
            _run(*prefix, "tc", "qdisc", "add", "dev", end, "root", *SHAPE)
        with far.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.settimeout(None)
            listener.bind((FAR, PORT))
            listener.listen(1024)
            yield listener


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=20)


def _serve(listener: socket.socket) -> None:
    """Do what the first byte of each connection says: send, take, or send the byte back."""
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=_serve_one, args=(stream,), daemon=True).start()


def _serve_one(stream: socket.socket) -> None:
    with stream:
        match stream.recv(1):
            case b"d":
                _send(stream)
            case b"u":
                _take(stream)
                stream.sendall(b"u")
            case byte:
                stream.sendall(byte)


def _send(stream: socket.socket) -> None:
    for at in range(0, BYTES, len(BLOCK)):
        stream.sendall(BLOCK[: BYTES - at])


def _take(stream: socket.socket) -> int:
    taken, room = 0, bytearray(len(BLOCK))
    while count := stream.recv_into(room):
        taken += count
    return taken


def _transfer(client: socket.socket, way: str) -> float:
    """Move everything one way; the seconds that it took."""
    begun = time.monotonic()
    with client:
        client.sendall(way[:1].encode())
        if way == "up":
            _send(client)
            client.shutdown(socket.SHUT_WR)
            taken = BYTES if client.recv(1) else 0
        else:
            taken = _take(client)
    if taken != BYTES:
        raise RuntimeError(f"{taken} bytes came of {BYTES}")
    return time.monotonic() - begun


def _echo(client: socket.socket) -> None:
    with client:
        client.sendall(b"e")
        if client.recv(1) != b"e":
            raise RuntimeError("no echo")


def _direct() -> socket.socket:
    return socket.create_connection((FAR, PORT), 60)


def _bars(broker: Broker, rounds: int = 3) -> list[Bar]:
    bars = []
    megabytes = BYTES / MB
    for way in ("down", "up"):
        direct, through, cpu = [], [], []
        for _ in range(rounds):
            direct.append(_transfer(_direct(), way))
            before = broker.cpu_s()
            through.append(_transfer(broker.connect(NAME, PORT), way))
            cpu.append(broker.cpu_s() - before)
        what = f"broker, 1 Gbit/s {way}"
        bars += [
            Bar(f"{what}: time against a direct connection", median(through) / median(direct), "×", TIME_BAR),
            Bar(f"{what}: CPU per MB", median(cpu) * 1000 / megabytes, "ms", CPU_BAR_MS),
            Bar(f"{what}: speed", megabytes / median(through), "MB/s"),
        ]  # fmt: skip
    bars += _connection_bars(broker)
    bars.append(Bar("broker: peak RSS", broker.memory_bytes() / MB, "MB", RSS_BAR_MB))
    return bars


def _connection_bars(broker: Broker) -> list[Bar]:
    """Connect, say a byte and hear it, again and again."""
    address = broker.address(NAME)
    direct, through = [], []
    before = broker.cpu_s()
    for _ in range(CONNECTIONS):
        begun = time.perf_counter()
        _echo(_direct())
        middle = time.perf_counter()
        _echo(broker.connect(address, PORT))
        direct.append(middle - begun)
        through.append(time.perf_counter() - middle)
    cpu_s = broker.cpu_s() - before
    return [
        Bar("broker: a connection and its first byte", median(through) * 1000, "ms"),
        Bar("broker: the same, direct", median(direct) * 1000, "ms"),
        Bar("broker: CPU per connection", cpu_s * 1000 / CONNECTIONS, "ms"),
    ]


def _inside() -> list[Bar]:
    with _link() as listener:
        threading.Thread(target=_serve, args=(listener,), daemon=True).start()
        grant = host(NAME, PORT, private=True)
        limits = {"max_rate": 1_000_000}
        with Broker(opening([grant], hosts=[[NAME, FAR]], limits=limits), ports=[PORT]) as broker:
            bars = _bars(broker)
            broker.finish()
    return bars


if __name__ == "__main__":
    if sys.argv[1:] == ["inside"]:
        rows = [(bar.what, bar.value, bar.unit, bar.bar) for bar in _inside()]
        sys.stdout.write(json.dumps(rows))
        sys.stdout.flush()
        # Threads still wait for connections of a namespace that is gone.
        os._exit(0)
    print(table(measure()))
