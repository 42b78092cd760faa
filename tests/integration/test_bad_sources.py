"""Sources that misbehave: the right exit status, the cause, the last state, nothing partial."""

from __future__ import annotations

import pytest
from tests.integration.conftest import ROOT, Workspace

from dativo.sandbox import WallMissing, cgroup

JOB = """\
pipeline: bad
source:
  connector: ./plugins/bad
  config: {{mode: {mode}}}
  grants: {{pids: 32, {grants}}}
target:
  connector: {target}
  config: {{warehouse: ./lake, namespace: bad}}
"""

# mode, exit status, what the error says, grants
CASES = [
    ("dies", 4, "exit status 3", ""),
    ("kills_itself", 4, "signal 9", ""),
    ("eats_memory", 6, "memory", "memory: 96MiB"),
    ("never_ends", 6, "longer than 4 s", "time: 4s"),
    ("never_ends", 6, "limit.output: more than 65536 bytes", "output: 64KiB"),
    ("floods_stderr", 6, "wrote more than 65536 bytes to stderr", "output: 64KiB"),
    ("silent", 6, "silent", "idle: 2s"),
    ("forks", 6, "longer than 5 s", "time: 5s"),
    ("writes_forever_to_disk", 4, "exit status 1", "file_size: 4MiB"),
    ("forges_state", 7, "state.undeclared", ""),
]


def prepare(workspace: Workspace, mode: str, grants: str = "", target: str = "iceberg") -> None:
    if not (workspace.folder / "plugins").exists():
        workspace.plugin(ROOT / "tests/plugins/bad", "bad")
    workspace.job(JOB.format(mode=mode, grants=grants, target=target))


@pytest.mark.parametrize(
    ("mode", "status", "said", "grants"), CASES, ids=[f"{case[0]} {case[3]}" for case in CASES]
)
def test_bad_source(workspace: Workspace, mode: str, status: int, said: str, grants: str) -> None:
    prepare(workspace, mode, grants)
    result = workspace.run(timeout_s=120)
    assert result.status == status, result.stderr
    assert said in result.stderr
    report = result.report
    assert report["status"] == status and said in report["error"]["message"]
    # Nothing partial: the open epoch is dropped, no row and no state of it is there.
    assert report["epoch"] == 0
    assert workspace.count("bad.rows") == 0
    assert not list((workspace.lake / "_dativo" / "staging").iterdir())
    state = workspace.dativo("state", "show", "job.yaml", *workspace.flags)
    assert '"epoch": 0' in state.stdout


def test_a_cut_off_line_keeps_what_the_last_state_covers(workspace: Workspace) -> None:
    prepare(workspace, "half_line")
    result = workspace.run()
    assert result.status == 7
    assert "framing.half_line" in result.report["error"]["message"]
    assert (result.report["epoch"], result.report["states"]) == (1, 1)
    assert workspace.count("bad.rows") == 10


def test_the_limits_that_were_hit_are_named(workspace: Workspace) -> None:
    prepare(workspace, "writes_forever_to_disk", "file_size: 4MiB")
    assert "File too large" in workspace.run().stderr
    prepare(workspace, "writes_forever_to_disk", "tmp: 4MiB")
    assert "No space left on device" in workspace.run().stderr
    prepare(workspace, "forks", "time: 3s")
    result = workspace.run()
    assert "longer than 3 s" in result.stderr
    assert "The limit is source.grants.time" in result.stderr
    if not workspace.flags:
        assert "was refused" in result.stderr and "32 processes" in result.stderr
        source = next(each for each in result.report["processes"] if each["name"] == "source")
        assert source["pids_peak"] in (None, 32)  # not every kernel keeps a peak
        assert source["throttled_s"] >= 0
        assert any("forks at 32 processes" in event for event in source["events"]), source


def test_text_on_stdout_is_counted_and_the_run_is_done(workspace: Workspace) -> None:
    prepare(workspace, "prints_text")
    result = workspace.run()
    assert result.status == 0, result.stderr
    assert result.report["text_lines"] == 2
    assert workspace.count("bad.rows") == 15
    assert "\x1b[31m" not in result.stdout + result.stderr


def test_a_strict_job_takes_no_text(workspace: Workspace) -> None:
    prepare(workspace, "prints_text")
    job = workspace.folder / "job.yaml"
    job.write_text(job.read_text().replace("source:\n", "source:\n  strict: true\n"))
    result = workspace.run()
    assert result.status == 7
    assert "framing.text_line" in result.report["error"]["message"]
    assert workspace.count("bad.rows") == 0


def test_what_was_committed_before_a_failure_stays(workspace: Workspace) -> None:
    prepare(workspace, "dies")
    text = (workspace.folder / "job.yaml").read_text()
    workspace.job(text + "  epoch: {rows: 5}\n")
    result = workspace.run()
    assert result.status == 4
    assert result.report["epoch"] == 1
    assert workspace.count("bad.rows") == 10
    assert "the API said 500" in result.stderr


@pytest.mark.parametrize("grant", ["memory: 200KiB", "pids: 1"])
def test_a_grant_that_is_too_small_to_start_with_is_a_limit(
    workspace: Workspace, grant: str
) -> None:
    try:
        cgroup.find_base()
    except WallMissing:
        pytest.skip("no cgroup can be written here")
    prepare(workspace, "dies")
    job = workspace.folder / "job.yaml"
    job.write_text(job.read_text().replace("pids: 32, ", grant))
    result = workspace.run()
    assert result.status == 6, result.stderr
    error = result.report["error"]
    assert error["message"].startswith("./plugins/bad")
    assert error["message"].endswith("are too little to start") and error["blame"] == "user"
