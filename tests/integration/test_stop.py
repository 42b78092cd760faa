"""The operator's levers on runs under way: `dativo stop` and `dativo grants block`."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.integration.conftest import ROOT, Workspace

WITHIN_S = 60
JOB = """\
pipeline: {pipeline}
source:
  connector: ./plugins/bad
  config: {{mode: silent}}
target:
  connector: iceberg
  config: {{warehouse: ./{pipeline}, namespace: bad}}
"""


def start(workspace: Workspace, pipeline: str = "slow") -> subprocess.Popen[str]:
    """Start a run whose source writes ten rows and a state and then nothing; returns once they were read."""
    if not (workspace.folder / "plugins").exists():
        workspace.plugin(ROOT / "tests/plugins/bad", "bad")
    workspace.job(JOB.format(pipeline=pipeline), f"{pipeline}.yaml")
    process = workspace.start("run", f"{pipeline}.yaml", "--output", "json", *workspace.flags)
    assert process.stderr is not None
    for line in process.stderr:
        if "nothing more" in line:
            return process
    raise AssertionError(process.communicate())


def records(workspace: Workspace) -> list[dict[str, Any]]:
    folder = Path(workspace.environment()["DATIVO_HOME"]) / "state" / "running"
    return [json.loads(file.read_text()) for file in folder.glob("*.json")]


def until_jailed(workspace: Workspace) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not any(each["kind"] == "jail" for each in records(workspace)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def report(process: subprocess.Popen[str]) -> dict[str, Any]:
    stdout, stderr = process.communicate(timeout=WITHIN_S)
    assert stdout, stderr
    told: dict[str, Any] = json.loads(stdout)
    return told


def test_a_run_is_stopped_at_its_last_state(workspace: Workspace) -> None:
    process = start(workspace)
    (record,) = records(workspace)
    stopped = workspace.dativo("stop", record["run"][:19])
    assert stopped.status == 0, stopped.stderr
    assert record["run"] in stopped.stdout and "ended" in stopped.stdout
    told = report(process)
    assert process.returncode == 143
    assert told["epoch"] == 1  # ten rows and their state
    assert records(workspace) == []
    audit = (Path(workspace.environment()["DATIVO_HOME"]) / "state/audit.jsonl").read_text()
    assert '"event":"run_stopped"' in audit


def test_stop_now_kills_and_leaves_nothing(workspace: Workspace) -> None:
    process = start(workspace)
    stopped = workspace.dativo("stop", "--all", "--now")
    assert (stopped.status, stopped.stdout.split()[-1]) == (0, "killed"), stopped.stderr
    process.communicate(timeout=WITHIN_S)
    assert process.returncode == -9
    assert records(workspace) == []
    nothing = workspace.dativo("stop", "--all")
    assert (nothing.status, nothing.stdout) == (0, "")


def test_runs_of_one_plugin_are_stopped_and_others_go_on(workspace: Workspace) -> None:
    process = start(workspace)
    jail = workspace.start("jail", *workspace.flags, "--", "sleep", "600")
    until_jailed(workspace)
    stopped = workspace.dativo("stop", "--plugin", "bad")
    assert stopped.status == 0, stopped.stderr
    process.communicate(timeout=WITHIN_S)
    assert process.returncode == 143
    assert jail.poll() is None
    (record,) = records(workspace)
    assert record["kind"] == "jail"
    assert workspace.dativo("stop", record["run"]).status == 0
    jail.communicate(timeout=WITHIN_S)
    assert jail.returncode == 143


def test_what_is_not_running_is_an_error(workspace: Workspace) -> None:
    for arguments, status in ((("stop",), 2), (("stop", "x"), 3), (("stop", "x", "--all"), 2)):
        assert workspace.dativo(*arguments).status == status


def test_a_plugin_that_is_blocked_ends_at_once_and_commits_nothing_more(
    workspace: Workspace,
) -> None:
    process = start(workspace)
    blocked = workspace.dativo("grants", "block", "bad", "--reason", "sends data elsewhere")
    assert (blocked.status, blocked.stdout) == (0, "blocked bad\n"), blocked.stderr
    told = report(process)
    assert process.returncode == 8
    assert "sends data elsewhere" in told["error"]["message"]
    assert told["epoch"] == 0

    again = workspace.run("slow.yaml")
    assert again.status == 8
    assert "dativo grants unblock bad" in again.stderr
    assert "bad  sends data elsewhere" in workspace.dativo("grants", "show").stdout
    assert workspace.dativo("grants", "unblock", "bad").status == 0
    assert workspace.dativo("grants", "unblock", "bad").status == 3
