"""The main job: a public Airbyte connector from PyPI, confined, into Iceberg, twice."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from tests.integration.conftest import ROOT, Workspace, plain_flags, reader

JOB = """\
pipeline: shop
source:
  connector: airbyte:source-faker
  config: {count: 1000, seed: 7, always_updated: false, parallelism: 2}
  streams: ["users", "products", "purchases", "!users.telephone"]
target:
  connector: iceberg
  config: {warehouse: ./lake, namespace: shop}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("shop")
    flags = plain_flags()
    made = Workspace(folder / "workspace", folder / "home", flags=flags)
    made.folder.mkdir()
    made.home.mkdir(mode=0o700)
    added = made.dativo("plugin", "add", "airbyte:source-faker==7.2.1", *flags, timeout_s=900)
    assert added.status == 0, added.stderr
    made.job(JOB)
    yield made


def test_first_run_lands_everything_and_the_second_nothing(shop: Workspace) -> None:
    first = shop.run()
    assert first.status == 0, first.stderr
    report = first.report
    streams = {entry["stream"]: entry for entry in report["streams"]}
    assert set(streams) == {"users", "products", "purchases"}
    assert streams["users"]["written"] == 1000
    for name, entry in streams.items():
        assert entry["read"] == entry["written"] and entry["rejected"] == 0
        assert shop.count(f"shop.{name}") == entry["written"]
    assert shop.count("shop.users", "count(DISTINCT id)") == 1000
    columns = (
        reader()
        .execute(f"DESCRIBE SELECT * FROM iceberg_scan('{shop.metadata('shop.users')}')")
        .fetchall()
    )
    types = {row[0]: row[1] for row in columns}
    assert types["id"] == "BIGINT" and types["created_at"] == "TIMESTAMP WITH TIME ZONE"
    assert types["address"].startswith("STRUCT(street_number VARCHAR") and "telephone" not in types
    walls = {entry["name"]: entry["walls"] for entry in report["processes"]}
    assert set(walls) == {"source", "writer", "inspector", "committer"} and all(walls.values())
    assert all(entry["peak_memory_bytes"] > 0 for entry in report["processes"])

    before = {name: shop.metadata(f"shop.{name}") for name in streams}
    second = shop.run()
    assert second.status == 0, second.stderr
    assert all(entry["read"] == 0 for entry in second.report["streams"])
    assert {name: shop.metadata(f"shop.{name}") for name in streams} == before


def test_a_lost_warehouse_is_noticed_and_begun_anew(shop: Workspace) -> None:
    shutil.rmtree(shop.lake)
    result = shop.run()
    assert result.status == 0, result.stderr
    assert any("starting anew" in notice for notice in result.report["notices"])
    assert shop.count("shop.users") == 1000


def shape(report: str) -> list[str]:
    """Return the lines of a report without what differs from run to run and from machine to machine."""
    for what, mark in (
        (r"run \S+$", "run RUN"),
        (r"iceberg /\S+", "iceberg PATH"),
        (r"landlock \d+|no landlock", "LANDLOCK"),
        (r"cgroup \w+", "CGROUP"),
        (r"slowest: \w+", "slowest: WHO"),
        (r"\b(B|KiB|MiB|GiB)\b", "SIZE"),
        (r"\d[\d,.]*", "0"),
        (r" +", " "),
    ):
        report = re.sub(what, mark, report, flags=re.MULTILINE)
    # The source decides in which order its streams stand.
    return sorted(line.rstrip() for line in report.splitlines() if line.strip())


def test_the_report_is_what_the_readme_shows_and_its_line_works_when_pasted(
    shop: Workspace,
) -> None:
    shutil.rmtree(shop.lake, ignore_errors=True)  # there is none when this test runs alone
    told = shop.dativo("run", "job.yaml", "--quiet", *shop.flags)
    assert told.status == 0, told.stderr
    [shown] = re.findall(
        r"^```\n(shop: done.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S
    )
    report, _, line = told.stdout.partition("\nRead it back with DuckDB:\n\n")
    degraded = "  degraded: cgroup: limits are kept by rlimits and a watchdog\n"
    # No lake where the last run left one is a notice; a plain user's weaker wall is told.
    report = re.sub(r"\n  notice: .*\n", "", report).replace("\n" + degraded, "")
    assert shape(report) == shape(shown)
    read = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=120, check=True
    )
    assert "shop.users" in read.stdout and "1000" in read.stdout


def test_state_is_what_the_source_sent(shop: Workspace) -> None:
    shown = json.loads(shop.dativo("state", "show", "job.yaml", *shop.flags).stdout)
    assert shown["epoch"] >= 1
    assert {entry["stream"]["name"] for entry in shown["states"]} == {
        "users",
        "products",
        "purchases",
    }
    assert all(json.loads(entry["state"])["type"] == "STREAM" for entry in shown["states"])
