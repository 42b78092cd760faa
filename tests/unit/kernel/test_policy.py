"""The operator's policy: what it says, and when it is not believed."""

from datetime import date
from pathlib import Path

import pytest

from dativo.kernel import waivers
from dativo.kernel.grants import Grants, permit
from dativo.kernel.limits import GIB, ReadLimits
from dativo.kernel.paths import Paths
from dativo.kernel.policy import Policy, load_policy
from dativo.protocol.errors import ConfigError, NotPermitted, Where


def policy(tmp_path: Path, text: str, **env: str) -> Policy:
    paths = Paths.from_environment({"DATIVO_HOME": str(tmp_path)})
    paths.ensure()
    paths.policy.write_text(text)
    paths.policy.chmod(0o644)
    return load_policy(paths, env)


def test_all_of_it(tmp_path: Path) -> None:
    found = policy(
        tmp_path,
        "ceilings: {memory: 1GiB, cpus: 0.5, max_columns: 10}\n"
        "variables: [HOST, OTHER]\n"
        'secrets: ["env://${NAME}", "file:///run/secrets/x"]\n'
        "walls: {cgroup: degraded}\n"
        "blocked: [{name: tap-x, version: '1.2', reason: leaks}]\n",
        NAME="TOKEN",
        HOST="db",
    )
    assert found.ceilings == {"memory": GIB, "cpus": 0.5, "max_columns": 10}
    assert found.variables({"HOST": "db", "UNLISTED": "x"}) == {"HOST": "db", "OTHER": None}
    assert found.secrets == frozenset({"env://TOKEN", "file:///run/secrets/x"})
    assert found.walls == {"cgroup": "degraded"}


def test_no_file_and_an_empty_file_allow_nothing_more(tmp_path: Path) -> None:
    paths = Paths.from_environment({"DATIVO_HOME": str(tmp_path)})
    found = load_policy(paths, {})
    assert (found.ceilings, found.listed_variables, found.secrets, found.walls) == (
        {},
        (),
        None,
        {},
    )
    assert policy(tmp_path, "# nothing\n") == found


@pytest.mark.parametrize(
    ("text", "message", "pointer"),
    [
        ("ceiling: {}", "unknown key `ceiling`", "/ceiling"),
        ("ceilings: {memory: lots}", "expected a size", "/ceilings/memory"),
        ("ceilings: {network: []}", "`network` is not built yet", "/ceilings/network"),
        ("network: {blocked: ['*']}", "stands at the beginning", "/network/blocked/0"),
        ("network: {blocked: [10.0.0.1/8]}", "beyond its prefix", "/network/blocked/0"),
        ("network: {permit_special: [localhost]}", "no address", "/network/permit_special/0"),
        ("network: {resolvers: [dns.corp]}", "an address and a port", "/network/resolvers/0"),
        ("network: {proxy: 'http://proxy:1'}", "an address and a port", "/network/proxy"),
        ("network: {allowed: [10.0.0.1]}", "needs a port", "/network/allowed/0"),
        ("walls: {cgroup: none}", "is not known", "/walls/cgroup"),
        ("walls: {seccomp: degraded}", "unknown key `seccomp`", "/walls/seccomp"),
        ("variables: ['A B']", "name of an environment variable", "/variables/0"),
        ("secrets: [TOKEN]", "not a reference", "/secrets/0"),
        (
            "waivers: [{plugin: x, ceilings: {memory: 1GiB}, reason: r, until: soon}]",
            "a day such as",
            "/waivers/0/until",
        ),
        (
            "waivers: [{plugin: 'x y', ceilings: {}, reason: r, until: '2027-01-31'}]",
            "names no plugin",
            "/waivers/0/plugin",
        ),
        (
            "waivers: [{plugin: x, ceilings: {}, reason: r, until: '20270131'}]",
            "a day such as",
            "/waivers/0/until",
        ),
        ("blocked: [{version: '1'}]", "exactly one of `name`, `digest`", "/blocked/0"),
        ("blocked: [{digest: abc}]", "SHA-256", "/blocked/0/digest"),
        ("variables: [${NOT_SET}]", "NOT_SET is not listed", "/variables/0"),
    ],
)
def test_faults_have_a_place(tmp_path: Path, text: str, message: str, pointer: str) -> None:
    text = text.replace("[${NOT_SET}]", '["${NOT_SET}"]')
    with pytest.raises((ConfigError, NotPermitted), match=message) as error:
        policy(tmp_path, text)
    assert error.value.where.pointer == pointer


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_write_is_refused(tmp_path: Path, mode: int) -> None:
    policy(tmp_path, "{}")
    paths = Paths.from_environment({"DATIVO_HOME": str(tmp_path)})
    paths.policy.chmod(mode)
    with pytest.raises(ConfigError, match="can be written by others") as error:
        load_policy(paths, {})
    assert error.value.hint == f"chmod go-w {paths.policy}"


def test_a_folder_that_others_write_is_refused(tmp_path: Path) -> None:
    policy(tmp_path, "{}")
    paths = Paths.from_environment({"DATIVO_HOME": str(tmp_path)})
    paths.config.chmod(0o777)
    with pytest.raises(ConfigError, match="the policy's folder can be written by others"):
        load_policy(paths, {})


DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("block", "blocked"),
    [
        ("{name: 'singer:tap-x'}", True),
        ("{name: tap-x}", True),
        ("{name: tap-x, version: '1.0'}", True),
        ("{name: tap-x, version: '1.1'}", False),
        ("{name: tap-y}", False),
        (f"{{digest: {DIGEST}}}", True),
        (f"{{digest: {'cd' * 32}}}", False),
    ],
)
def test_blocked(tmp_path: Path, block: str, blocked: bool) -> None:
    found = policy(tmp_path, f"blocked: [{block}]")
    if not blocked:
        found.check_blocked("singer:tap-x", "1.0", DIGEST)
        return
    with pytest.raises(NotPermitted, match=r"singer:tap-x 1.0 is blocked") as refused:
        found.check_blocked("singer:tap-x", "1.0", DIGEST)
    # No command lifts what a person wrote.
    assert refused.value.where.file == str(found.file)
    assert refused.value.hint == "Only the operator can lift it: take it out there"


def test_an_airbyte_package_is_blocked_by_any_of_its_names(tmp_path: Path) -> None:
    for name in ("airbyte:source-faker", "source-faker", "airbyte-source-faker"):
        with pytest.raises(NotPermitted, match="is blocked"):
            policy(tmp_path, f"blocked: [{{name: '{name}'}}]").check_blocked(
                "airbyte:source-faker", "7.2.1", DIGEST
            )


WAIVED = """\
ceilings: {memory: 1GiB, cpus: 1}
waivers:
  - {plugin: "tap-x==1.2", ceilings: {memory: 8GiB, pids: 9}, reason: backfill, until: "2027-01-31"}
  - {plugin: tap-x, ceilings: {memory: 2GiB, cpus: 0.5}, reason: always large, until: "2027-03-31"}
"""


@pytest.mark.parametrize(
    ("today", "version", "memory"),
    [
        ("2027-01-31", "1.2", 8 * GIB),
        ("2027-02-01", "1.2", 2 * GIB),
        ("2027-01-31", "1.3", 2 * GIB),
        ("2027-04-01", "1.2", GIB),
    ],
)
def test_a_waiver_raises_a_ceiling_for_one_plugin_until_its_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, today: str, version: str, memory: int
) -> None:
    monkeypatch.setattr(waivers, "today", lambda: date.fromisoformat(today))
    found = policy(tmp_path, WAIVED)
    # Never lower than the ceiling, and none where there was none.
    assert found.for_plugin("singer:tap-x", version, "0" * 64).ceilings == {
        "memory": memory,
        "cpus": 1,
    }
    assert found.for_plugin("singer:tap-y", version, "0" * 64).ceilings == found.ceilings


def test_an_expired_waiver_is_named_where_it_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waivers, "today", lambda: date(2027, 4, 1))
    found = policy(tmp_path, WAIVED).for_plugin("singer:tap-x", "1.2", "0" * 64)
    with pytest.raises(NotPermitted, match="memory is above") as refused:
        permit(
            Grants(memory_bytes=2 * GIB), found, ReadLimits(), where=Where(), asked_in="job.yaml"
        )
    assert "expired: waiver for tap-x==1.2 until 2027-01-31: backfill" in (refused.value.hint or "")
