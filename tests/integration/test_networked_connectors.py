"""Connectors from PyPI whose servers lie in another network namespace: a target for PostgreSQL and a tap of GitHub's API.

The API's answers are a recording (tests/integration/recordings); its name is the real one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.conformance import environments
from tests.integration import far
from tests.integration.conftest import ROOT, Result, Workspace, plain_flags
from tests.integration.far import PASSWORD, Answer, Far, Headers, Postgres
from tests.integration.outside import audit

TARGET = "singer:meltanolabs-target-postgres"
TAP = "singer:meltanolabs-tap-github"
ROWS = 250
FROM_TAP = f"""\
  connector: ./plugins/tap
  config: {{rows: {ROWS}}}
  streams: [a, b, "!a.secret"]
"""
FROM_API = f"""\
  connector: {TAP}
  config: {{organizations: [octokit-fixture-org], auth_token: {{secret: "env://GITHUB_TOKEN"}}}}
  streams: [issues]
  grants: {{network: [api.github.com private]}}
"""
INTO_POSTGRES = f"""\
  connector: {TARGET}
  config:
    host: db.test
    user: shop
    password: {{{{secret: env://SHOP_PASSWORD}}}}
    database: shop
    default_target_schema: {{name}}
    ssl_enable: true
    ssl_mode: verify-full
    ssl_certificate_authority: ${{{{JOB_DIR}}}}/ca.pem
  grants: {{{{read: [./ca.pem], network: [{{grant}}]}}}}
"""
TOKEN = "0000000000000000000000000000000000000001"
REPOSITORIES = "/orgs/octokit-fixture-org/repos"
REPOSITORY = "/repos/octokit-fixture-org/hello-world"
CURSOR = "Y3Vyc29yOjM="
# What is compared of each stream: the tap changes and leaves out the rest.
KEPT = {
    "repositories": "id node_id name full_name private html_url size topics visibility default_branch",
    "issues": "id number title state html_url comments labels body author_association",
    "labels": "id name color default description",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with the connectors; they are fetched from where the machine fetches packages."""
    folder = tmp_path_factory.mktemp("installed")
    made = Workspace(folder / "workspace", folder / "home", flags=plain_flags())
    made.folder.mkdir()
    made.home.mkdir(mode=0o700)
    made.plugin(ROOT / "tests/plugins/tap", "tap")
    for reference in (f"{TARGET}==0.8.1", f"{TAP}==1.30.1"):
        added = made.dativo("plugin", "add", reference, *made.flags, timeout_s=900)
        assert added.status == 0, added.stderr
    return made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Far]:
    servers = environments.kept("servers", pytestconfig)
    with far.far(tmp_path_factory.mktemp("far"), servers) as made:
        yield made


@pytest.fixture(scope="module")
def database(world: Far, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with far.postgres(world, tmp_path_factory.mktemp("database")) as made:
        yield made


@pytest.fixture(scope="module")
def place(world: Far, installed: Workspace) -> Workspace:
    shutil.copy(world.certificates / "ca.pem", installed.folder)
    world.seen_from(installed, trusted=True)
    installed.env |= {"SHOP_PASSWORD": PASSWORD, "GITHUB_TOKEN": TOKEN}
    return installed


# --- PostgreSQL as a target ------------------------------------------------------------------------------------------------


def into_postgres(
    place: Workspace, name: str, source: str = FROM_TAP, grant: str = "db.test:5432 private"
) -> Result:
    """Run the pipeline ``name`` with one network grant; its tables come to lie in the schema of its name."""
    target = INTO_POSTGRES.format(name=name, grant=grant)
    place.job(f"pipeline: {name}\nsource:\n{source}target:\n{target}", f"{name}.yaml")
    approved = place.dativo("grants", "approve", f"{name}.yaml")
    assert approved.status == 0, approved.stderr
    return place.run(f"{name}.yaml")


def test_postgres_has_what_was_sent(place: Workspace, database: Postgres) -> None:
    """In TLS, with the server's name checked by the target: it is the granted one all the way."""
    ran = into_postgres(place, "shop")
    assert ran.status == 0, ran.stderr
    sent = [f"{i}|2024-01-01 00:00:00|{i}.10|s{i}" for i in range(ROWS)]
    assert database.ask("SELECT id, at, price, secret FROM shop.b ORDER BY id") == sent
    less = [row.rpartition("|")[0] for row in sent]
    assert database.ask("SELECT id, at, price FROM shop.a ORDER BY id") == less
    assert "secret" not in database.ask(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = 'shop' AND table_name = 'a'"
    )
    assert ran.report["acknowledged"] == 2 and not ran.report["notices"]
    (network,) = ran.report["network"]
    assert (network["process"], network["refused"], network["refusals"]) == ("target", 0, [])
    assert {(each["place"], each["address"]) for each in network["reached"]} == {
        ("db.test:5432", far.FAR)
    }
    walls = {each["name"]: each["walls"] for each in ran.report["processes"]}
    assert "network db.test:5432" in walls["target"]
    assert "no network" in walls["source"]


def test_without_the_grant_nothing_is_stored_and_the_report_says_why(
    place: Workspace, database: Postgres
) -> None:
    ran = into_postgres(place, "closed", grant="api.test")
    assert ran.status == 5, ran.stderr
    refused = "db.test was refused (not_granted), to allow it: db.test in target.grants.network"
    assert refused in ran.report["error"]["hint"]
    (network,) = ran.report["network"]
    assert network["connections"] == 0
    assert [(each["place"], each["reason"]) for each in network["refusals"]] == [
        ("db.test", "not_granted")
    ]
    assert ran.report["acknowledged"] == 0
    schemas = "SELECT schema_name FROM information_schema.schemata"
    assert "closed" not in database.ask(schemas)


# --- a recorded API --------------------------------------------------------------------------------------------------------


class Recording:
    """Answers as api.github.com did. ``asked`` holds host, path, cursor and token of every request."""

    def __init__(self, file: Path) -> None:
        self._answers: dict[tuple[str, str], Any] = {
            (each["path"], each["after"]): each for each in json.loads(file.read_text())
        }
        self.asked: list[tuple[str, str, str, str]] = []

    def body(self, path: str, after: str = "") -> Any:
        return self._answers[path, after]["body"]

    def __call__(self, path: str, headers: Headers) -> Answer:
        parts = urlsplit(path)
        after = parse_qs(parts.query).get("after", [""])[0]
        self.asked.append((headers["Host"], parts.path, after, headers.get("Authorization", "")))
        if parts.path == "/rate_limit":
            return 200, {}, b"{}"
        found = self._answers.get((parts.path, after))
        if found is None:
            return 404, {}, b'{"message": "Not Found"}'
        return 200, found["headers"], json.dumps(found["body"]).encode()


@pytest.fixture(scope="module")
def github(place: Workspace, world: Far) -> Iterator[Recording]:
    """The recording at the name of the API, and a configuration for it."""
    config = {
        "organizations": ["octokit-fixture-org"],
        "auth_token": {"secret": "env://GITHUB_TOKEN"},
    }
    (place.folder / "github.json").write_text(json.dumps(config))
    recording = Recording(ROOT / "tests/integration/recordings/github.json")
    with far.web(world, 443, recording):
        yield recording


def read(place: Workspace, grant: str) -> Result:
    streams = [part for name in ("repositories", "issues", "labels") for part in ("--select", name)]
    line = ("read", TAP, "--config", "github.json", "--net", grant, *streams)
    return place.dativo(*line, *place.flags, timeout_s=120)


def test_a_tap_reads_its_api(place: Workspace, github: Recording) -> None:
    """Repositories, their issues over two pages and their labels, with a token that goes to the granted name alone."""
    done = read(place, "api.github.com private")
    assert done.status == 0, done.stderr
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    rows: dict[str, list[dict[str, Any]]] = {}
    for message in messages:
        if message["type"] == "RECORD":
            rows.setdefault(message["stream"], []).append(message["record"])
    issues, labels = f"{REPOSITORY}/issues", f"{REPOSITORY}/labels"
    recorded = {
        "repositories": github.body(REPOSITORIES),
        "issues": github.body(issues) + github.body(issues, CURSOR),
        "labels": github.body(labels),
    }
    for stream, sent in recorded.items():
        kept = KEPT[stream].split()
        said = [{key: row[key] for key in kept} for row in rows[stream]]
        assert said == [{key: each[key] for key in kept} for each in sent]
    assert set(rows) == set(recorded)
    assert messages[-1]["type"] == "STATE"
    assert "issues" in messages[-1]["value"]["bookmarks"]

    token = f"token {TOKEN}"
    places = [(issues, ""), (issues, CURSOR), (labels, ""), (REPOSITORIES, ""), ("/rate_limit", "")]
    assert set(github.asked) == {("api.github.com", *each, token) for each in places}
    assert TOKEN not in done.stdout + done.stderr
    # The tap's connections: those of the target before it are of the client `target`.
    lines = [line for line in audit(place, "connection") if line["client"] != "target"]
    assert {(line["name"], line["address"], line["verdict"]) for line in lines} == {
        ("api.github.com", far.FAR, "ok")
    }


def test_without_the_grant_no_api_is_asked(place: Workspace, github: Recording) -> None:
    github.asked.clear()
    done = read(place, "github.com private")
    assert done.status == 4, done.stderr
    hint = "api.github.com was refused (not_granted), to allow it: api.github.com in --net"
    assert hint in done.stderr
    assert '"RECORD"' not in done.stdout
    assert github.asked == []


def test_from_an_api_into_postgres(place: Workspace, github: Recording, database: Postgres) -> None:
    """Source and target have a network each, with nothing of the other's."""
    ran = into_postgres(place, "issues", FROM_API)
    assert ran.status == 0, ran.stderr
    issues = f"{REPOSITORY}/issues"
    recorded = github.body(issues) + github.body(issues, CURSOR)
    stored = database.ask("SELECT id, number, title FROM issues.issues ORDER BY id")
    assert stored == [f"{each['id']}|{each['number']}|{each['title']}" for each in recorded]
    networks = {each["process"]: each for each in ran.report["network"]}
    assert {
        process: {each["place"] for each in network["reached"]}
        for process, network in networks.items()
    } == {"source": {"api.github.com:443"}, "target": {"db.test:5432"}}
    assert TOKEN not in ran.stdout + ran.stderr
