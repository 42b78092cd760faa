"""Rows per CPU second against a target on singer-sdk: meltanolabs-target-csv, in an environment of its own from uv.

Start-up is taken off on both sides: what a run over the SCHEMA alone takes.
"""

from __future__ import annotations

import itertools
import json
import os
import sysconfig
import tempfile
from pathlib import Path

from bench.copies import write
from bench.measure import Bar, alternate, command, median, table
from bench.streams import streams

PACKAGES = ("meltanolabs-target-csv==0.5.0", "singer-sdk==0.54.9")
SHAPE = "orders"
PEER_ROWS = 10_000
BAR = 70.0


def measure(rounds: int = 3) -> list[Bar]:
    """Let both take their rows, and none, in turn; medians. The first time needs the network."""
    source = streams(SHAPE) / f"{SHAPE}.singer.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        none, some = Path(folder, "none.jsonl"), Path(folder, "some.jsonl")
        with source.open("rb") as lines:
            none.write_bytes(next(lines))
            some.write_bytes(none.read_bytes() + b"".join(itertools.islice(lines, PEER_ROWS)))
        config = Path(folder, "config.json")
        config.write_text(json.dumps({"output_path": folder}))
        rows = _rows(Path(folder), source)
        _peer_s(none, config)  # the environment is made, and its modules are compiled, by this one
        cases = {
            "none": lambda: _writer_s(none),
            "all": lambda: _writer_s(source),
            "peer, none": lambda: _peer_s(none, config),
            "peer, some": lambda: _peer_s(some, config),
        }
        found = {name: median(taken) for name, taken in alternate(cases, rounds).items()}
        written = Path(folder, f"{SHAPE}.csv").read_bytes().count(b"\n")
    if written < PEER_ROWS:
        raise RuntimeError(f"target-csv wrote {written} lines of {PEER_ROWS} rows")
    mine = rows / (found["all"] - found["none"])
    theirs = PEER_ROWS / (found["peer, some"] - found["peer, none"])
    return [
        Bar(
            "orders: writer, rows per CPU second over target-csv's",
            mine / theirs,
            "×",
            BAR,
            least=True,
        ),
        Bar("orders: writer, rows per CPU second", mine, ""),
        Bar("orders: target-csv, rows per CPU second", theirs, ""),
    ]


def _rows(folder: Path, source: Path) -> int:
    return write(source, SHAPE, "singer", "", _made(folder / "staging")).rows


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _writer_s(source: Path) -> float:
    with tempfile.TemporaryDirectory() as staging:
        return write(source, SHAPE, "singer", "", Path(staging)).cpu_s


def _peer_s(source: Path, config: Path) -> float:
    uv = str(Path(sysconfig.get_path("scripts")) / "uv")
    packages = [part for package in PACKAGES for part in ("--with", package)]
    argv = [uv, "run", "--quiet", "--no-project", *packages, "target-csv", "--config", str(config)]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return command(argv, env=env, stdin=source).cpu_s


if __name__ == "__main__":
    print(table(measure()))
