"""Which environment variables a process may be given, and their values."""

from pathlib import Path

import pytest

from dativo.kernel import limits, variables
from dativo.kernel.document import load_yaml
from dativo.kernel.grants import Grants, beyond_default, permit
from dativo.kernel.limits import ReadLimits
from dativo.kernel.network_policy import NetworkPolicy
from dativo.kernel.policy import Policy
from dativo.kernel.shapes import GRANTS, read
from dativo.protocol.errors import ConfigError, NotPermitted, Where


@pytest.mark.parametrize("name", ["AWS_REGION", "TZ", "_x", "LDAP_URL", "HOMEPAGE", "A" * 128])
def test_names_that_may_be_given(name: str) -> None:
    assert variables.parse(name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("PATH", "set by dativo"),
        ("HOME", "set by dativo"),
        ("DEPLOYMENT_MODE", "set by dativo"),
        ("LD_PRELOAD", "what code"),
        ("LD_AUDIT", "what code"),
        ("GLIBC_TUNABLES", "what code"),
        ("PYTHONPATH", "what code"),
        ("PYTHONSTARTUP", "what code"),
        ("BASH_ENV", "what code"),
        ("BASH_FUNC_x", "what code"),
        ("ENV", "what code"),
        ("NODE_OPTIONS", "what code"),
        ("PERL5LIB", "what code"),
        ("RUBYOPT", "what code"),
        ("_JAVA_OPTIONS", "what code"),
        ("OPENSSL_CONF", "what code"),
        ("GIT_SSH_COMMAND", "what code"),
        ("DATIVO_BIN_DIR", "dativo's own"),
        ("UV_INDEX_URL", "dativo's own"),
        ("", "expected the name"),
        ("A B", "expected the name"),
        ("A=B", "expected the name"),
        ("1A", "expected the name"),
        ("Ä", "expected the name"),
        ("A\n", "expected the name"),
        ("A" * 129, "expected the name"),
    ],
)
def test_names_that_may_not(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        variables.parse(name)


def test_the_fault_has_a_place(tmp_path: Path) -> None:
    file = tmp_path / "grants.yaml"
    file.write_text("environment: [TZ, LD_PRELOAD]\n")
    with pytest.raises(ConfigError, match="LD_PRELOAD decides") as error:
        read(GRANTS, load_yaml(file, "grants"), "grants")
    assert (error.value.where.pointer, error.value.where.line) == ("/environment/1", 1)


def test_values_are_those_of_the_operator() -> None:
    env = {"A": "1", "B": "", "C": "3"}
    assert variables.resolve(("A", "B"), env) == (("A", "1"), ("B", ""))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "is not set"),
        ("x" * (limits.SECRET_BYTES + 1), f"more than {limits.SECRET_BYTES} bytes"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_values_that_cannot_be_given(value: str | None, said: str) -> None:
    env = {} if value is None else {"A": value}
    with pytest.raises(ConfigError, match=said) as error:
        variables.resolve(("A",), env)
    assert value is None or value[:20] not in str(error.value)


def granted(*names: str) -> Grants:
    return Grants.requested({"environment": names}, Path("/"))


@pytest.mark.parametrize("listed", [(), ("B",)])
def test_what_the_policy_does_not_list_is_refused(listed: tuple[str, ...]) -> None:
    policy = Policy(
        Path("/p.yaml"), (), environment=frozenset(listed), network=NetworkPolicy.of({})
    )
    with pytest.raises(NotPermitted, match="environment variable A is not listed") as error:
        permit(granted("B", "A"), policy, ReadLimits(), where=Where(), asked_in="the job")
    assert error.value.where == Where(file="/p.yaml", pointer="/environment")


def test_what_it_lists_needs_an_approval_and_is_told_by_name() -> None:
    policy = Policy(Path("/p.yaml"), (), environment=frozenset("AB"), network=NetworkPolicy.of({}))
    found = granted("B", "A", "B")
    permit(found, policy, ReadLimits(), where=Where(), asked_in="the job")
    assert [str(ask) for ask in beyond_default(found, None, Path("/"))] == [
        "environment A",
        "environment B",
    ]
    assert found.document()["environment"] == ["A", "B"]
