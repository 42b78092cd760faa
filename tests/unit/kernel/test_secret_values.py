"""Secrets: where they are read from, where they go, and that nothing shows them."""

import base64
import json
import re
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dativo.kernel.secrets import REDACTED, Redactor, SecretRef, Secrets, inject, resolve
from dativo.protocol.errors import ConfigError, NotPermitted

ENV = SecretRef("env", "TOKEN")


def of(file: Path) -> tuple[SecretRef, frozenset[str]]:
    ref = SecretRef.parse(f"file://{file}")
    return ref, frozenset({str(ref)})


def test_from_the_environment() -> None:
    found = resolve([ENV], {"TOKEN": "hunter2hunter2"}, frozenset({"env://TOKEN"}))
    assert inject({"a": [ENV], "n": 1}, found) == b'{"a":["hunter2hunter2"],"n":1}'


def test_only_what_is_permitted() -> None:
    with pytest.raises(NotPermitted, match="env://TOKEN is not approved"):
        resolve([ENV], {"TOKEN": "hunter2hunter2"}, frozenset({"env://OTHER"}))


@pytest.mark.parametrize("value", [{}, {"TOKEN": ""}, {"TOKEN": "\udcff"}, {"TOKEN": "x" * 70_000}])
def test_unusable_values(value: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="secret env://TOKEN"):
        resolve([ENV], value, frozenset({"env://TOKEN"}))


def test_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"hunter2\nhunter2\r\n")
    file.chmod(0o600)
    ref, permitted = of(file)
    assert resolve([ref], {}, permitted).values[ref] == "hunter2\nhunter2"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o602, 0o666])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text("hunter2hunter2")
    file.chmod(mode)
    ref, permitted = of(file)
    with pytest.raises(ConfigError, match="by others") as error:
        resolve([ref], {}, permitted)
    assert "hunter2" not in str(error.value)


def test_links_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2hunter2")
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "token")
    for name, message in (
        ("link", "it is a symbolic link"),
        ("none", "cannot read secret"),
        ("", "not a regular file"),
    ):
        ref, permitted = of(tmp_path / name)
        with pytest.raises(ConfigError, match=message):
            resolve([ref], {}, permitted)


def test_no_repr_shows_a_value() -> None:
    found = Secrets({ENV: "hunter2hunter2"})
    assert "hunter2" not in repr(found) + repr(found.redactor()) + str(ENV)


TRICKY = 'p@ss/w+rd "q\\uoted" é&=?\t%'


def _forms(value: str) -> dict[str, str]:
    data = value.encode()
    return {
        "plain": f"token={value};",
        "json": json.dumps({"k": value}),
        "json, not ascii": json.dumps({"k": value}, ensure_ascii=False),
        "repr": repr({"k": value}),
        "repr of bytes": repr(data),
        "url": urllib.parse.quote(value, safe=""),
        "url path": urllib.parse.quote(value),
        "url form": urllib.parse.urlencode({"k": value}),
        "url, lower case": re.sub(
            "%..", lambda m: m[0].lower(), urllib.parse.quote(value, safe="")
        ),
        "hex": data.hex(),
        **{f"base64 {n}": base64.b64encode(b"u" * n + data + b"tail").decode() for n in range(6)},
        **{f"base64url {n}": base64.urlsafe_b64encode(b"u" * n + data).decode() for n in range(6)},
    }


@pytest.mark.parametrize("form", _forms(TRICKY))
def test_every_form_is_redacted(form: str) -> None:
    redactor = Redactor([TRICKY])
    text = _forms(TRICKY)[form]
    assert "[secret]" in redactor.redact(text)
    assert redactor.redact_bytes(text.encode()) == redactor.redact(text).encode()


def test_what_surrounds_a_value_stays() -> None:
    assert (
        Redactor(["hunter2hunter2"]).redact("a hunter2hunter2 b hunter2") == "a [secret] b hunter2"
    )


def test_each_line_of_a_key_is_redacted() -> None:
    key = "-----BEGIN KEY-----\nMIIabcdefgh\nxyz\n-----END KEY-----"
    redacted = Redactor([key]).redact("log: MIIabcdefgh")
    assert redacted == "log: [secret]"


def test_short_values_are_left() -> None:
    assert Redactor(["abc"]).redact("abc abc") == "abc abc"
    assert Redactor().redact("abc") == "abc"


def test_the_longer_value_wins() -> None:
    assert (
        Redactor(["hunter2hunter2", "hunter2hunter2-and-more"]).redact("hunter2hunter2-and-more")
        == "[secret]"
    )


@given(st.text(min_size=8, max_size=40), st.binary(max_size=5), st.binary(max_size=5))
def test_any_value_leaves_base64(value: str, before: bytes, after: bytes) -> None:
    text = base64.b64encode(before + value.encode() + after).decode()
    assert "[secret]" in Redactor([value]).redact(text)


@pytest.mark.parametrize("kept", range(3, 20))
def test_what_clipping_leaves_of_a_value_is_taken_out_too(kept: int) -> None:
    secret = "tok-0123456789abcdefgh"
    shown = Redactor([secret]).redact("x" * 30 + secret[:kept] + "…")
    assert shown == "x" * 30 + REDACTED + "…"
    assert Redactor([secret]).redact("plain text…") == "plain text…"
