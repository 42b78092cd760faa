"""Grants on a command line, and the policy above them."""

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from dativo.kernel.flags import GrantFlags, grant_flags, read_limits
from dativo.kernel.grants import Grants
from dativo.kernel.network_policy import NetworkPolicy
from dativo.kernel.policy import Policy
from dativo.protocol.errors import ConfigError, NotPermitted


def policy(tmp_path: Path, **more: Any) -> Policy:
    return Policy(tmp_path / "policy.yaml", (tmp_path / "own",), **more)


def test_no_flag_is_the_default(tmp_path: Path) -> None:
    assert GrantFlags().grants(policy(tmp_path)) == Grants.default()


def test_flags_are_grants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = GrantFlags(ro=("in",), rw=("/srv/x/../y",), memory=2**30, cpus=0.5, time=60, idle=5, pids=9).grants(
        policy(tmp_path), ("env://A",)
    )  # fmt: skip
    assert (found.read, found.write) == ((tmp_path / "in",), (Path("/srv/y"),))
    assert (found.memory_bytes, found.cpus, found.pids) == (2**30, 0.5, 9)
    assert (found.wall_time_s, found.idle_time_s, found.secrets) == (60, 5, ("env://A",))


def test_networks_are_grants_too(tmp_path: Path) -> None:
    found = GrantFlags(net=("b.test", "A.test:80")).grants(policy(tmp_path))
    assert list(map(str, found.network)) == ["a.test:80", "b.test:443"]
    with pytest.raises(ConfigError, match="not a network grant"):
        GrantFlags(net=("http://a.test",)).grants(policy(tmp_path))
    blocked = policy(tmp_path, network=NetworkPolicy(blocked_hosts=("*.test",)))
    with pytest.raises(NotPermitted, match="blocked by the policy"):
        GrantFlags(net=("b.test",)).grants(blocked)


def test_a_ceiling_lowers_what_no_flag_says_and_refuses_what_one_does(tmp_path: Path) -> None:
    low = policy(tmp_path, ceilings={"memory": 2**27, "tmp": 2**20, "max_depth": 8})
    found = GrantFlags().grants(low)
    assert (found.memory_bytes, found.tmp_bytes) == (2**27, 2**20)
    assert read_limits(low).max_depth == 8
    with pytest.raises(NotPermitted, match="memory is above"):
        GrantFlags(memory=2**28).grants(low)
    high = policy(tmp_path, ceilings={"memory": 2**40})
    assert GrantFlags().grants(high) == Grants.default()


def test_what_no_flag_can_grant(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/usr")
    with pytest.raises(ConfigError, match="symbolic link"):
        GrantFlags(ro=(str(tmp_path / "link"),)).grants(policy(tmp_path))
    with pytest.raises(NotPermitted, match="no run may touch"):
        GrantFlags(rw=(str(tmp_path),)).grants(policy(tmp_path))
    with pytest.raises(NotPermitted, match="not listed"):
        GrantFlags().grants(policy(tmp_path, secrets=frozenset({"env://B"})), ("env://A",))


@click.command()
@grant_flags
@click.option("--name", default="x")
def command(name: str, granted: GrantFlags) -> None:
    click.echo(repr((name, granted)))


def test_the_options() -> None:
    ran = CliRunner().invoke(
        command,
        [
            "--ro",
            "a",
            "--ro",
            "b",
            "--rw",
            "c",
            "--net",
            "api.test",
            "--net",
            "db.test:5432 private",
            "--memory",
            "1GiB",
            "--cpus",
            "1.5",
            "--time",
            "2h",
            "--idle",
            "30s",
            "--cgroup",
            "degraded",
        ],
    )
    net = ("api.test", "db.test:5432 private")
    wanted = GrantFlags(("a", "b"), ("c",), net, 2**30, 1.5, None, 7200, 30, "degraded")
    assert ran.output == repr(("x", wanted)) + "\n"
    for bad in (["--memory", "much"], ["--cpus", "0"], ["--time", "later"], ["--pids", "0"]):
        ran = CliRunner().invoke(command, bad)
        assert ran.exit_code == 2 and bad[0] in ran.output


def test_programs_that_the_policy_does_not_permit_are_left_out(tmp_path: Path) -> None:
    """What no flag says is lowered to the policy, as a ceiling lowers a number."""
    for permitted, found in ((None, ["/usr"]), (("/usr",), ["/usr"]), ((), []), (("/opt",), [])):
        paths = None if permitted is None else tuple(map(Path, permitted))
        policy = Policy(tmp_path / "policy.yaml", (), execute=paths)
        assert [str(path) for path in GrantFlags().grants(policy).execute] == found
