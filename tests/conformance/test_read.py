"""``dativo read`` in a shell: who goes away early, and how much it reads."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from tests.conformance.conftest import NIGHTLY
from tests.integration.conftest import DATIVO, Workspace

READ = '"$0" read airbyte:source-hardcoded-records --as {dialect} --config head.json "$@"'


def shell(shelf: Workspace, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line, DATIVO, *shelf.flags],
        cwd=shelf.folder,
        env=shelf.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("dialect", ["singer", "airbyte"])
def test_head(shelf: Workspace, nothing_left: None, dialect: str) -> None:
    """``dativo read … | head -1``: one whole line, an end soon after, one line of words, nothing left running."""
    (shelf.folder / "head.json").write_text(
        json.dumps({"count": 10_000_000 if NIGHTLY else 1_000_000})
    )
    done = shell(shelf, READ.format(dialect=dialect) + ' | head -1; echo "${PIPESTATUS[0]}" >&2')
    [first] = done.stdout.splitlines()
    message: dict[str, Any] = json.loads(first)
    assert message["type"] in ("SCHEMA", "RECORD", "TRACE")
    assert "Traceback" not in done.stderr
    words, _, status = done.stderr.rstrip("\n").rpartition("\n")
    assert status == "5" and "target.closed" in words, done.stderr


def test_limit(shelf: Workspace, nothing_left: None) -> None:
    """No state goes out behind a record that was left out."""
    (shelf.folder / "head.json").write_text(json.dumps({"count": 1000}))
    done = shell(shelf, READ.format(dialect="singer") + " --limit 7 --select products")
    assert done.returncode == 0, done.stderr
    kinds = [json.loads(text)["type"] for text in done.stdout.splitlines()]
    assert kinds == ["SCHEMA", *["RECORD"] * 7]
