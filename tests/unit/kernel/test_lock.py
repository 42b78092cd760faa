"""References and dativo.lock."""

import json
from pathlib import Path

import pytest

from dativo.kernel.lock import (
    Locked,
    LockedImage,
    load_lock,
    lock_text,
    parse_reference,
    platform_name,
    save_lock,
)
from dativo.protocol.errors import ConfigError

HASH = "ab" * 32


def entry(**changes: object) -> Locked:
    values: dict[str, object] = {
        "reference": "airbyte:source-faker",
        "kind": "airbyte",
        "package": "airbyte-source-faker",
        "version": "7.2.1",
        "requested": "==7.2.1",
        "newest": None,
        "python": "3.11",
        "script": "source-faker",
        "requirements": (f"airbyte-source-faker==7.2.1 --hash=sha256:{HASH}",),
        "contents": {"linux-x86_64": HASH},
    }
    return Locked(**{**values, **changes})  # type: ignore[arg-type]  # a table of values


@pytest.mark.parametrize(
    ("text", "name", "requirement"),
    [
        ("airbyte:source-faker==7.2.1", "airbyte:source-faker", "airbyte-source-faker==7.2.1"),
        ("airbyte:airbyte-source-faker", "airbyte:source-faker", "airbyte-source-faker"),
        ("airbyte:Source_Faker", "airbyte:source-faker", "airbyte-source-faker"),
        ("singer:tap-jsonl==0.3.1", "singer:tap-jsonl", "tap-jsonl==0.3.1"),
        ("singer:Meltano_Labs.Tap", "singer:meltano-labs-tap", "meltano-labs-tap"),
        ("singer:tap-x[s3] >=1,<2", "singer:tap-x", "tap-x[s3]<2,>=1"),
    ],
)
def test_references(text: str, name: str, requirement: str) -> None:
    found = parse_reference(text)
    assert (found.name, found.requirement) == (name, requirement)


@pytest.mark.parametrize(
    "text",
    [
        "tap-jsonl",
        "npm:x",
        "singer:",
        "singer:tap-x @ https://example.invalid/x.whl",
        "singer:tap-x; python_version > '3'",
        "singer:--index-url=https://example.invalid",
        "singer:-r/etc/passwd",
        "singer:tap-x --hash=sha256:00",
        "singer:../x",
        "singer:tap-x\n-e .",
        "singer:" + "x" * 300,
    ],
)
def test_a_reference_only_names_something_in_the_index(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_reference(text)


def test_round_trip_and_the_same_bytes(tmp_path: Path) -> None:
    file = tmp_path / "dativo.lock"
    plugins = {
        "singer:tap-x": entry(
            reference="singer:tap-x", kind="singer", package="tap-x", newest="8.0"
        ),
        "airbyte:source-faker": entry(),
    }
    save_lock(file, plugins)
    assert load_lock(file) == plugins
    assert lock_text(dict(reversed(plugins.items()))) == file.read_text()
    assert load_lock(tmp_path / "none") == {}


def image(**changes: object) -> LockedImage:
    values: dict[str, object] = {
        "reference": "image:shop",
        "version": "0+abc",
        "images": {"linux-aarch64": HASH, platform_name(): HASH},
        "contents": {platform_name(): HASH},
    }
    return LockedImage(**{**values, **changes})  # type: ignore[arg-type]  # a table of values


def test_images(tmp_path: Path) -> None:
    file = tmp_path / "dativo.lock"
    save_lock(file, {"image:shop": image(), "airbyte:source-faker": entry()})
    assert load_lock(file) == {"image:shop": image(), "airbyte:source-faker": entry()}
    assert image().folder == HASH
    assert image(images={}).folder == ""


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("images", {platform_name(): "../../etc"}, "images"),
        ("images", {"../x": HASH}, "images"),
        ("version", "../1", "version"),
        ("argv", ["/bin/sh"], "unknown key `argv`"),
        ("kind", "singer", "is missing|unknown key"),
    ],
)
def test_a_hostile_image_is_refused(tmp_path: Path, key: str, value: object, says: str) -> None:
    document = json.loads(lock_text({"image:shop": image()}))
    document["plugins"]["image:shop"][key] = value
    (tmp_path / "dativo.lock").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=says):
        load_lock(tmp_path / "dativo.lock")


@pytest.mark.parametrize("reference", ["singer:shop", "airbyte:shop"])
def test_a_kind_under_the_name_of_another(tmp_path: Path, reference: str) -> None:
    (tmp_path / "dativo.lock").write_text(lock_text({reference: image()}))
    with pytest.raises(ConfigError, match=f"{reference} is not of kind image"):
        load_lock(tmp_path / "dativo.lock")


def test_the_digest_covers_python_and_every_hash() -> None:
    digests = {
        entry().digest,
        entry(python="3.10").digest,
        entry(requirements=(f"airbyte-source-faker==7.2.1 --hash=sha256:{'cd' * 32}",)).digest,
    }
    assert len(digests) == 3
    assert entry().folder == f"airbyte-source-faker/7.2.1-{entry().digest[:12]}"
    assert entry(contents={}).digest == entry().digest


@pytest.mark.parametrize(
    ("key", "value", "pointer"),
    [
        ("package", "../../etc", "/plugins/airbyte:source-faker/package"),
        ("version", "../1", "/plugins/airbyte:source-faker/version"),
        ("version", "1/../..", "/plugins/airbyte:source-faker/version"),
        ("script", "../sh", "/plugins/airbyte:source-faker/script"),
        ("python", "/bin/sh", "/plugins/airbyte:source-faker/python"),
        ("requirements", ["-e ."], "/plugins/airbyte:source-faker/requirements/0"),
        (
            "requirements",
            [f"x==1 --hash=sha256:{HASH} --index-url=http://x"],
            "/plugins/airbyte:source-faker/requirements/0",
        ),
        (
            "requirements",
            [f"x==1 --hash=sha256:{HASH}\n-e ."],
            "/plugins/airbyte:source-faker/requirements/0",
        ),
        ("requirements", [], "/plugins/airbyte:source-faker/requirements"),
        ("contents", {"linux-x86_64": "x"}, "/plugins/airbyte:source-faker/contents/linux-x86_64"),
        ("argv", ["/bin/sh"], "/plugins/airbyte:source-faker/argv"),
    ],
)
def test_a_hostile_lock_is_refused(tmp_path: Path, key: str, value: object, pointer: str) -> None:
    document = json.loads(lock_text({"airbyte:source-faker": entry()}))
    document["plugins"]["airbyte:source-faker"][key] = value
    (tmp_path / "dativo.lock").write_text(json.dumps(document))
    with pytest.raises(ConfigError) as error:
        load_lock(tmp_path / "dativo.lock")
    assert error.value.where.pointer == pointer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"version": 2, "plugins": {}}',
        '{"version": 1}',
        '{"version":1,"version":1,"plugins":{}}',
    ],
)
def test_a_damaged_lock_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "dativo.lock").write_text(text)
    with pytest.raises(ConfigError, match=r"dativo\.lock"):
        load_lock(tmp_path / "dativo.lock")
