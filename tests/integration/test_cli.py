"""The command line as a user meets it: what goes where, which status, and what is left when it is ended."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.integration.conftest import DATIVO, ROOT, Workspace, descendants

pytestmark = pytest.mark.usefixtures("nothing_left")
DEADLINE_S = 60
ROWS, STATE_EVERY = 20_000, 500
JOB = """\
pipeline: numbers
source:
  connector: ./plugins/resumable
  config: {rows: ROWS, state_every: 500, pause_s: PAUSE}
target:
  connector: TARGET
  config: {warehouse: ./lake, namespace: numbers}
  epoch: {rows: 1000}
"""


@pytest.fixture
def numbers(workspace: Workspace) -> Workspace:
    workspace.plugin(ROOT / "examples/plugins/resumable", "resumable")
    return write(workspace, rows=1000)


def write(
    workspace: Workspace, *, rows: int, pause_s: float = 0, target: str = "iceberg"
) -> Workspace:
    values = {"ROWS": str(rows), "PAUSE": str(pause_s), "TARGET": target}
    workspace.job(re.sub("ROWS|PAUSE|TARGET", lambda found: values[found[0]], JOB))
    return workspace


def one_object(text: str) -> dict[str, Any]:
    """Read what must be one JSON object on one line, and nothing else."""
    assert text.endswith("\n") and text.count("\n") == 1
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


# --- commands --------------------------------------------------------------------------------------------------------------


def test_init_writes_a_job_once(workspace: Workspace) -> None:
    made = workspace.dativo("init", "shop", "--source", "airbyte:source-faker")
    assert made.status == 0 and made.stderr == ""
    assert made.stdout == "shop/job.yaml\n"
    before = (workspace.folder / "shop/job.yaml").read_text()
    assert "airbyte:source-faker" in before
    again = workspace.dativo("init", "shop")
    assert again.status == 3 and "there is a job already" in again.stderr
    assert (workspace.folder / "shop/job.yaml").read_text() == before
    nowhere = workspace.dativo("init", "/proc/nowhere")
    assert nowhere.status == 3 and "cannot write a job" in nowhere.stderr
    # The connector is not installed: the next step is named.
    assert "dativo plugin add airbyte:source-faker" in workspace.run("shop/job.yaml").stderr


@pytest.mark.parametrize("target", ["iceberg", "parquet"])
def test_the_printed_line_works_when_pasted(numbers: Workspace, target: str) -> None:
    write(numbers, rows=1000, target=target)
    told = numbers.dativo("run", "job.yaml", "--quiet", *numbers.flags)
    assert told.status == 0, told.stderr
    line = told.stdout.rstrip().splitlines()[-1]
    assert ("files" in line) == (target == "parquet")
    read = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=numbers.folder,
        env=numbers.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert read.returncode == 0, read.stderr
    assert re.search(r"numbers\.numbers\b.*\b1000\b", read.stdout)


def test_spec_check_discover(numbers: Workspace) -> None:
    spec = numbers.dativo("spec", "./plugins/resumable", *numbers.flags)
    assert one_object(spec.stdout)["connectionSpecification"]["required"] == ["rows"]
    check = numbers.dativo("check", "job.yaml", *numbers.flags)
    assert check.status == 0
    assert one_object(check.stdout) == {"status": "SUCCEEDED", "message": ""}
    discover = numbers.dativo("discover", "job.yaml", *numbers.flags)
    assert [entry["name"] for entry in one_object(discover.stdout)["streams"]] == ["numbers"]
    assert spec.stderr == check.stderr == discover.stderr == ""

    write(numbers, rows=-1)
    failed = numbers.dativo("check", "job.yaml", *numbers.flags)
    assert failed.status == 3
    assert one_object(failed.stdout) == {"status": "FAILED", "message": "rows must be a count"}
    unknown = numbers.dativo("spec", "./plugins/nowhere", *numbers.flags)
    assert unknown.status == 3 and "there is no connector" in unknown.stderr
    assert unknown.stdout == ""


def test_a_plugin_of_the_workspace_gets_the_standard_library_alone(workspace: Workspace) -> None:
    workspace.plugin(ROOT / "examples/plugins/resumable", "resumable")
    source = workspace.folder / "plugins/resumable/source.py"
    at = '        write({"type": "CATALOG"'
    said = "        sys.exit(f\"packages: {[path for path in sys.path if path.endswith('-packages')]}\")\n"
    source.write_text(source.read_text().replace(at, said + at))
    workspace.job(
        JOB.replace("ROWS", "1").replace("PAUSE", "0").replace("TARGET", "iceberg"),
    )
    failed = workspace.dativo("discover", "job.yaml", *workspace.flags)
    assert failed.status == 4
    assert "packages: []" in failed.stderr


def test_a_source_that_says_a_secret_while_it_is_asked(workspace: Workspace) -> None:
    workspace.plugin(ROOT / "examples/plugins/resumable", "resumable")
    source = workspace.folder / "plugins/resumable/source.py"
    text = source.read_text()
    at = '        write({"type": "CATALOG"'
    assert at in text
    said = '        sys.exit("bad token " + load(options.config)["token"])\n'
    source.write_text(text.replace(at, said + at))
    workspace.job(
        JOB.replace("{rows: ROWS,", "{rows: 1, token: {secret: 'env://TOKEN'},")
        .replace("PAUSE", "0")
        .replace("TARGET", "iceberg")
    )
    workspace.env["TOKEN"] = "a-secret-of-some-length"
    assert workspace.dativo("grants", "approve", "job.yaml").status == 0
    for command in (
        ("discover", "job.yaml"),
        ("plan", "job.yaml"),
        ("run", "job.yaml", "--output", "json"),
    ):
        result = workspace.dativo(*command, *workspace.flags)
        assert result.status == 4
        assert "bad token [secret]" in result.stderr
        assert workspace.env["TOKEN"] not in result.stdout + result.stderr


def test_plan_starts_nothing_that_it_need_not(numbers: Workspace) -> None:
    plan = numbers.dativo("plan", "job.yaml", *numbers.flags)
    assert plan.status == 0, plan.stderr
    document = json.loads(plan.stdout)
    assert document["pipeline"] == "numbers" and document["beyond_default"] == []
    assert [entry["stream"] for entry in document["source"]["streams"]] == ["numbers"]
    assert not numbers.lake.exists()
    assert numbers.dativo("runs", "list").stdout == ""


def test_run_and_what_tells_of_it(numbers: Workspace) -> None:
    done = numbers.run()
    assert done.status == 0, done.stderr
    report = one_object(done.stdout)
    assert report["streams"][0]["written"] == 1000 and report["error"] is None
    table = numbers.dativo("run", "job.yaml", *numbers.flags)
    assert "numbers: done in" in table.stdout and "\x1b" not in table.stdout
    broken = numbers.job("pipeline: numbers\n", "broken.yaml")
    assert numbers.run(broken.name).status == 3

    # A run that was never begun, for want of a job, is no run.
    listed = numbers.dativo("runs", "list").stdout.splitlines()
    assert len(listed) == 2 and listed[1].startswith(report["run"])
    runs = one_object(numbers.dativo("runs", "list", "--output", "json").stdout)["runs"]
    assert [run["status"] for run in runs] == [0, 0]
    assert len(numbers.dativo("runs", "list", "--limit", "1").stdout.splitlines()) == 1
    assert one_object(numbers.dativo("runs", "show", report["run"]).stdout) == report
    assert one_object(numbers.dativo("runs", "show", report["run"][:-2]).stdout) == report
    nobody = numbers.dativo("runs", "show", "19990101")
    assert nobody.status == 3 and "dativo runs list" in nobody.stderr


def test_grants(numbers: Workspace) -> None:
    assert numbers.dativo("grants", "show", "job.yaml").stdout == "nothing beyond the default\n"
    assert "nothing to approve" in numbers.dativo("grants", "approve", "job.yaml").stdout
    path = numbers.folder / "job.yaml"
    path.write_text(path.read_text().replace("target:", "  grants: {memory: 4GiB}\ntarget:", 1))
    shown = numbers.dativo("grants", "show", "job.yaml").stdout
    assert "memory 4GiB" in shown and "not approved" in shown
    approved = numbers.dativo("grants", "approve", "job.yaml")
    assert approved.stdout.startswith("approved ") and "memory 4GiB" in approved.stderr
    assert "not approved" not in numbers.dativo("grants", "show", "job.yaml").stdout
    [line] = numbers.dativo("grants", "show").stdout.splitlines()
    assert "numbers" in line and "memory 4GiB" in line


@pytest.mark.parametrize("target", ["iceberg", "parquet"])
def test_state_and_files(numbers: Workspace, target: str) -> None:
    write(numbers, rows=1000, target=target)
    nothing = one_object(numbers.dativo("state", "show", "job.yaml", *numbers.flags).stdout)
    assert nothing == {"pipeline": "numbers", "epoch": 0, "states": []}
    assert numbers.dativo("files", "job.yaml", *numbers.flags).stdout == ""
    assert not numbers.lake.exists()

    assert numbers.run().status == 0
    state = one_object(numbers.dativo("state", "show", "job.yaml", *numbers.flags).stdout)
    assert state["epoch"] >= 1
    assert json.loads(state["states"][0]["state"])["stream"]["stream_state"] == {"next": 1000}

    files = numbers.dativo("files", "job.yaml", *numbers.flags).stdout.splitlines()
    assert files and all(Path(path).is_file() for path in files)
    same = numbers.dativo("files", "job.yaml", "--stream", "numbers", *numbers.flags)
    assert same.stdout.splitlines() == files
    other = numbers.dativo("files", "job.yaml", "--stream", "number", *numbers.flags)
    assert other.status == 3 and "There is: numbers" in other.stderr and other.stdout == ""
    view = numbers.dativo("files", "job.yaml", "--view", *numbers.flags).stdout
    assert view.startswith('CREATE OR REPLACE VIEW "numbers" AS')
    if target == "parquet":
        connection = duckdb.connect()
        connection.execute(view)
        assert connection.execute('SELECT count(*) FROM "numbers"').fetchone() == (1000,)


def test_plugins_of_a_workspace_without_a_lock(workspace: Workspace) -> None:
    assert workspace.dativo("plugin", "list").stdout == ""
    listed = workspace.dativo("plugin", "list", "--output", "json")
    assert one_object(listed.stdout) == {"plugins": []}
    verify = workspace.dativo("plugin", "verify", "singer:tap-jsonl")
    assert verify.status == 3 and "dativo plugin add singer:tap-jsonl" in verify.stderr


def test_a_plugin_that_was_changed_is_found(workspace: Workspace) -> None:
    reference = "singer:tap-jsonl"
    added = workspace.dativo("plugin", "add", f"{reference}==0.3.1", *workspace.flags)
    assert added.status == 0, added.stderr
    [plugin] = one_object(workspace.dativo("plugin", "list", "--output", "json").stdout)["plugins"]
    assert plugin["reference"] == reference and plugin["state"] == "installed"
    assert reference in workspace.dativo("plugin", "list").stdout
    about = workspace.dativo("spec", reference, *workspace.flags)
    assert json.loads(about.stdout)["name"] == "tap-jsonl"
    assert workspace.dativo("plugin", "verify", reference).status == 0

    store = workspace.home / "dativo/store/plugins"
    [module] = store.glob("tap-jsonl/*/env/lib/*/site-packages/tap_jsonl/tap.py")
    before, content = module.stat(), module.read_bytes()
    module.chmod(0o644)
    module.write_bytes(content[:-1] + b"#")
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    module.chmod(before.st_mode)
    changed = workspace.dativo("plugin", "verify", reference)
    assert changed.status == 3 and "tap_jsonl/tap.py" in changed.stderr

    # What it says can be typed.
    for command in changed.stderr.partition("Install it again: ")[2].strip().split("; "):
        what, *arguments = command.split()
        if what == "rm":
            Path(*arguments).unlink()
        else:
            assert workspace.dativo(*arguments, *workspace.flags).status == 0
    assert workspace.dativo("plugin", "verify", reference).status == 0


@pytest.mark.parametrize("output", ["table", "json"])
def test_doctor(workspace: Workspace, output: str) -> None:
    result = workspace.dativo("doctor", "--output", output)
    names = {"bubblewrap", "cgroup", "identity", "namespaces", "mounts", "network", "seccomp"}
    if output == "json":
        walls = {wall["name"]: wall["state"] for wall in one_object(result.stdout)["walls"]}
    else:
        lines = [line.split() for line in result.stdout.splitlines() if line[:1].strip()]
        walls = {line[1]: line[0] for line in lines}
    assert names <= walls.keys()
    missing = {name for name, state in walls.items() if state == "missing"}
    assert result.status == (9 if missing else 0)
    assert missing <= {"cgroup"}


# --- what is wrong ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("runn",), "No such command 'runn'"),
        (("plugin", "ad"), "No such command 'ad'"),
        (("run",), "Missing argument 'JOB'"),
        (("run", "job.yaml", "--outputt", "json"), "No such option"),
        (("run", "job.yaml", "--output", "xml"), "is not one of"),
        (("run", "job.yaml", "--cgroup", "none"), "is not one of"),
        ((), "Usage: dativo"),
    ],
)
def test_a_wrong_command_line(workspace: Workspace, arguments: tuple[str, ...], said: str) -> None:
    result = workspace.dativo(*arguments)
    assert result.status == 2
    assert said in result.stderr and result.stdout == ""


@pytest.mark.parametrize(
    ("wrong", "right", "near"),
    [
        ("sorce:", "source:", "`source`"),
        ("conector:", "connector:", "`connector`"),
        ("warehous:", "warehouse:", "`warehouse`"),
    ],
)
@pytest.mark.parametrize("output", ["table", "json"])
def test_a_wrong_key_names_the_nearest(
    numbers: Workspace, wrong: str, right: str, near: str, output: str
) -> None:
    path = numbers.folder / "job.yaml"
    path.write_text(path.read_text().replace(right, wrong, 1))
    result = numbers.dativo("run", "job.yaml", "--output", output, *numbers.flags)
    assert result.status == 3
    assert f"unknown key `{wrong[:-1]}`" in result.stderr
    assert f"Did you mean {near}?" in result.stderr
    assert "job.yaml, at /" in result.stderr and ", line " in result.stderr
    if output == "table":
        assert result.stdout == ""
        return
    told = one_object(result.stdout)
    assert told["status"] == 3 and told["error"]["hint"] == f"Did you mean {near}?"


def test_a_source_that_cannot_be_started_is_no_missing_wall(numbers: Workspace) -> None:
    folder = numbers.folder / "plugins/resumable"
    manifest = folder / "plugin.yaml"
    manifest.write_text(manifest.read_text().replace("file: source.py", "executable: run"))
    (folder / "run").write_text("#!/nonexistent/interpreter\n")
    (folder / "run").chmod(0o755)
    result = numbers.run()
    assert result.status == 4
    assert "could not be started" in result.stderr


# --- a terminal, and none --------------------------------------------------------------------------------------------------


def on_a_terminal(workspace: Workspace, *arguments: str) -> tuple[int, str, str]:
    """Run with stderr on a terminal; returns status, stdout and all that the terminal was sent."""
    ours, theirs = pty.openpty()
    with workspace.start(*arguments, stderr=theirs) as process:
        os.close(theirs)
        shown = bytearray()
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.1)[0]:
                continue
            try:
                shown += os.read(ours, 65536)
            except OSError:  # EIO: everybody has closed the other end
                break
        os.close(ours)
        assert process.stdout is not None
        stdout = process.stdout.read()
    return process.returncode, stdout, shown.decode()


def test_progress_is_for_terminals(numbers: Workspace) -> None:
    write(numbers, rows=3000, pause_s=0.3)
    numbers.env["TERM"] = "xterm"
    status, stdout, shown = on_a_terminal(
        numbers, "run", "job.yaml", "--output", "json", *numbers.flags
    )
    assert status == 0, shown
    seen = [
        int(count.replace(",", "")) for count in re.findall(r"\r\x1b\[K([\d,]+) rows read", shown)
    ]
    assert len(seen) >= 2 and seen == sorted(seen) and seen[-1] <= 3000
    assert shown.endswith("\r\x1b[K")  # taken back at the end
    assert one_object(stdout)["streams"][0]["written"] == 3000


@pytest.mark.parametrize("how", ["pipe", "dumb", "quiet"])
def test_no_progress_elsewhere(numbers: Workspace, how: str) -> None:
    write(numbers, rows=2000, pause_s=0.3)
    numbers.env["TERM"] = "dumb" if how == "dumb" else "xterm"
    arguments = ("run", "job.yaml", *numbers.flags, *(("--quiet",) if how == "quiet" else ()))
    if how == "pipe":
        result = numbers.dativo(*arguments)
        status, shown = result.status, result.stderr
    else:
        status, _, shown = on_a_terminal(numbers, *arguments)
    assert status == 0 and shown == ""


# --- how it is ended -------------------------------------------------------------------------------------------------------


def begin(workspace: Workspace, *arguments: str) -> subprocess.Popen[str]:
    """Start a run that takes minutes, and wait until it has committed."""
    write(workspace, rows=ROWS, pause_s=0.2)
    kernel = workspace.start("run", "job.yaml", *arguments, *workspace.flags)
    data = workspace.lake / "numbers/numbers/data"
    deadline = time.monotonic() + DEADLINE_S
    while not list(data.glob("*.parquet")) if data.is_dir() else True:
        assert time.monotonic() < deadline and kernel.poll() is None, kernel.communicate()
        time.sleep(0.02)
    return kernel


@pytest.mark.parametrize(
    ("sent", "status", "name"),
    [(signal.SIGINT, 130, "INTERRUPTED"), (signal.SIGTERM, 143, "TERMINATED")],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_signal_ends_a_run_at_its_last_state(
    numbers: Workspace, sent: signal.Signals, status: int, name: str
) -> None:
    kernel = begin(numbers, "--output", "json")
    kernel.send_signal(sent)
    stdout, stderr = kernel.communicate(timeout=DEADLINE_S)
    assert kernel.returncode == status, stderr
    assert "Traceback" not in stderr and f"ended by {sent.name}" in stderr
    report = one_object(stdout)
    assert report["status"] == status and report["error"]["status"] == name
    assert all(process["ended"] != "running" for process in report["processes"])
    runs = one_object(numbers.dativo("runs", "list", "--output", "json").stdout)["runs"]
    assert runs[0]["status"] == status

    rows = numbers.count("numbers.numbers")
    assert 0 < rows < ROWS
    state = one_object(numbers.dativo("state", "show", "job.yaml", *numbers.flags).stdout)
    assert state["epoch"] == report["epoch"] >= 1
    [entry] = state["states"]
    assert json.loads(entry["state"])["stream"]["stream_state"] == {"next": rows}
    assert not list((numbers.lake / "_dativo/staging").iterdir())

    write(numbers, rows=rows + STATE_EVERY)
    [stream] = numbers.run().report["streams"]
    assert stream["read"] == STATE_EVERY
    assert numbers.count("numbers.numbers", "count(DISTINCT id)") == rows + STATE_EVERY


def asked_by(kernel: int) -> bool:
    """Tell whether the source runs."""
    for pid in descendants(kernel):
        try:
            if b"source.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
        except OSError:
            continue  # ended meanwhile
    return False


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_run(numbers: Workspace, sent: signal.Signals, status: int) -> None:
    """While the source is asked what it has, which takes for ever here."""
    source = numbers.folder / "plugins/resumable/source.py"
    source.write_text(
        source.read_text().replace(
            "    if options.verb ==", "    time.sleep(600)\n    if options.verb ==", 1
        )
    )
    kernel = numbers.start("run", "job.yaml", *numbers.flags)
    deadline = time.monotonic() + DEADLINE_S
    while not asked_by(kernel.pid):
        assert time.monotonic() < deadline and kernel.poll() is None
        time.sleep(0.02)
    kernel.send_signal(sent)
    stdout, stderr = kernel.communicate(timeout=DEADLINE_S)
    assert kernel.returncode == status, stderr
    assert stdout == stderr.strip() == ""
    assert not numbers.lake.exists()


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_reader_that_has_gone_changes_nothing(numbers: Workspace, output: str) -> None:
    command = f'"$0" run job.yaml --output {output} {" ".join(numbers.flags)} | head -c1; echo " ${{PIPESTATUS[0]}}"'
    ran = subprocess.run(
        ["bash", "-c", command, str(DATIVO)],
        cwd=numbers.folder,
        env=numbers.environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert ran.stderr == ""
    assert ran.stdout == ("{ 0\n" if output == "json" else "n 0\n")
    assert numbers.count("numbers.numbers") == 1000


def test_nobody_listens_at_all(numbers: Workspace) -> None:
    """A source that warns, and nobody who reads stdout, stderr; then neither is open."""
    flags = " ".join(numbers.flags)
    for redirect in ("2>&1 | true", ">&- 2>&- <&-"):
        command = f'"$0" run job.yaml {flags} {redirect}; exit ${{PIPESTATUS[0]}}'
        ran = subprocess.run(
            ["bash", "-c", command, str(DATIVO)],
            cwd=numbers.folder,
            env=numbers.environment(),
            timeout=DEADLINE_S,
        )
        assert ran.returncode == 0
    assert numbers.count("numbers.numbers") == 1000


def test_a_full_disk_below_stdout_is_an_error(numbers: Workspace) -> None:
    with Path("/dev/full").open("w") as full:
        process = numbers.start("run", "job.yaml", *numbers.flags, stdout=full)
        _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "cannot write to stdout: No space left" in stderr and "Traceback" not in stderr
    assert numbers.count("numbers.numbers") == 1000
