"""What a job grants a source beside network, files and the usual limits: refused without the grant, there with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.integration.conftest import ROOT, Result, Workspace

JOB = """\
pipeline: grants
source:
  connector: ./plugins/witness
  config: {config}
  grants: {{{grants}}}
target:
  connector: parquet
  config: {{warehouse: ./lake, namespace: grants}}
  mode: overwrite
"""
SECRET = "hush-hush-4711"


@pytest.fixture
def witness(workspace: Workspace) -> Workspace:
    workspace.plugin(ROOT / "tests/plugins/witness", "witness")
    return workspace


def ask(workspace: Workspace, config: dict[str, Any], grants: str = "") -> None:
    workspace.job(JOB.format(config=json.dumps(config), grants=grants))


def policy(workspace: Workspace, text: str) -> None:
    folder = workspace.home / "dativo" / "config"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "policy.yaml"
    file.write_text(text)
    file.chmod(0o600)


def approve(workspace: Workspace) -> Result:
    approved = workspace.dativo("grants", "approve", "job.yaml")
    assert approved.status == 0, approved.stderr
    return approved


def facts(workspace: Workspace) -> dict[str, str]:
    """Run the job; return what the source told."""
    result = workspace.run()
    assert result.status == 0, result.stderr
    found = workspace.read("parquet", "grants.facts", "map_from_entries(list((name, value)))")
    return dict(found)


# --- environment -----------------------------------------------------------------------------------------------------------


def test_variables_reach_the_source_by_name_and_no_other(witness: Workspace) -> None:
    witness.env |= {"SHOP_REGION": SECRET, "SHOP_OTHER": "not asked for"}
    ask(witness, {"tell": ["environment"]})
    assert not {"SHOP_REGION", "SHOP_OTHER"} & facts(witness).keys()

    ask(witness, {"tell": ["environment"]}, "environment: [SHOP_REGION]")
    refused = witness.run()
    assert refused.status == 8
    assert "environment variable SHOP_REGION is not listed by the policy" in refused.stderr

    policy(witness, "environment: [SHOP_REGION]\n")
    asked = witness.run()
    assert asked.status == 8 and "environment SHOP_REGION" in asked.stderr
    assert "environment SHOP_REGION" in witness.dativo("grants", "show", "job.yaml").stdout
    approve(witness)
    planned = witness.dativo("plan", "job.yaml", *witness.flags)
    assert json.loads(planned.stdout)["source"]["grants"]["environment"] == ["SHOP_REGION"]
    assert SECRET not in planned.stdout + planned.stderr
    told = facts(witness)
    assert told["SHOP_REGION"] == SECRET and "SHOP_OTHER" not in told
    audit = "".join(
        path.read_text()
        for path in (witness.home / "dativo/state").rglob("*")
        if path.is_file() and "audit" in str(path)
    )
    assert '"variable_read"' in audit and "SHOP_REGION" in audit and SECRET not in audit


def test_one_variable_more_is_asked_for_anew(witness: Workspace) -> None:
    witness.env |= {"SHOP_REGION": "eu", "SHOP_TIER": "2"}
    policy(witness, "environment: [SHOP_REGION, SHOP_TIER]\n")
    ask(witness, {}, "environment: [SHOP_REGION]")
    approve(witness)
    assert witness.run().status == 0
    ask(witness, {}, "environment: [SHOP_REGION, SHOP_TIER]")
    refused = witness.run()
    assert refused.status == 8 and "environment SHOP_TIER" in refused.stderr


def test_a_variable_that_is_not_set_is_an_error(witness: Workspace) -> None:
    policy(witness, "environment: [SHOP_REGION]\n")
    ask(witness, {}, "environment: [SHOP_REGION]")
    approve(witness)
    result = witness.run()
    assert result.status == 3 and "environment variable SHOP_REGION is not set" in result.stderr


def test_the_value_is_shown_nowhere(witness: Workspace) -> None:
    witness.env["SHOP_REGION"] = SECRET
    policy(witness, "environment: [SHOP_REGION]\n")
    ask(witness, {"fails": True}, "environment: [SHOP_REGION]")
    approve(witness)
    result = witness.run()
    assert result.status == 4 and "the environment is" in result.stderr
    assert "[secret]" in result.stderr and SECRET not in result.stderr + result.stdout
    for path in witness.home.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PYTHONPATH", "PATH"])
def test_what_steers_a_program_is_given_to_none(witness: Workspace, name: str) -> None:
    ask(witness, {}, f"environment: [SHOP_REGION, {name}]")
    result = witness.run()
    assert result.status == 3 and name in result.stderr
    assert "/source/grants/environment/1" in result.stderr or "job.yaml:5" in result.stderr


# --- exec ------------------------------------------------------------------------------------------------------------------


def test_programs_of_the_machine_and_none(witness: Workspace) -> None:
    tell = {"tell": ["run:/usr/bin/env", "run:/bin/sh"]}
    ask(witness, tell)
    assert facts(witness)["/usr/bin/env"].startswith("status 0")
    ask(witness, tell, "exec: []")
    assert set(facts(witness).values()) == {"FileNotFoundError"}
    ask(witness, tell, "exec: [/usr/bin/env]")
    told = facts(witness)
    assert told["/usr/bin/env"].startswith("status 0") and told["/bin/sh"] == "FileNotFoundError"


def test_a_program_of_the_workspace_is_asked_for(witness: Workspace) -> None:
    tool = witness.folder / "tool"
    tool.write_text("#!/bin/sh\necho tool of the workspace\n")
    tool.chmod(0o755)
    tell = {"tell": [f"run:{tool}"]}
    ask(witness, tell)
    assert facts(witness) == {str(tool): "FileNotFoundError"}
    ask(witness, tell, "exec: [/usr, ./tool]")
    refused = witness.run()
    assert refused.status == 8 and f"exec {tool}" in refused.stderr
    assert f"exec {tool}" in witness.dativo("grants", "show", "job.yaml").stdout
    approve(witness)
    assert facts(witness) == {str(tool): "status 0: tool of the workspace\n"}


def test_a_policy_permits_no_programs(witness: Workspace) -> None:
    policy(witness, "exec: []\n")
    ask(witness, {"tell": ["run:/bin/sh"]})
    refused = witness.run()
    assert refused.status == 8
    assert "executing /usr is not permitted by the policy" in refused.stderr
    assert "exec: []" in refused.stderr
    ask(witness, {"tell": ["run:/bin/sh"]}, "exec: []")
    assert facts(witness) == {"/bin/sh": "FileNotFoundError"}


# --- output ----------------------------------------------------------------------------------------------------------------

ROWS = """\
pipeline: output
source:
  connector: ./plugins/resumable
  config: {{rows: 3000, state_every: 100}}
  grants: {{output: {output}}}
target:
  connector: parquet
  config: {{warehouse: ./lake, namespace: output}}
  epoch: {{rows: 500}}
"""


def test_a_source_at_its_cap_is_ended_and_gone_on_from(workspace: Workspace) -> None:
    """What its states had covered stays, nothing is lost and nothing comes twice, however often the cap is met."""
    workspace.plugin(ROOT / "examples/plugins/resumable", "resumable")
    workspace.job(ROWS.format(output="200KiB"))
    counts: list[int] = []
    for _ in range(10):
        result = workspace.run()
        counts.append(workspace.read("parquet", "output.numbers"))
        if result.status == 0:
            break
        assert result.status == 6
        assert "limit.output: more than 204800 bytes of output" in result.stderr
        assert "source" in result.stderr and "grants.output" in result.stderr
        assert counts[-1] % 100 == 0 and counts[-1] < 3000
    assert len(counts) > 2 and counts == sorted(set(counts)), counts
    what = "count(*), count(DISTINCT id), sum(value)"
    truth = sum(i * 2654435761 % 2**32 for i in range(3000))
    assert workspace.read("parquet", "output.numbers", what) == (3000, 3000, truth)


def test_more_output_than_the_default_is_asked_for(workspace: Workspace) -> None:
    workspace.plugin(ROOT / "examples/plugins/resumable", "resumable")
    workspace.job(ROWS.format(output="2TiB"))
    refused = workspace.run()
    assert refused.status == 8 and "limit output 2TiB" in refused.stderr
    policy(workspace, "ceilings: {output: 1GiB}\n")
    refused = workspace.run()
    assert refused.status == 8 and "output is above the policy's ceiling" in refused.stderr


def test_a_read_keeps_to_the_ceiling(workspace: Workspace) -> None:
    workspace.plugin(ROOT / "examples/plugins/resumable", "resumable")
    (workspace.folder / "config.json").write_text('{"rows": 3000, "state_every": 100}')
    policy(workspace, "ceilings: {output: 100KiB}\n")
    read = ("read", "./plugins/resumable", "--config", "config.json", *workspace.flags)
    result = workspace.dativo(*read)
    assert result.status == 6 and "limit.output: more than 102400 bytes" in result.stderr
    assert 0 < result.stdout.count('"RECORD"') < 3000 and not result.stdout.endswith("\n")
