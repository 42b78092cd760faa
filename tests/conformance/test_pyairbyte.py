"""PyAirbyte's destination-smoke-test and connector checks on both targets; the CDK reads what ``dativo read`` writes."""

from __future__ import annotations

import json
import math
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import readback
from tests.conformance.environments import Environment
from tests.conformance.pipes import Target
from tests.integration.conftest import Workspace

PREFLIGHT = [
    {"id": 1, "name": "Alice", "amount": 100.50, "is_active": True},
    {"id": 2, "name": "Bob", "amount": 0.0, "is_active": False},
    {"id": 3, "name": "", "amount": -99.99, "is_active": True},
]
CHECK = """
import json, sys
import airbyte
from airbyte.exceptions import AirbyteConnectorCheckFailedError, AirbyteConnectorValidationFailedError

def destination(program, config):
    return airbyte.get_destination("dativo", config=config, local_executable=program)

for program, good, unwritable in json.loads(sys.argv[1]):
    destination(program, good).validate_config()
    destination(program, good).check()
    for bad, error in (({}, AirbyteConnectorValidationFailedError), (unwritable, AirbyteConnectorCheckFailedError)):
        try:
            found = destination(program, bad)
            found.validate_config() if bad == {} else found.check()
        except error as raised:
            print(error.__name__, json.dumps(str(raised)))
        else:
            sys.exit(f"{bad} was taken")
"""
ENTRYPOINT = """
import json, pathlib, sys
from airbyte_cdk.test.entrypoint_wrapper import EntrypointOutput
from airbyte_cdk.models import AirbyteStateMessageSerializer
output = EntrypointOutput(message_file=pathlib.Path(sys.argv[1]))
print(json.dumps({
    "records": [message.record.data for message in output.records],
    "emitted": [message.record.emitted_at for message in output.records],
    "states": [AirbyteStateMessageSerializer.dump(message.state) for message in output.state_messages],
    "statuses": {name: [status.value for status in output.get_stream_statuses(name)] for name in sys.argv[2:]},
    "errors": [str(error) for error in output.errors],
    "other": [str(message.type) for message in output.logs],
}))
"""


def python(environment: Environment, target: Target, code: str, *arguments: str) -> str:
    """Run a program of the environment as PyAirbyte is run: no telemetry, no registry."""
    done = subprocess.run(
        [environment.program("python"), "-W", "ignore", "-c", code, *arguments],
        cwd=target.folder,
        env=offline(environment, target),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def offline(environment: Environment, target: Target) -> dict[str, str]:
    own = target.environment()
    temporary = target.folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        **own,
        "PATH": f"{environment.bin}:{own['PATH']}",
        "TMPDIR": str(temporary),
        "AIRBYTE_LOGGING_ROOT": str(temporary),
        "DO_NOT_TRACK": "1",
        "AIRBYTE_OFFLINE_MODE": "1",
    }


@pytest.mark.parametrize(
    "target", [pytest.param("parquet", marks=pytest.mark.nightly), "iceberg"], indirect=True
)
def test_destination_smoke_test(target: Target, pyairbyte: Environment) -> None:
    target.config(append_dedup="append")
    settings = (target.folder / "config.json").read_text()
    done = subprocess.run(
        [pyairbyte.program("pyairbyte"), "destination-smoke-test", f"--destination={target.program}",
         f"--config={settings}", "--scenarios=all"],
        cwd=target.folder,
        env=offline(pyairbyte, target),
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr[-8000:])
    report = json.loads(done.stdout[done.stdout.index("{") :])  # words for people stand before it
    assert report["success"] and report["preflight_passed"]

    [module] = pyairbyte.folder.glob(
        "lib/python*/site-packages/airbyte/cli/smoke_test_source/_scenarios.py"
    )
    smoke = runpy.run_path(str(module))
    scenarios: dict[str, list[dict[str, Any]]] = {
        scenario["name"]: smoke["get_scenario_records"](scenario)
        for scenario in smoke["PREDEFINED_SCENARIOS"]
    }
    scenarios["_preflight_basic_types"] = PREFLIGHT
    assert report["records_delivered"] == sum(map(len, scenarios.values())) - len(PREFLIGHT)
    found = readback.tables(target)
    assert {name for _, name in found} == scenarios.keys()
    for name, sent in scenarios.items():
        assert readback.same_rows(found[report["namespace"], name].rows, sent) == [], name
    numbers = found[report["namespace"], "special_number_values"].rows
    assert min(abs(row["float_value"]) for row in numbers if row["float_value"]) == math.ulp(0.0)


def test_spec_and_check(parquet: Target, pyairbyte: Environment) -> None:
    occupied = parquet.folder / "occupied"
    occupied.write_text("a file, not a folder")
    cases = []
    for target in (parquet, Target("iceberg", parquet.folder)):
        good = json.loads(target.config().read_text())
        where = "path" if target.kind == "parquet" else "warehouse"
        cases.append([str(target.program), good, {**good, where: "occupied"}])
    told = python(pyairbyte, parquet, CHECK, json.dumps(cases)).splitlines()
    found = [line for line in told if line.startswith("AirbyteConnector")]
    for validation, check in (found[:2], found[2:]):
        assert validation.startswith("AirbyteConnectorValidationFailedError")
        assert check.startswith("AirbyteConnectorCheckFailedError") and "occupied" in check
    assert occupied.read_text() == "a file, not a folder"


@pytest.fixture
def lines(shelf: Workspace) -> list[dict[str, Any]]:
    """The rows of a file that the tap reads."""
    rows: list[dict[str, Any]] = [
        {"id": i, "text": f"line {i} “ü”", "ratio": i / 8, "list": [i]} for i in range(50)
    ]
    (shelf.folder / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {"path": str(shelf.folder / "lines.jsonl"), "primary_keys": ["id"]}
    (shelf.folder / "tap.json").write_text(json.dumps(config))
    return rows


def test_entrypoint_output_of_a_tap(
    shelf: Workspace,
    lines: list[dict[str, Any]],
    parquet: Target,
    pyairbyte: Environment,
    tmp_path: Path,
) -> None:
    read = shelf.dativo("read", "singer:tap-jsonl", "--as", "airbyte", "--config", "tap.json",
                        "--ro", "lines.jsonl", *shelf.flags)  # fmt: skip
    assert read.status == 0, read.stderr
    file = tmp_path / "read.stdout"
    file.write_text(read.stdout)
    told = json.loads(python(pyairbyte, parquet, ENTRYPOINT, str(file), "jsonl"))
    # The tap adds three fields of its own.
    records = [{name: record[name] for name in lines[0]} for record in told["records"]]
    assert readback.same_rows(records, lines) == []
    assert all(isinstance(at, int) for at in told["emitted"])
    assert told["errors"] == []
    assert told["statuses"]["jsonl"][-1] == "COMPLETE"
    assert {state["type"] for state in told["states"]} == {"GLOBAL"}
