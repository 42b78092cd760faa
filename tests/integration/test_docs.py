"""The commands of the documents work as they stand there."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

import yaml
from tests.images import write_tar
from tests.integration.conftest import ROOT, Workspace
from tests.integration.test_images import SHOP

BLOCK = re.compile(r"^```sh(?: status=(\d+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_blocks(workspace: Workspace, text: str) -> list[str]:
    """Run each ``sh`` block in one shell of its own, in order; returns what each wrote to stdout."""
    env = workspace.environment()
    env["PATH"] = f"{sysconfig.get_path('scripts')}:{env['PATH']}"
    written = []
    for status, block in BLOCK.findall(text):
        if workspace.flags:
            block = re.sub(
                r"^(dativo (?:run|plan|spec|check|discover|read|files|state show|plugin add)\b.*)$",
                rf"\1 {' '.join(workspace.flags)}",
                block,
                flags=re.MULTILINE,
            )
        ran = subprocess.run(
            ["bash", "-euc", block],
            cwd=workspace.folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert ran.returncode == int(status or 0), f"{block}\n{ran.stdout}\n{ran.stderr}"
        written.append(ran.stdout)
    return written


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


def test_images(workspace: Workspace) -> None:
    write_tar(workspace.folder / "source-shop.tar", SHOP.saved())
    written = run_blocks(workspace, (ROOT / "docs/guide/images.md").read_text())
    assert "image:source-shop" in written[0]
    assert len(re.findall('"RECORD"', (workspace.folder / "shop.jsonl").read_text())) == 3
    assert workspace.read("parquet", "shop.rows", job="shop.yaml") == 3
    assert len(written) == 4


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
