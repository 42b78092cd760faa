"""The operator's authorities: what is taken of the file, what is refused, and what a process is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from dativo.kernel import trust
from dativo.protocol.errors import ConfigError
from dativo.sandbox import Grants, Program

# Made for this test by openssl req -x509, until 2126; their key is nowhere.
AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBhjCCASugAwIBAgIUMuX1O39DjhzxtbLXTjt7pns4frIwCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMYW4gYXV0aG9yaXR5MCAXDTI2MTEyNzIwMzc0MloYDzIxMjYx
MTAzMjAzNzQyWjAXMRUwEwYDVQQDDAxhbiBhdXRob3JpdHkwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAAQM48380oTJKXK/KDajC5hKsMqnd+GnXshvJuPPtgcfnEJl
xXJ7PSOIRqqV4AfQaW9ImzAu0ebZrjASQ9vydXDuo1MwUTAdBgNVHQ4EFgQUg3mi
mqHCy7o9igIxSxJRSvABMg0wHwYDVR0jBBgwFoAUg3mimqHCy7o9igIxSxJRSvAB
Mg0wDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEA6DW+Z2zQA70M
OidjyoFAE5VS+Eax+SL8q8qVYtzlH1wCIQCIpODbSFNvnUqYGspISaO0J6wugqyB
X+9O5Ug91f9kLw==
-----END CERTIFICATE-----
"""
NO_AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBejCCASCgAwIBAgIUCSiqcNsh763MWqhVR3J1E27KYr0wCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIYSBzZXJ2ZXIwIBcNMjYxMTI3MjAzNzQyWhgPMjEyNjExMDMy
MDM3NDJaMBMxETAPBgNVBAMMCGEgc2VydmVyMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEDOPN/NKEySlyvyg2owuYSrDKp3fhp17Ibybjz7YHH5xCZcVyez0jiEaq
leAH0GlvSJswLtHm2a4wEkPb8nVw7qNQME4wHQYDVR0OBBYEFIN5opqhwsu6PYoC
MUsSUUrwATINMB8GA1UdIwQYMBaAFIN5opqhwsu6PYoCMUsSUUrwATINMAwGA1Ud
EwEB/wQCMAAwCgYIKoZIzj0EAwIDSAAwRQIhAOKXPpW4OdEO3jaZb+AbRkvZiF+4
UwqlEgh0N3YEf5ZcAiBGOONpGoszc3j1Cler65raBZO+RpjcPu1q4U4OP/ytwA==
-----END CERTIFICATE-----
"""


@pytest.fixture(autouse=True)
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "public.crt"
    file.write_text("the public ones\n")
    monkeypatch.setattr(trust, "_PUBLIC", (str(tmp_path / "nowhere"), str(file)))
    return file


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "ca.pem"
    file.write_text(text)
    file.chmod(0o644)
    return file


def test_certificates_and_nothing_else_are_shown(tmp_path: Path, public: Path) -> None:
    ca = written(tmp_path, f"issuer: somebody\n{AUTHORITY}\nnotes of the operator\n{NO_AUTHORITY}")
    folder = trust.prepare(ca, tmp_path / "state")
    own = (folder / "ca.pem").read_text()
    assert own == AUTHORITY + NO_AUTHORITY
    assert (folder / "all.pem").read_text() == own + "the public ones\n"
    assert {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())} == {
        folder.name: 0o755,
        "ca.pem": 0o444,
        "all.pem": 0o444,
    }
    # The same is not made again, another one is; nothing is left half made.
    assert trust.prepare(ca, tmp_path / "state") == folder
    public.write_text("others\n")
    other = trust.prepare(ca, tmp_path / "state")
    assert (other / "all.pem").read_text() == own + "others\n"
    assert {path for path in (tmp_path / "state/trust").iterdir()} == {folder, other}


def test_two_runs_that_make_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "trust/abc"
    trust._make(folder, {"ca.pem": b"first"})
    trust._make(folder, {"ca.pem": b"second"})
    assert (folder / "ca.pem").read_bytes() == b"first"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_machine_without_public_authorities(tmp_path: Path, public: Path) -> None:
    public.unlink()
    folder = trust.prepare(written(tmp_path, AUTHORITY), tmp_path / "state")
    assert (folder / "all.pem").read_text() == AUTHORITY


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as certificates"),
        ("\x00\x01", "cannot be read as certificates"),
        (AUTHORITY.replace("MII", "XII", 1), "cannot be read as certificates"),
        (NO_AUTHORITY, "holds no certificate of an authority"),
        (f"{AUTHORITY}-----BEGIN EC PRIVATE KEY-----\nMHcC\n", "holds a private key"),
        ("x" * (5 << 20), "has more than 4194304 bytes"),
    ],
)
def test_what_cannot_be_trusted(tmp_path: Path, text: str, message: str) -> None:
    ca = written(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as error:
        trust.prepare(ca, tmp_path / "state")
    assert error.value.where.file == str(ca)
    assert "MHcC" not in f"{error.value}{error.value.value}"
    assert not (tmp_path / "state").exists()


def test_a_file_that_others_write_decides_nothing(tmp_path: Path) -> None:
    ca = written(tmp_path, AUTHORITY)
    ca.chmod(0o666)
    with pytest.raises(ConfigError, match="can be written by others"):
        trust.prepare(ca, tmp_path / "state")
    with pytest.raises(ConfigError, match="No such file"):
        trust.prepare(tmp_path / "nowhere", tmp_path / "state")


def test_a_process_is_told_where_they_are(tmp_path: Path) -> None:
    before = Grants(environment=(("SSL_CERT_FILE", "/etc/of/an/image"), ("A", "b")))
    program, grants = trust.shown(Program(name="source", argv=("/x",)), before, tmp_path)
    assert program.binds == ((tmp_path, "/run/dativo/trust", False),)
    told = dict(grants.environment)
    assert told["SSL_CERT_FILE"] == told["REQUESTS_CA_BUNDLE"] == "/run/dativo/trust/all.pem"
    assert told["NODE_EXTRA_CA_CERTS"] == "/run/dativo/trust/ca.pem"
    assert told["A"] == "b"


def test_certifi_is_covered_where_an_environment_has_it(tmp_path: Path) -> None:
    bundle = tmp_path / "env/lib/python3.11/site-packages/certifi/cacert.pem"
    bundle.parent.mkdir(parents=True)
    bundle.write_text("of its own")
    link = tmp_path / "linked/lib/python3.12/site-packages/certifi/cacert.pem"
    link.parent.mkdir(parents=True)
    link.symlink_to(bundle)
    runtime = (tmp_path / "env", tmp_path / "linked", tmp_path / "nowhere")
    program, _ = trust.shown(Program("source", ("/x",), runtime), Grants(), tmp_path / "trust")
    assert program.binds == (
        (tmp_path / "trust", "/run/dativo/trust", False),
        (tmp_path / "trust/all.pem", str(bundle), False),
    )
