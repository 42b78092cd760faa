"""What the operator says of networks, and hosts that are anybody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from dativo.kernel.flags import read_limits
from dativo.kernel.grants import Grants, beyond_default, permit
from dativo.kernel.network import collect
from dativo.kernel.network_policy import NetworkPolicy, notices
from dativo.kernel.network_text import parse
from dativo.kernel.paths import Paths
from dativo.kernel.policy import Policy, load_policy
from dativo.protocol.errors import ConfigError, NotPermitted, Where


def policy(tmp_path: Path, network: str) -> Policy:
    paths = Paths.from_environment({"DATIVO_HOME": str(tmp_path)})
    paths.ensure()
    paths.policy.write_text(f"network: {network}\n")
    paths.policy.chmod(0o600)
    return load_policy(paths, {})


def ask(found: Policy, *texts: str) -> None:
    granted = Grants(network=collect(map(parse, texts)))
    permit(granted, found, read_limits(found), where=Where(), asked_in="the test")


def test_what_it_says_is_canonical(tmp_path: Path) -> None:
    found = policy(
        tmp_path,
        "{blocked: [Evil.test, '*.bad.test.', 10.0.0.0/8, 10.1.2.3, 'fd00::/8', 0.0.0.0/0],"
        " permit_special: [127.0.0.1], resolvers: [10.0.0.2, 'FD00::2'], proxy: 'Proxy.corp:3128',"
        " allowed: ['*.a.com:443,444']}",
    ).network
    assert found.blocked_hosts == ("evil.test", "*.bad.test")
    assert found.blocked == ("10.0.0.0/8", "10.1.2.3/32", "fd00::/8")
    assert (found.permit_special, found.proxy) == (("127.0.0.1/32",), "proxy.corp:3128")
    assert found.resolvers == ("10.0.0.2:53", "[fd00::2]:53")
    assert found.allowed == (parse("*.a.com:443,444"),)
    assert policy(tmp_path, "{}").network == NetworkPolicy()
    assert policy(tmp_path, "{ca: /etc/corp/ca.pem}").network.ca == Path("/etc/corp/ca.pem")
    with pytest.raises(ConfigError, match="expected an absolute path"):
        policy(tmp_path, "{ca: ca.pem}")


def test_credentials_of_a_proxy_are_a_reference(tmp_path: Path) -> None:
    kept = tmp_path / "proxy"
    kept.write_text("me:open sesame\n")
    kept.chmod(0o600)
    said = f"{{proxy: 'proxy.corp:3128', proxy_credentials: 'file://{kept}'}}"
    found = policy(tmp_path, said).network
    assert found.proxy_authorization({}) == "Basic bWU6b3BlbiBzZXNhbWU="
    assert "sesame" not in repr(found)
    by_name = policy(tmp_path, "{proxy: 'p:1', proxy_credentials: 'env://PROXY'}").network
    assert by_name.proxy_authorization({"PROXY": "a:"}) == "Basic YTo="
    assert policy(tmp_path, "{proxy: 'p:1'}").network.proxy_authorization({}) is None


@pytest.mark.parametrize(
    ("said", "value", "message"),
    [
        ("{proxy_credentials: 'env://PROXY'}", "", "`proxy_credentials` needs `proxy`"),
        ("{proxy: 'p:1', proxy_credentials: 'me:sesame'}", "", "not a reference"),
        ("{proxy: 'p:1', proxy_credentials: 'env://PROXY'}", "", "is not set"),
        ("{proxy: 'p:1', proxy_credentials: 'env://PROXY'}", "sesame", "is not USER:PASSWORD"),
        ("{proxy: 'p:1', proxy_credentials: 'env://PROXY'}", ":sesame", "is not USER:PASSWORD"),
        ("{proxy: 'p:1', proxy_credentials: 'env://PROXY'}", "a:ses\name", "is not USER:PASSWORD"),
    ],
)
def test_credentials_that_are_none(tmp_path: Path, said: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        policy(tmp_path, said).network.proxy_authorization({"PROXY": value})
    assert "ses" not in f"{error.value}{error.value.value}{error.value.hint}"


@pytest.mark.parametrize(
    ("blocked", "asked", "refused"),
    [
        ("evil.test", "evil.test", True),
        ("evil.test", "evil.test:8443", True),
        ("evil.test", "www.evil.test", False),
        ("'*.evil.test'", "www.evil.test", True),
        ("'*.evil.test'", "'*.www.evil.test'", True),
        ("'*.evil.test'", "evil.test", False),
        ("www.evil.test", "*.evil.test", False),  # a part of it: subtracted by the broker
        ("10.0.0.0/8", "10.1.2.3:5432", True),
        ("10.1.2.3", "10.0.0.0/8:5432", False),
        ("10.0.0.0/8", "[fd00::1]:5432", False),
        ("10.0.0.0/8", "db.internal:5432 private", False),
        # Nobody is denied what is granted by saying that everything is denied.
        ("0.0.0.0/0", "10.1.2.3:5432", False),
        ("0.0.0.0/0", "api.example.com", False),
        ("'::/0'", "[fd00::1]:5432", False),
    ],
)
def test_what_is_wholly_blocked_is_refused(
    tmp_path: Path, blocked: str, asked: str, refused: bool
) -> None:
    found = policy(tmp_path, f"{{blocked: [{blocked}]}}")
    asked = asked.strip("'")
    if not refused:
        ask(found, asked)
        return
    with pytest.raises(NotPermitted, match=r"is blocked by the policy") as error:
        ask(found, "a.example.com", asked)
    assert error.value.where == Where(file=str(found.file), pointer="/network/blocked")


@pytest.mark.parametrize(
    ("asked", "within"),
    [
        ("a.com", True),
        ("a.com:444", False),
        ("x.b.com:5432 private", True),
        ("x.b.com:5432", True),
        ("x.b.com:5432 no-sni", False),
        ("b.com:5432", False),
        ("c.com", False),
        ("loopback", False),
    ],
)
def test_nothing_goes_beyond_what_is_allowed(tmp_path: Path, asked: str, within: bool) -> None:
    found = policy(tmp_path, "{allowed: [a.com, '*.b.com:5000-6000 private']}")
    if within:
        ask(found, asked)
        return
    with pytest.raises(NotPermitted, match="not within what the policy allows") as error:
        ask(found, asked)
    assert error.value.where.pointer == "/network/allowed"


def test_an_empty_list_allows_nothing(tmp_path: Path) -> None:
    ask(policy(tmp_path, "{}"), "a.com")
    with pytest.raises(NotPermitted):
        ask(policy(tmp_path, "{allowed: []}"), "a.com")


def test_a_network_is_asked_for_by_its_canonical_text(tmp_path: Path) -> None:
    granted = Grants(network=collect(map(parse, ("B.com private", "a.com"))))
    asks = beyond_default(granted, None, tmp_path)
    assert [str(each) for each in asks if each.kind == "network"] == [
        "network a.com:443",
        "network b.com:443 private",
    ]


def test_hosts_that_are_anybodys_are_flagged() -> None:
    grants = map(
        parse,
        ("*.s3.amazonaws.com", "me.github.io upload=1MiB", "api.example.com", "notamazonaws.com"),
    )
    found = notices(grants)
    assert len(found) == 2
    assert found[0].startswith("network *.s3.amazonaws.com:443: amazonaws.com is shared hosting")
    assert "upload=SIZE" in found[0]
    assert "upload=SIZE" not in found[1]
