"""What runs now is found, what died is not, and the deny list is asked again while it runs."""

import fcntl
import os
from pathlib import Path

import pytest

from dativo.kernel import blocks
from dativo.kernel.limits import POLICY_GRACE_S
from dativo.kernel.paths import Paths
from dativo.kernel.running import DenyList, Plugin, Running, listing, registered, stop
from dativo.protocol.errors import ConfigError, NotPermitted

FAKER = Plugin("airbyte:source-faker", "7.2.1", "0f3a" * 16)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths.from_environment({"DATIVO_HOME": str(tmp_path)})


def running(name: str = "20261127t000000z-abcdef") -> Running:
    return Running.now(name, "run", "shop", Path("/work"), (FAKER,))


def test_a_run_is_found_while_it_lasts(paths: Paths) -> None:
    assert listing(paths) == ()
    one = running()
    with registered(paths, one):
        assert listing(paths) == (one,)
        assert listing(paths) == (one,)  # looking changes nothing
    assert listing(paths) == ()


def test_the_rubble_of_a_kernel_that_died_is_removed(paths: Paths) -> None:
    with registered(paths, running()):
        (file,) = (paths.state / "running").glob("*.json")
        text = file.read_bytes()
    file.write_bytes(text)
    assert listing(paths) == ()
    assert not file.exists()


def test_a_record_that_is_none_is_an_error(paths: Paths) -> None:
    with registered(paths, running()):
        (paths.state / "running" / "x.json").write_text("{}")
        fd = os.open(paths.state / "running" / "x.json", os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            with pytest.raises(ConfigError, match="not the record of a run"):
                listing(paths)
        finally:
            os.close(fd)


def test_a_run_that_is_over_is_not_stopped(paths: Paths) -> None:
    # This very process is no run: it must live on.
    assert stop(paths, running(), grace_s=0.0) is False


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("airbyte:source-faker", True),
        ("airbyte-source-faker", True),
        ("source-faker==7.2.1", True),
        ("source-faker==7.2.2", False),
        ("source-fake", False),
        (FAKER.digest, True),
        (FAKER.digest[:12], True),
        (FAKER.digest[:11], False),
        ("", False),
    ],
)
def test_which_plugin_is_meant(name: str, meant: bool) -> None:
    assert running().has(name) is meant


def test_the_deny_list_is_asked_again(paths: Paths) -> None:
    paths.ensure()
    deny = DenyList(paths, {}, (FAKER,))
    assert deny.objection(0.0) is None
    blocks.keep(blocks.parse("source-faker", "leaks"), paths)
    assert deny.objection(0.5) is None  # once a second
    objection = deny.objection(1.0)
    assert isinstance(objection, NotPermitted)
    assert "leaks" in objection.message


def test_a_policy_that_cannot_be_read_for_long_ends_the_run(paths: Paths) -> None:
    paths.ensure()
    deny = DenyList(paths, {}, (FAKER,))
    paths.policy.write_text("ceilings: {memory")
    assert deny.objection(1.0) is None
    paths.policy.write_text("ceilings: {memory: 1GiB}")
    assert deny.objection(2.0) is None  # it was being edited
    assert deny.objection(3.0 + POLICY_GRACE_S) is None
    paths.policy.write_text("ceilings: {memory: [")
    assert deny.objection(20.0) is None
    assert isinstance(deny.objection(20.0 + POLICY_GRACE_S), ConfigError)
