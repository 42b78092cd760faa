"""`dativo read` of a tap into target-jsonl against the bare tap into it: wall time of the whole pipe.

Both ends are other people's: tap-jsonl 0.3.1, as `dativo plugin add` installed it, and target-jsonl 0.1.4.
"""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.conformance.environments import environment

from bench.measure import Bar, alternate, command, median, table

BAR = 1.05
ROWS = 200_000
DEADLINE_S = 300.0
TAP = "singer:tap-jsonl==0.3.1"


def rows(path: Path, count: int) -> None:
    """Write the file that the tap reads: 9 columns, about 200 bytes a row."""
    with path.open("w") as file:
        for i in range(count):
            row = {
                "id": i,
                "name": f"name {i}",
                "price": i / 100,
                "score": i / 7,
                "note": None,
                "active": i % 2 == 0,
                "at": "2026-11-23T17:30:00Z",
                "tags": ["a", "b"],
                "address": {"city": "Bonn", "zip": str(i)},
            }
            file.write(json.dumps(row) + "\n")


def piped(
    source: Sequence[str], target: Sequence[str], folder: Path, env: Mapping[str, str]
) -> Callable[[], float]:
    """Return a run of ``source | target`` with its wall time as result. Raises RuntimeError when an end fails."""

    def once() -> float:
        for written in folder.glob("*-*.jsonl"):
            written.unlink()  # target-jsonl appends
        began = time.perf_counter()
        with tempfile.TemporaryFile() as words:
            reader = subprocess.Popen(
                source, stdout=subprocess.PIPE, stderr=words, cwd=folder, env=env
            )
            writer = subprocess.Popen(
                target, stdin=reader.stdout, stdout=subprocess.DEVNULL, stderr=words, cwd=folder
            )
            assert reader.stdout is not None
            reader.stdout.close()
            try:
                ended = [writer.wait(DEADLINE_S), reader.wait(DEADLINE_S)]
            except subprocess.TimeoutExpired:
                reader.kill()
                writer.kill()
                raise
            if any(ended):
                words.seek(0)
                told = words.read().decode()[-800:]
                raise RuntimeError(f"{source[0]} | {target[0]} ended with {ended}: {told}")
        return time.perf_counter() - began

    return once


def measure(rounds: int = 5) -> list[Bar]:
    """Run both pipes in turn; the median of each round's ratio, for a shared machine drifts."""
    dativo = str(Path(sysconfig.get_path("scripts")) / "dativo")
    cgroup = [] if os.geteuid() == 0 else ["--cgroup", "degraded"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = {**os.environ, "DATIVO_HOME": f"{folder}/home"}
        named = os.environ.get("DATIVO_CONFORMANCE_ENVIRONMENTS")
        jsonl = environment("target-jsonl", Path(named) if named else folder / "environments")
        rows(folder / "rows.jsonl", ROWS)
        config, catalog = folder / "tap.json", folder / "catalog.json"
        config.write_text(json.dumps({"path": str(folder / "rows.jsonl"), "primary_keys": ["id"]}))
        (folder / "target.json").write_text(json.dumps({"destination_path": str(folder)}))
        command(["env", "-C", name, dativo, "plugin", "add", TAP, *cgroup], env=env)
        [tap] = map(str, (folder / "home").rglob("env/bin/tap-jsonl"))
        catalog.write_text(command([tap, "--config", str(config), "--discover"]).stdout)
        target = [str(jsonl.program("target-jsonl")), "--config", "target.json"]
        read = [
            *(dativo, "read", "singer:tap-jsonl", "--as", "singer", "--config", str(config)),
            *("--ro", "rows.jsonl", *cgroup),
        ]
        bare = [tap, "--config", str(config), "--catalog", str(catalog)]
        found = alternate(
            {"bare": piped(bare, target, folder, env), "read": piped(read, target, folder, env)},
            rounds,
        )
    ratios = [over / base for base, over in zip(found["bare"], found["read"], strict=True)]
    return [
        Bar("dativo read | target-jsonl, wall over the bare tap's", median(ratios), "×", BAR),
        Bar("the bare tap | target-jsonl, wall", median(found["bare"]), "s"),
    ]


if __name__ == "__main__":
    print(table(measure()))
