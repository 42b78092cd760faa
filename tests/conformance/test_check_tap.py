"""singer-check-tap on Airbyte sources read as taps; target-jsonl behind them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conformance.environments import Environment
from tests.integration.conftest import DATIVO, Workspace

# singer-check-tap looks at what it has read when the tap is gone, however much of the pipe is still unread: so this waits, its
# stdout closed, until the one that reads has come to the end (its reading thread is gone).
TAP = """\
#!{python}
import os, subprocess, sys, time
status = subprocess.run([{dativo!r}, "read", {plugin!r}, "--as", "singer", *{flags!r}, *sys.argv[1:]]).returncode
os.close(1)
deadline = time.monotonic() + 30
while len(os.listdir(f"/proc/{{os.getppid()}}/task")) > 1 and time.monotonic() < deadline:
    time.sleep(0.01)
sys.exit(status)
"""
SOURCES = {
    "airbyte:source-faker": {"count": 200, "seed": 7, "parallelism": 1, "records_per_slice": 50},
    "airbyte:source-hardcoded-records": {"count": 100},
}


@pytest.mark.parametrize("plugin", SOURCES)
def test_check_tap(
    shelf: Workspace, singer_tools: Environment, tmp_path: Path, plugin: str
) -> None:
    tap = tmp_path / "tap"
    tap.write_text(
        TAP.format(python=sys.executable, dativo=str(DATIVO), plugin=plugin, flags=shelf.flags)
    )
    tap.chmod(0o755)
    config = shelf.folder / "tap-config.json"
    config.write_text(json.dumps(SOURCES[plugin]))
    checked = subprocess.run(
        [singer_tools.program("singer-check-tap"), "--tap", tap, "--config", config, "--debug"],
        cwd=shelf.folder,
        env=shelf.environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert checked.returncode == 0, (checked.stdout, checked.stderr[-4000:])
    assert checked.stdout.count("The output is valid.") == 2, "the run with a state is the second"
    state = json.loads((shelf.folder / "singer-check-tap-data/state.json").read_text())
    assert state.keys() == {"airbyte_states"}


def test_target_jsonl(shelf: Workspace, target_jsonl: Environment, tmp_path: Path) -> None:
    plugin = "airbyte:source-faker"
    config = shelf.folder / "tap-config.json"
    config.write_text(json.dumps(SOURCES[plugin]))
    (tmp_path / "target.json").write_text(json.dumps({"destination_path": str(tmp_path)}))
    read = shelf.start("read", plugin, "--as", "singer", "--config", str(config), *shelf.flags,
                       text=False)  # fmt: skip
    loaded = subprocess.run(
        [target_jsonl.program("target-jsonl"), "--config", tmp_path / "target.json"],
        stdin=read.stdout,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert read.stdout is not None and read.stderr is not None
    with read.stdout, read.stderr:
        assert read.wait(60) == 0, read.stderr.read()
    assert loaded.returncode == 0, loaded.stderr
    assert json.loads(loaded.stdout.splitlines()[-1]).keys() == {"airbyte_states"}
    rows = {
        path.name.rpartition("-")[0]: len(path.read_text().splitlines())
        for path in tmp_path.glob("*.jsonl")
    }
    assert rows["users"] == 200 and rows["products"] == 100 and "purchases" in rows
