"""Ceilings, what needs an approval, and approvals."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dativo.kernel import grants, limits
from dativo.kernel.grants import Grants
from dativo.kernel.job import Job, load_job
from dativo.kernel.paths import Paths
from dativo.kernel.policy import Policy, load_policy
from dativo.protocol.errors import ConfigError, ExitStatus, NotPermitted

ARTEFACT = "ab" * 32


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = Paths.from_environment({"DATIVO_HOME": str(tmp_path / "home")})
    found.ensure()
    return found


def job(
    tmp_path: Path, asked: str = "", warehouse: str = "./lake", more: str = "", config: str = "{}"
) -> Job:
    folder = tmp_path / "workspace"
    folder.mkdir(exist_ok=True)
    (folder / "job.yaml").write_text(
        f"pipeline: shop\n"
        f"source: {{connector: 'airbyte:x', config: {config}, grants: {{{asked}}}}}\n"
        f"target: {{connector: iceberg, config: {{warehouse: {warehouse}, namespace: shop}}}}\n{more}"
    )
    return load_job(folder / "job.yaml", {})


def effective(found: Job, policy: Policy) -> Grants:
    return grants.effective(found.source.grants, policy, found)


def wanted(found: Job, policy: Policy, artefact: str = ARTEFACT) -> grants.Request:
    return grants.request(found, "airbyte:x", artefact, effective(found, policy))


def with_ceilings(paths: Paths, text: str) -> Policy:
    paths.policy.write_text(f"ceilings: {{{text}}}\n")
    paths.policy.chmod(0o600)
    return load_policy(paths, {})


@pytest.mark.parametrize(
    ("asked", "ceiling", "message"),
    [
        ("memory: 2GiB", "memory: 1GiB", "saw 2GiB, ceiling 1GiB"),
        ("", "memory: 256MiB", "saw 512MiB, ceiling 256MiB"),
        ("cpus: 1.5", "cpus: 1", "saw 1.5, ceiling 1"),
        ("time: 13h", "time: 12h", "saw 13h, ceiling 12h"),
        ("idle: 4h", "idle: 30m", "saw 4h, ceiling 30m"),
        ("pids: 1000", "pids: 999", "saw 1000, ceiling 999"),
        ("file_size: 5GiB", "file_size: 4GiB", "saw 5GiB, ceiling 4GiB"),
        ("", "output: 1GiB", "saw 1TiB, ceiling 1GiB"),
    ],
)
def test_above_a_ceiling_is_refused_by_name(
    tmp_path: Path, paths: Paths, asked: str, ceiling: str, message: str
) -> None:
    policy = with_ceilings(paths, ceiling)
    with pytest.raises(NotPermitted) as error:
        effective(job(tmp_path, asked), policy)
    assert message in str(error.value)
    assert error.value.where.file == str(paths.policy)
    assert error.value.where.pointer == f"/ceilings/{ceiling.partition(':')[0]}"


def test_read_limits_have_ceilings_too(tmp_path: Path, paths: Paths) -> None:
    policy = with_ceilings(paths, "max_line_bytes: 1MiB")
    with pytest.raises(NotPermitted, match="max_line_bytes is above"):
        effective(job(tmp_path), policy)
    effective(job(tmp_path, more="limits: {max_line_bytes: 1MiB}\n"), policy)


def test_at_the_ceiling_is_granted(tmp_path: Path, paths: Paths) -> None:
    policy = with_ceilings(paths, "memory: 512MiB, cpus: 1, time: 12h")
    assert effective(job(tmp_path), policy) == Grants.default()


def test_secrets_outside_the_list_are_refused(tmp_path: Path, paths: Paths) -> None:
    paths.policy.write_text('secrets: ["env://A"]\n')
    policy = load_policy(paths, {})
    effective(job(tmp_path, config="{a: {secret: 'env://A'}}"), policy)
    with pytest.raises(NotPermitted, match=r"secret env://B is not listed"):
        effective(job(tmp_path, config="{a: {secret: 'env://B'}}"), policy)


@pytest.mark.parametrize("key", ["read", "write"])
@pytest.mark.parametrize("folder", ["config", "store", "state", "config/approvals", "."])
def test_own_folders_are_never_granted(tmp_path: Path, paths: Paths, key: str, folder: str) -> None:
    policy = load_policy(paths, {})
    asked = f"{key}: ['{(paths.config.parent / folder).resolve()}']"
    with pytest.raises(NotPermitted, match="overlaps"):
        effective(job(tmp_path, asked), policy)


def test_a_warehouse_in_own_folders_is_refused(tmp_path: Path, paths: Paths) -> None:
    with pytest.raises(NotPermitted, match="overlaps"):
        effective(job(tmp_path, warehouse=str(paths.state / "lake")), load_policy(paths, {}))


@pytest.mark.parametrize("path", [".", "./lake", "./lake/_dativo/staging", "/"])
def test_a_source_never_writes_into_the_warehouse(tmp_path: Path, paths: Paths, path: str) -> None:
    with pytest.raises(NotPermitted, match="overlaps"):
        effective(job(tmp_path, f"write: [{path}]"), load_policy(paths, {}))


def test_the_default_asks_for_nothing(tmp_path: Path, paths: Paths) -> None:
    found = wanted(job(tmp_path), load_policy(paths, {}))
    assert found.asks == ()
    assert grants.is_approved(found, paths)
    grants.demand([found], paths)


@pytest.mark.parametrize(
    ("arguments", "ask"),
    [
        ({"asked": "read: [./data]"}, "read {workspace}/data"),
        ({"asked": "write: [./out]"}, "write {workspace}/out"),
        ({"asked": "exec: [./job.yaml]"}, "exec {workspace}/job.yaml"),
        ({"asked": "exec: [/usr, /etc/passwd]"}, "exec /etc/passwd"),
        ({"config": "{a: {secret: 'env://A'}}"}, "secret env://A"),
        ({"warehouse": "/srv/lake"}, "warehouse /srv/lake"),
        ({"warehouse": "../lake"}, "warehouse {tmp}/lake"),
        ({"warehouse": "."}, "warehouse {workspace}"),
        ({"asked": "memory: 513MiB"}, "limit memory 513MiB"),
        ({"asked": "cpus: 1.5"}, "limit cpus 1.5"),
        ({"asked": "time: 1d"}, "limit time 1d"),
        ({"asked": "output: 2TiB"}, "limit output 2TiB"),
        ({"more": "limits: {max_columns: 2001}\n"}, "limit max_columns 2001"),
    ],
)
def test_beyond_the_default(
    tmp_path: Path, paths: Paths, arguments: dict[str, str], ask: str
) -> None:
    found = wanted(job(tmp_path, **arguments), load_policy(paths, {}))
    assert [str(a) for a in found.asks] == [
        ask.format(workspace=tmp_path / "workspace", tmp=tmp_path)
    ]
    with pytest.raises(NotPermitted) as error:
        grants.demand([found], paths)
    assert error.value.status is ExitStatus.NOT_PERMITTED
    assert f"dativo grants approve {tmp_path}/workspace/job.yaml" in str(error.value)
    assert found.key[:12] in str(error.value)


def test_less_than_the_default_needs_nothing(tmp_path: Path, paths: Paths) -> None:
    assert wanted(job(tmp_path, "memory: 64MiB, cpus: 0.1"), load_policy(paths, {})).asks == ()


def test_a_warehouse_behind_a_link_is_outside(tmp_path: Path, paths: Paths) -> None:
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace/lake").symlink_to("/srv")
    asks = wanted(job(tmp_path), load_policy(paths, {})).asks
    assert [str(ask) for ask in asks] == ["warehouse /srv"]


def test_an_approval_fits_one_request_only(tmp_path: Path, paths: Paths) -> None:
    policy = load_policy(paths, {})
    asked = wanted(job(tmp_path, "read: [./data], cpus: 1.5"), policy)
    file = grants.approve(asked, paths)
    grants.demand([asked], paths)
    assert file.name == f"{asked.key}.json"
    for other in (
        replace(asked, artefact="cd" * 32),
        replace(asked, job_digest="cd" * 32),
        replace(asked, grants=replace(asked.grants, pids=513)),
        replace(asked, asks=(*asked.asks, grants.Ask("warehouse", "/srv"))),
    ):
        with pytest.raises(NotPermitted):
            grants.demand([other], paths)


def test_listing_and_revoking(tmp_path: Path, paths: Paths) -> None:
    asked = wanted(job(tmp_path, "read: [./data]"), load_policy(paths, {}))
    grants.approve(asked, paths)
    grants.approve(asked, paths)
    (found,) = grants.listing(paths)
    assert (found.key, found.artefact, found.pipeline) == (asked.key, ARTEFACT, "shop")
    assert found.asks == [f"read {tmp_path}/workspace/data"]
    with pytest.raises(ConfigError, match="begin with"):
        grants.revoke(asked.key[:4], paths)
    grants.revoke(asked.key[:12], paths)
    assert grants.listing(paths) == ()
    assert not grants.is_approved(asked, paths)


def test_a_forged_or_open_approval_is_refused(tmp_path: Path, paths: Paths) -> None:
    asked = wanted(job(tmp_path, "read: [./data]"), load_policy(paths, {}))
    file = grants.approve(asked, paths)
    kept = file.read_text()
    changed = json.loads(kept)
    changed["asks"] = []
    file.write_text(json.dumps(changed))
    with pytest.raises(ConfigError, match="does not match its key"):
        grants.is_approved(asked, paths)
    file.write_text(kept)
    file.chmod(0o666)
    with pytest.raises(ConfigError, match="can be written by others"):
        grants.is_approved(asked, paths)
    file.chmod(0o600)
    paths.approvals.chmod(0o777)
    with pytest.raises(ConfigError, match="can be written by others"):
        grants.is_approved(asked, paths)


def test_a_plain_user_has_fewer_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert Grants.default().open_files == limits.OPEN_FILES_PLAIN_USER
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert Grants.default().open_files == limits.OPEN_FILES


# --- programs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", ["/usr"]),
        ("exec: []", []),
        ("exec: [/usr/bin/env, /usr]", ["/usr"]),
        ("exec: [/bin/env, /usr/bin/sort]", ["/usr/bin/env", "/usr/bin/sort"]),
        ("exec: [/bin/sh]", ["/usr/bin/sh"]),
    ],
)
def test_programs_of_the_machine_need_no_approval(
    tmp_path: Path, paths: Paths, asked: str, found: list[str]
) -> None:
    asking = wanted(job(tmp_path, asked), load_policy(paths, {}))
    assert [str(path) for path in asking.grants.execute] == found
    assert asking.asks == ()
    assert asking.grants.document()["execute"] == found


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not there") as error:
        job(tmp_path, "exec: [/usr/bin/nothing-of-this-name]")
    assert error.value.where.pointer == "/source/grants/exec/0"


def test_a_link_outside_usr_is_no_program(tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "tool").symlink_to("/usr/bin/env")
    with pytest.raises(ConfigError, match="symbolic link"):
        job(tmp_path, "exec: [./tool]")


def test_only_programs_that_the_policy_lists(tmp_path: Path, paths: Paths) -> None:
    paths.policy.write_text("exec: [/usr/bin/env, /etc]\n")
    paths.policy.chmod(0o600)
    policy = load_policy(paths, {})
    for asked in ("exec: []", "exec: [/usr/bin/env]", "exec: [/etc/passwd]"):
        effective(job(tmp_path, asked), policy)
    for asked in ("", "exec: [/usr/bin/sort]", "exec: [./job.yaml]"):
        with pytest.raises(NotPermitted, match="not permitted by the policy") as error:
            effective(job(tmp_path, asked), policy)
        assert error.value.where.pointer == "/exec"
