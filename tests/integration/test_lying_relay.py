"""A relay in the wrong hands, between a source and us: a run is not done because it says so."""

from __future__ import annotations

from typing import Any

import pytest
from tests.doubles.puppet import say, stand_in
from tests.integration.conftest import ROOT, Workspace

pytestmark = pytest.mark.usefixtures("nothing_left")

HELLO = say(type="hello", protocol="1.0", program="dativo-relay", version="0.1.0", features=[])
PASSED = say(type="passed", input="0", lines=0, counts=[])

STREAM = {"namespace": None, "name": "rows"}
LOST = {"stream": STREAM, "read": 3, "written": 1, "rejected": 0, "filtered": 1}
UNBALANCED = say(type="passed", input="0", lines=3, counts=[LOST])


def state(**more: Any) -> str:
    usual = {
        "input": "0",
        "number": 1,
        "kind": "singer",
        "stream": None,
        "text": "{}",
        "sent": None,
    }
    return say(**{"type": "state_passed", **usual, **more})


@pytest.mark.parametrize(
    ("acts", "message", "status"),
    [
        ([PASSED], "before the input was done", 7),
        ([say(type="sealed", input="0")], "sealed.sequence is not a count", 7),
        ([say(type="committed", input="0", sequence=1, epoch=1, tables=[])], "may not send", 7),
        ([state()], "may not send", 7),
        (["say no json"], "is not JSON", 7),
        (["fill x 40000000"], "longer than", 7),
        (["exit 0"], "dativo-relay ended", 1),
        (["input", "wait finish", "exit 0"], "dativo-relay ended", 1),
        (["input", "wait finish", UNBALANCED], "3 rows read, 1 written, 0 rejected and 1", 7),
    ],
    ids=[
        "passed",
        "an epoch",
        "committed",
        "a state",
        "no JSON",
        "no end",
        "gone",
        "gone late",
        "lost rows",
    ],
)
def test_a_lie_ends_the_run(
    workspace: Workspace, acts: list[str], message: str, status: int
) -> None:
    stand_in(workspace, "dativo-relay", [HELLO, "hear", *acts, "hear"])
    workspace.plugin(ROOT / "tests/plugins/bad", "bad")
    (workspace.folder / "c.json").write_text('{"mode": "good"}')
    ran = workspace.dativo(
        *("read", "./plugins/bad", "--config", "c.json", *workspace.flags), timeout_s=60
    )
    assert ran.status == status, ran.stderr
    assert message in ran.stderr
    assert "relay" in ran.stderr and "Traceback" not in ran.stderr
