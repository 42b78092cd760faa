"""The commands of the documents work as they stand there."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from pathlib import Path

import yaml
from tests.images import write_tar
from tests.integration.conftest import ROOT, Workspace
from tests.integration.test_images import SHOP

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```sh(?: status=(\d+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


WALLED = re.compile(
    r"(\bdativo (?:run|plan|spec|check|discover|read|write|jail|files|state show|plugin add)\b"
    r"|\bdativo-target-\w+(?: check| write)?(?= --config))"
)


def run_block(workspace: Workspace, block: str, status: int = 0) -> str:
    """Run one block in a shell of its own, after ``bin`` of the workspace's folder; returns what it wrote to stdout."""
    env = workspace.environment()
    env["PATH"] = f"{workspace.folder}/bin:{sysconfig.get_path('scripts')}:{env['PATH']}"
    if workspace.flags:
        block = WALLED.sub(rf"\1 {' '.join(workspace.flags)}", block)
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=workspace.folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == status, f"{block}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def run_blocks(workspace: Workspace, text: str) -> list[str]:
    """Run each ``sh`` block, in order; returns what each wrote to stdout."""
    return [run_block(workspace, block, int(status or 0)) for status, block in BLOCK.findall(text)]


def program(workspace: Workspace, name: str, text: str) -> None:
    """Put a program that a document supposes into ``bin``."""
    path = workspace.folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def some_tap(workspace: Workspace, name: str) -> None:
    """A Singer tap of three lines; its options are those of any tap."""
    said = [
        {"type": "SCHEMA", "stream": "users", "key_properties": ["id"],
         "schema": {"properties": {"id": {"type": "integer"}}}},
        *({"type": "RECORD", "stream": "users", "record": {"id": i}} for i in range(3)),
        {"type": "STATE", "value": {"users": 3}},
    ]  # fmt: skip
    lines = "\n".join(json.dumps(message) for message in said)
    program(workspace, name, f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n")


def test_quickstart(workspace: Workspace) -> None:
    text = (ROOT / "docs/guide/quickstart.md").read_text()
    if workspace.flags:
        # Without a cgroup the doctor says so, and its status with it.
        text = text.replace("```sh\ndativo doctor\n```", "```sh status=9\ndativo doctor\n```")
    written = run_blocks(workspace, text)
    assert len(written) == 10
    # Of the two runs the second has read nothing and added nothing.
    assert "1,000" in written[3] and "1,000" not in written[4]
    assert workspace.count("first.users", "count(*), count(DISTINCT id)") == (1000, 1000)
    shown = yaml.safe_load(re.search(r"^```yaml\n(pipeline: first.*?)^```$", text, re.M | re.S)[1])  # type: ignore[index]
    assert yaml.safe_load((workspace.folder / "job.yaml").read_text()) == shown


def test_reading(workspace: Workspace) -> None:
    written = run_blocks(workspace, (ROOT / "docs/guide/reading.md").read_text())
    assert written[2] == "100\n"
    users = (workspace.folder / "users.jsonl").read_text()
    assert '"address"' not in users and '"email"' in users

    # The pipes of the README in the same place: its connector is installed.
    [pipes] = re.findall(r"^```\n(some-tap .*?)^```$", README, re.M | re.S)
    some_tap(workspace, "some-tap")
    program(workspace, "some-target", '#!/bin/sh\ncat > "${0%/*}/taken.jsonl"\n')
    (workspace.folder / "target.json").write_text('{"path": "./lake"}')
    (workspace.folder / "data.csv").write_text("1,one\n")
    script = "import sys; print(sys.stdin.read().upper(), end='')"
    (workspace.folder / "script-from-somewhere.py").write_text(script)
    run_block(workspace, pipes.replace(".venv/bin/", ""))
    assert (workspace.folder / "state.jsonl").read_text() == '{"users": 3}\n'
    assert list(workspace.folder.glob("lake/main/users/*.parquet"))
    taken = (workspace.folder / "bin/taken.jsonl").read_text()
    assert len(re.findall('"RECORD","stream":"users"', taken)) == 100
    assert (workspace.folder / "out.csv").read_text() == "1,ONE\n"


def test_targets(workspace: Workspace) -> None:
    some_tap(workspace, "tap-x")
    users = {
        "name": "users",
        "json_schema": {"properties": {"id": {"type": "integer"}}},
        "supported_sync_modes": ["full_refresh"],
    }
    catalog = {"streams": [{"stream": users, "sync_mode": "full_refresh",
                            "destination_sync_mode": "append"}]}  # fmt: skip
    (workspace.folder / "configured.json").write_text(json.dumps(catalog))
    record = {"stream": "users", "data": {"id": 7}, "emitted_at": 1}
    state = {"type": "STREAM", "stream": {"stream_descriptor": {"name": "users"},
                                          "stream_state": {"at": 7}}}  # fmt: skip
    said = [{"type": "RECORD", "record": record}, {"type": "STATE", "state": state}]
    lines = "\n".join(map(json.dumps, said))
    program(workspace, "airbyte-source", f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n")
    written = run_blocks(workspace, (ROOT / "docs/guide/targets.md").read_text())
    assert len(written) == 3
    assert (workspace.folder / "state.json").read_text() == '{"users": 3}\n'
    assert list(workspace.folder.glob("lake/main/users/*.parquet"))
    assert workspace.count("shop.users", "count(*), max(id)") == (4, 7)
    messages = [json.loads(line) for line in written[2].splitlines()]
    assert [m["type"] for m in messages if m["type"] != "LOG"] == [
        "SPEC", "CONNECTION_STATUS", "STATE"]  # fmt: skip
    assert messages[1]["connectionStatus"]["status"] == "SUCCEEDED"


def test_jail(workspace: Workspace) -> None:
    """The page's first commands; ``curl`` is one that needs no network."""
    program(workspace, "curl", """#!/bin/sh\necho '{"items": [1]}'\n""")
    (workspace.home / "data").mkdir()
    (workspace.home / "data/in.csv").write_text("1,one\n")
    convert = (
        f"print(open('{workspace.home}/data/in.csv').read().upper(), file=open('out.csv', 'w'))"
    )
    (workspace.folder / "convert.py").write_text(convert)
    # As root the command has a uid of its own, which writes what everybody may write.
    workspace.folder.chmod(0o777)
    run_blocks(workspace, (ROOT / "docs/guide/jail.md").read_text())
    assert (workspace.folder / "out.csv").read_text() == "1,ONE\n\n"
    assert json.loads((workspace.folder / "feed.json").read_text()) == {"items": [1]}


def test_images(workspace: Workspace) -> None:
    write_tar(workspace.folder / "source-shop.tar", SHOP.saved())
    written = run_blocks(workspace, (ROOT / "docs/guide/images.md").read_text())
    assert "image:source-shop" in written[0]
    assert len(re.findall('"RECORD"', (workspace.folder / "shop.jsonl").read_text())) == 3
    assert workspace.read("parquet", "shop.rows", job="shop.yaml") == 3
    assert len(written) == 4


def test_contracts(workspace: Workspace) -> None:
    """The page's job with a source whose orders do not all fit."""
    text = (ROOT / "docs/guide/contracts.md").read_text()
    workspace.plugin(ROOT / "tests/plugins/misfits", "shop")
    job = re.search(r"^```yaml\n(.*?)^```$", text, re.M | re.S)
    assert job is not None
    workspace.job(job[1])
    told, listed = run_blocks(workspace, text)
    assert "discarded: 110 rows, 0 values; kept in shop._dativo_rejects" in told
    *files, view = listed.splitlines()
    assert files and all(Path(file).is_file() for file in files)
    assert view.startswith('CREATE OR REPLACE VIEW "_dativo_rejects" AS SELECT')
    columns = workspace.count(
        "shop._dativo_rejects", "count(stream), count(rejected_at), count(text)"
    )
    assert columns == (110, 110, 0)


def test_the_job_of_the_readme_is_a_job(workspace: Workspace) -> None:
    text = (ROOT / "README.md").read_text()
    job = re.search(r"^```yaml\n(.*?)^```$", text, re.M | re.S)
    assert job is not None
    commands = re.search(r"^```\n(\.venv/bin/dativo plugin add.*?)^```$", text, re.M | re.S)
    assert commands is not None
    workspace.job(job[1])
    (workspace.folder / "events.jsonl").write_text('{"id": 1, "what": "one"}\n')
    add, run = commands[1].replace(".venv/bin/dativo ", "").strip().splitlines()
    assert workspace.dativo(*add.split(), *workspace.flags).status == 0
    refused = workspace.dativo(*run.split(), *workspace.flags)
    assert refused.status == 8
    line = re.search(r"dativo (grants approve \S+)", refused.stderr)
    assert line is not None
    assert workspace.dativo(*line[1].split()).status == 0
    told = workspace.dativo(*run.split(), *workspace.flags)
    assert told.status == 0 and "done in" in told.stdout
    assert workspace.count("events.jsonl") == 1


def test_every_link_between_documents_leads_somewhere() -> None:
    documents = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    for document in documents:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.relative_to(ROOT)} → {link}"


def test_every_folder_that_the_readme_names_is_there() -> None:
    for name in re.findall(r"`([a-z-]+/)`", (ROOT / "README.md").read_text()):
        assert Path(ROOT, name).is_dir()
