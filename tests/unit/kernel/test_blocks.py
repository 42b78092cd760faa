"""The deny list that commands keep."""

import json
from pathlib import Path

import pytest

from dativo.kernel import blocks
from dativo.kernel.paths import Paths
from dativo.kernel.policy import load_policy
from dativo.protocol.errors import ConfigError, NotPermitted

DIGEST = "0f3a" * 16


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths.from_environment({"DATIVO_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("text", "reference", "version", "fits"),
    [
        ("airbyte:source-faker", "airbyte:source-faker", "7.2.1", True),
        ("source-faker", "airbyte:source-faker", "7.2.1", True),
        ("airbyte-source-faker==7.2.1", "airbyte:source-faker", "7.2.1", True),
        ("airbyte-source-faker==7.2.2", "airbyte:source-faker", "7.2.1", False),
        ("tap-x", "singer:tap-xy", "1", False),
        ("mine", "./plugins/mine", "1", True),
        ("./plugins/mine", "./plugins/mine", "1", True),
        (DIGEST, "singer:tap-x", "1", True),
        (DIGEST[:-1] + "0", "singer:tap-x", "1", False),
    ],
)
def test_what_an_entry_means(text: str, reference: str, version: str, fits: bool) -> None:
    assert blocks.parse(text, None).fits(reference, version, DIGEST) is fits


@pytest.mark.parametrize("text", ["", "==1", "a==", "a b", "--all", "a==1==2", "x" * 300])
def test_what_names_no_plugin(text: str) -> None:
    with pytest.raises(ConfigError):
        blocks.parse(text, None)


def test_blocked_without_a_policy_file_until_it_is_lifted(paths: Paths) -> None:
    entry = blocks.parse("tap-x==1.2", "sends data elsewhere")
    assert blocks.keep(entry, paths) == blocks.keep(entry, paths)
    with pytest.raises(NotPermitted, match="sends data elsewhere") as refused:
        load_policy(paths, {}).check_blocked("singer:tap-x", "1.2", DIGEST)
    assert refused.value.hint == "Only the operator can lift it: dativo grants unblock tap-x==1.2"
    assert Path(refused.value.where.file or "").parent == paths.blocked
    load_policy(paths, {}).check_blocked("singer:tap-x", "1.3", DIGEST)

    blocks.lift(entry, paths)
    load_policy(paths, {}).check_blocked("singer:tap-x", "1.2", DIGEST)
    with pytest.raises(ConfigError, match="was not blocked by a command"):
        blocks.lift(entry, paths)


def test_an_entry_that_was_changed_is_an_error(paths: Paths) -> None:
    file = blocks.keep(blocks.parse("tap-x", None), paths)
    said = json.loads(file.read_text())
    file.write_text(json.dumps(said | {"what": "tap-y"}))
    with pytest.raises(ConfigError, match="no entry of the deny list"):
        load_policy(paths, {})


def test_a_folder_that_others_can_write_is_an_error(paths: Paths) -> None:
    blocks.keep(blocks.parse("tap-x", None), paths)
    paths.blocked.chmod(0o777)
    with pytest.raises(ConfigError, match="folder of blocked plugins"):
        load_policy(paths, {})
