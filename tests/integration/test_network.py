"""The network of a run, with the real broker: names, ports, private addresses, caps, what is told, and what may be asked for."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from tests.contract.broker_dns import SRV, Record
from tests.contract.broker_servers import Server
from tests.integration.conftest import ROOT, Result, Workspace
from tests.integration.outside import Outside, audit, outside

WEB = ROOT / "tests/plugins/web"
CODE = """\
import sys, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=20).read().decode())
    except OSError as error:
        print(type(error).__name__, getattr(error, "reason", error))
"""


@pytest.fixture
def world() -> Iterator[Outside]:
    with outside() as found:
        yield found


@pytest.fixture
def web(workspace: Workspace, world: Outside) -> Workspace:
    workspace.plugin(WEB, "web")
    world.permit(workspace)
    return workspace


def job(
    web: Workspace, urls: list[str], grants: list[str], *, more: str = "", **config: Any
) -> None:
    web.job(
        "pipeline: pages\n"
        f"source: {{connector: ./plugins/web, config: {json.dumps({'urls': urls, **config})}, "
        f"grants: {{network: {json.dumps(grants)}}}}}\n"
        f"target: {{connector: iceberg, config: {{warehouse: ./lake, namespace: pages}}}}\n{more}"
    )


def approved(web: Workspace, *more: str) -> Result:
    """Approve what the job asks for and run it."""
    assert web.dativo("grants", "approve", "job.yaml").status == 0
    return web.run("job.yaml", *more)


def said(web: Workspace) -> dict[str, str]:
    found = web.count("pages.pages", "map_from_entries(list((url, said)))")
    assert isinstance(found, dict)
    return found


# --- a run -----------------------------------------------------------------------------------------------------------------


def test_a_network_needs_an_approval(web: Workspace, world: Outside) -> None:
    job(web, [world.url("api.test")], [f"API.test:{world.port}"])
    refused = web.dativo("run", "job.yaml", *web.flags)
    assert refused.status == 8
    assert f"network api.test:{world.port}" in refused.stderr
    assert "dativo grants approve" in refused.stderr
    assert world.resolver.queries == []


def test_a_granted_name_is_reached_and_no_other(web: Workspace, world: Outside) -> None:
    urls = [world.url(name) for name in ("api.test", "eu.api.test", "other.test", "evil.test")]
    job(web, urls, [f"api.test:{world.port}", f"*.api.test:{world.port}"])
    ran = approved(web)
    assert ran.status == 0, ran.stderr
    found = said(web)
    assert found[urls[0]] == f"hello from api.test:{world.port}"
    assert found[urls[1]] == f"hello from eu.api.test:{world.port}"
    assert "Name or service not known" in found[urls[2]]
    # What was refused was asked of nobody.
    assert {name for name, *_ in world.resolver.queries} == {"api.test", "eu.api.test"}

    (network,) = ran.report["network"]
    assert (network["process"], network["connections"], network["refused"]) == ("source", 2, 0)
    assert {(each["grant"], each["place"]) for each in network["reached"]} == {
        (f"api.test:{world.port}", f"api.test:{world.port}"),
        (f"*.api.test:{world.port}", f"eu.api.test:{world.port}"),
    }
    assert all(each["address"] == "127.0.0.1" and each["down_bytes"] for each in network["reached"])
    assert {(each["place"], each["reason"], each["allow"]) for each in network["refusals"]} == {
        ("other.test", "not_granted", "other.test"),
        ("evil.test", "not_granted", "evil.test"),
    }
    walls = {each["name"]: each["walls"] for each in ran.report["processes"]}
    granted = f"network *.api.test:{world.port},api.test:{world.port}"
    assert granted in walls["source"]
    assert "no network" in walls["writer"]
    assert "no network" in walls["committer"]
    assert "host network" in walls["broker"]

    run = ran.report["run"]
    told = [line for line in audit(web, "connection") if line["run"] == run]
    assert {(line["name"], line["verdict"]) for line in told} == {
        ("api.test", "ok"),
        ("eu.api.test", "ok"),
    }
    names = {line["name"] for line in audit(web, "lookup_refused") if line["run"] == run}
    assert names == {"other.test", "evil.test"}
    ended = {line["client"]: line for line in audit(web, "network_ended")}
    assert set(ended) == {"source", "source-discover"}
    assert (ended["source"]["run"], ended["source"]["connections"]) == (run, 2)


def test_people_see_the_network(web: Workspace, world: Outside) -> None:
    job(web, [world.url("api.test"), world.url("evil.test")], [f"api.test:{world.port}"])
    assert web.dativo("grants", "approve", "job.yaml").status == 0
    ran = web.dativo("run", "job.yaml", *web.flags)
    assert ran.status == 0, ran.stderr
    place = re.escape(f"api.test:{world.port}")
    assert "network of source: 1 connection, 0 refused; 1 name refused; " in ran.stdout
    assert re.search(rf"^  {place} +{place} +1 ", ran.stdout, re.M)
    assert re.search(r"^  evil\.test +not_granted +\d+  evil\.test$", ran.stdout, re.M)
    assert f"7 namespaces network api.test:{world.port} seccomp" in ran.stdout


def test_without_a_network_there_is_no_broker(web: Workspace, world: Outside) -> None:
    job(web, [world.url("api.test")], [])
    ran = web.run()
    assert ran.status == 0, ran.stderr
    assert ran.report["network"] == []
    assert [each["name"] for each in ran.report["processes"]] == [
        "committer",
        "writer",
        "inspector",
        "source",
    ]
    job(web, [world.url("api.test")], ["loopback"])
    ran = approved(web)
    assert ran.status == 0, ran.stderr
    assert "broker" not in [each["name"] for each in ran.report["processes"]]
    assert "loopback only" in ran.report["processes"][-1]["walls"]


@pytest.mark.parametrize(
    ("name", "grant", "reason", "allow"),
    [
        ("other.test", "api.test:{port}", "not_granted", "other.test"),
        ("api.test", "api.test:1", "", ""),
        ("private.test", "private.test:{port}", "address_private", "private.test:{port} private"),
        ("nowhere.test", "nowhere.test:{port}", "name_not_found", ""),
    ],
)
def test_a_source_that_fails_is_told_what_it_was_refused(
    web: Workspace, world: Outside, name: str, grant: str, reason: str, allow: str
) -> None:
    port = str(world.port)
    job(web, [world.url(name)], [grant.replace("{port}", port)], strict=True)
    assert web.dativo("grants", "approve", "job.yaml").status == 0
    ran = web.dativo("run", "job.yaml", *web.flags)
    assert ran.status == 4
    if not reason:
        # A port that nobody serves: there was nothing to refuse, the namespace has no listener there.
        assert "was refused (" not in ran.stderr
        return
    assert f"was refused ({reason}" in ran.stderr
    if allow:
        wanted = allow.replace("{port}", port)
        assert f"to allow it: {wanted} in source.grants.network of the job" in ran.stderr


def test_an_upload_ends_at_its_cap(web: Workspace, world: Outside) -> None:
    port = world.port
    job(web, [world.url("api.test")], [f"api.test:{port} upload=64KiB"], upload=1_000_000)
    ran = approved(web)
    assert ran.status == 0, ran.stderr
    assert "missing" not in said(web)[world.url("api.test")]
    (network,) = ran.report["network"]
    assert network["up_bytes"] == 65536
    assert [(each["reason"], each["allow"]) for each in network["refusals"]] == [
        ("limit_upload", f"api.test:{port}")
    ]


def test_what_the_policy_blocks_is_not_reached(web: Workspace, world: Outside) -> None:
    world.permit(web, "  blocked: [eu.api.test]\n")
    job(web, [world.url("eu.api.test")], [f"eu.api.test:{world.port}"])
    refused = web.run()
    assert refused.status == 8
    assert "blocked by the policy" in refused.stdout
    job(web, [world.url("eu.api.test")], [f"*.api.test:{world.port}"])
    ran = approved(web)
    assert ran.status == 0, ran.stderr
    (refusal,) = ran.report["network"][0]["refusals"]
    assert (refusal["reason"], refusal["allow"]) == ("host_blocked", "policy: network.blocked")


def test_nothing_special_is_reached_unless_the_policy_permits_it(
    web: Workspace, world: Outside
) -> None:
    file = web.home / "dativo/config/policy.yaml"
    file.write_text(file.read_text().replace("  permit_special: [127.0.0.0/8]\n", ""))
    job(web, [world.url("api.test")], [f"api.test:{world.port} private"])
    ran = approved(web)
    assert ran.status == 0, ran.stderr
    (refusal,) = ran.report["network"][0]["refusals"]
    assert refusal["reason"] == "address_special"
    assert refusal["allow"] == "policy: network.permit_special"


def test_an_observed_run_proposes_grants_and_applies_none(web: Workspace, world: Outside) -> None:
    urls = ["http://evil.test:8080/", "http://evil.test:443/", "http://evil.test:8080/x"]
    job(web, urls, [])
    ran = web.run("job.yaml", "--observe")
    assert ran.status == 0, ran.stderr
    assert all("reset" in text for text in said(web).values())
    (network,) = ran.report["network"]
    assert network["proposed"] == ["evil.test:8080", "evil.test:443"]
    assert (network["connections"], network["refused"]) == (3, 3)
    assert world.resolver.queries == []
    again = web.dativo("run", "job.yaml", "--observe", *web.flags)
    assert (
        "proposed for source, most used first; nothing of it is applied:\n    evil.test:8080\n"
        in again.stdout
    )


def test_the_plan_shows_networks_and_flags_shared_hosts(web: Workspace) -> None:
    job(web, [], ["B.example.com:8443,443", "*.s3.amazonaws.com"])
    shown = web.dativo("grants", "show", "job.yaml").stdout
    assert "network *.s3.amazonaws.com:443\n" in shown
    assert "amazonaws.com is shared hosting" in shown
    assert web.dativo("grants", "approve", "job.yaml").status == 0
    planned = web.dativo("plan", "job.yaml", *web.flags)
    assert planned.status == 0, planned.stderr
    plan = json.loads(planned.stdout)
    texts = ["*.s3.amazonaws.com:443", "b.example.com:443,8443"]
    assert plan["source"]["grants"]["network"] == texts
    assert plan["beyond_default"] == [f"network {text}" for text in texts]
    (notice,) = plan["notices"]
    assert "amazonaws.com is shared hosting" in notice


def test_a_grant_that_is_none_is_refused_where_it_stands(web: Workspace) -> None:
    job(web, [], ["api.test", "https://api.example.com/v1"])
    refused = web.dativo("plan", "job.yaml", *web.flags)
    assert refused.status == 3
    assert "at /source/grants/network/1" in refused.stderr
    assert "Write api.example.com" in refused.stderr


def test_a_proxy_resolves_and_dials_and_the_report_says_so(web: Workspace, world: Outside) -> None:
    asked: list[str] = []

    def connect(stream: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += stream.recv(1)
        asked.append(head.split(b"\r\n")[0].decode())
        with socket.create_connection(("127.0.0.1", world.port)) as there:
            stream.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            there.sendall(stream.recv(65536))
            while some := there.recv(65536):
                stream.sendall(some)

    with Server(connect) as proxy:
        world.permit(web, f"  proxy: 127.0.0.1:{proxy.port}\n")
        job(web, ["http://inner.corp:8080/"], ["inner.corp:8080"])
        ran = approved(web)
    assert ran.status == 0, ran.stderr
    assert said(web) == {"http://inner.corp:8080/": "hello from inner.corp:8080"}
    assert set(asked) == {"CONNECT inner.corp:8080 HTTP/1.1"}
    assert world.resolver.queries == []
    (network,) = ran.report["network"]
    assert network["proxied"] is True
    assert network["reached"][0]["address"] is None


def test_a_foreign_target_has_a_network_of_its_own(web: Workspace, world: Outside) -> None:
    web.plugin(ROOT / "tests/plugins/tap", "tap")
    web.plugin(ROOT / "tests/plugins/webhook", "webhook")
    text = (
        "pipeline: hook\n"
        "source: {connector: ./plugins/tap, config: {rows: 3}, streams: [a]}\n"
        f"target: {{connector: ./plugins/webhook, config: {{url: '{world.url('api.test')}'}}, "
        "grants: {network: ['GRANT']}}\n"
    )
    web.job(text.replace("GRANT", f"api.test:{world.port}"))
    ran = approved(web)
    assert ran.status == 0, ran.stderr
    (network,) = ran.report["network"]
    assert (network["process"], network["connections"]) == ("target", 3)
    walls = {each["name"]: each["walls"] for each in ran.report["processes"]}
    assert f"network api.test:{world.port}" in walls["target"]
    assert "no network" in walls["source"]

    web.job(text.replace("GRANT", "www.test").replace("hook", "other", 1))
    ran = approved(web)
    assert ran.status == 5
    assert "to allow it: api.test in target.grants.network of the job" in ran.stderr


# --- verbs -----------------------------------------------------------------------------------------------------------------


def test_verbs_have_the_network_that_their_line_gives(web: Workspace, world: Outside) -> None:
    config = {"urls": [world.url("api.test")], "strict": True}
    (web.folder / "web.json").write_text(json.dumps(config))
    line = ("./plugins/web", "--config", "web.json", *web.flags)
    net = ("--net", f"api.test:{world.port}")

    assert web.dativo("check", *line, *net).status == 0
    failed = web.dativo("check", *line, "--net", "www.test")
    assert failed.status == 3
    message = json.loads(failed.stdout)["message"]
    assert "api.test was refused (not_granted), to allow it: api.test in --net" in message

    assert web.dativo("discover", *line, *net).status == 0
    failed = web.dativo("discover", *line, "--net", "www.test")
    assert failed.status == 4
    assert "api.test was refused (not_granted)" in failed.stderr

    read = web.dativo("read", *line, *net)
    assert read.status == 0, read.stderr
    assert "hello from api.test" in read.stdout
    assert "dativo read: refused" not in read.stderr
    failed = web.dativo("read", *line, "--net", "www.test", "--refresh-catalog")
    assert failed.status == 4
    assert "to allow it: api.test in --net" in failed.stderr
    assert web.dativo("spec", "./plugins/web", *web.flags, *net).status == 0
    assert {line["plugin"] for line in audit(web, "connection") if "plugin" in line}


def test_a_read_that_succeeds_tells_what_it_was_refused(web: Workspace, world: Outside) -> None:
    urls = [world.url(name) for name in ("api.test", "evil.test", "private.test", "private.test")]
    (web.folder / "web.json").write_text(json.dumps({"urls": urls}))
    port = world.port
    net = ("--net", f"api.test:{port}", "--net", f"private.test:{port}")
    ran = web.dativo("read", "./plugins/web", "--config", "web.json", *web.flags, *net)
    assert ran.status == 0, ran.stderr
    told = [line for line in ran.stderr.splitlines() if line.startswith("dativo read: ")]
    assert len(told) == 2
    private = (
        f"private.test:{port} (address_private); to allow it: --net 'private.test:{port} private'"
    )
    assert f"dativo read: refused 2 times: {private}" in told
    assert re.search(
        r"^dativo read: refused( \d+ times)?: evil\.test \(not_granted\); to allow it: "
        r"--net evil\.test \(that is port 443; another is evil\.test:PORT\)$",
        ran.stderr,
        re.M,
    )
    # Its data is the source's alone.
    assert "refused:" not in ran.stdout
    (ended,) = audit(web, "read_ended")
    (source,) = (each for each in ended["processes"] if each["name"] == "source")
    assert any(wall.startswith(f"network api.test:{port}") for wall in source["walls"])


def test_command_lines_stay_within_what_the_policy_allows(web: Workspace, world: Outside) -> None:
    world.permit(web, f"  allowed: ['api.test:{world.port}']\n")
    line = ("jail", *web.flags, "--net")
    assert web.dativo(*line, f"api.test:{world.port}", "--", "true").status == 0
    refused = web.dativo(*line, "www.test", "--", "true")
    assert refused.status == 125
    assert "not within what the policy allows" in refused.stderr


# --- jail ------------------------------------------------------------------------------------------------------------------


def test_a_jail_reaches_what_its_line_grants(web: Workspace, world: Outside) -> None:
    net = ("--net", f"api.test:{world.port}")
    urls = [world.url("api.test"), world.url("www.test")]
    ran = web.dativo("jail", *web.flags, *net, "--", "/usr/bin/python3", "-c", CODE, *urls)
    assert ran.status == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        f"hello from api.test:{world.port}",
        "URLError [Errno -2] Name or service not known",
    ]
    assert "dativo jail: refused: www.test (not_granted); to allow it: --net www.test" in ran.stderr
    (ended,) = audit(web, "network_ended")
    assert (ended["client"], ended["connections"]) == ("jail", 1)
    (started,) = audit(web, "jail_started")
    assert started["run"] == ended["run"]
    assert started["plan"]["network"] == [f"api.test:{world.port}"]


def test_curl_works_as_it_is(web: Workspace, world: Outside) -> None:
    net = ("--net", f"api.test:{world.port}")
    if web.dativo("jail", *web.flags, "--", "curl", "--version").status != 0:
        pytest.skip("there is no curl in /usr/bin")
    url = world.url("api.test")
    ran = web.dativo("jail", *web.flags, *net, "--", "curl", "-sS", "--max-time", "20", url)
    assert (ran.status, ran.stdout) == (0, f"hello from api.test:{world.port}"), ran.stderr
    ran = web.dativo("jail", *web.flags, "--", "curl", "-sS", "--max-time", "20", url)
    assert ran.status == 6  # could not resolve host


def test_an_observed_jail_proposes_a_line(web: Workspace, world: Outside) -> None:
    urls = ["http://evil.test:8080/", "http://10.9.8.7:5432/"]
    ran = web.dativo("jail", *web.flags, "--observe", "--", "/usr/bin/python3", "-c", CODE, *urls)
    assert ran.status == 0, ran.stderr
    assert "proposed, and not applied: --net 10.9.8.7:5432 --net evil.test:8080" in ran.stderr
    assert world.resolver.queries == []


def test_servers_of_a_service_are_found_by_its_record(web: Workspace, world: Outside) -> None:
    """What is asked for by SRV (RFC 2782) is reached on the ports that the grant names, as far as it lies below the domain."""
    code = """\
import socket, sys, urllib.request
service, url = sys.argv[1:]
labels = b"".join(bytes([len(label)]) + label.encode() for label in service.split("."))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
    resolver.settimeout(20)
    resolver.connect(("127.0.0.1", 53))
    resolver.send(b"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + labels + b"\\0\\0\\x21\\0\\1")
    print("answers", resolver.recv(512)[7])
print(urllib.request.urlopen(url, timeout=20).read().decode())
"""
    service = "_web._tcp.api.test"
    world.resolver.records = [
        *world.resolver.records,
        Record(service, SRV, (0, 0, world.port, "eu.api.test")),
        Record(service, SRV, (0, 0, world.port, "other.test")),
    ]
    net = ("--net", f"srv:{service}:{world.port}")
    line = ("--", "/usr/bin/python3", "-c", code, service, world.url("eu.api.test"))
    ran = web.dativo("jail", *web.flags, *net, *line)
    assert ran.status == 0, ran.stderr
    assert ran.stdout == f"answers 1\nhello from eu.api.test:{world.port}\n"
    assert "refused: other.test (not_granted)" in ran.stderr


def test_loopback_lets_a_command_listen_to_itself(web: Workspace) -> None:
    code = """\
import socket
listener = socket.create_server(("127.0.0.1", 0))
with socket.create_connection(listener.getsockname()) as there:
    here, _ = listener.accept()
    here.sendall(b"self")
    print(there.recv(4).decode())
"""
    line = ("--", "/usr/bin/python3", "-c", code)
    assert web.dativo("jail", *web.flags, "--net", "loopback", *line).stdout == "self\n"
    assert web.dativo("jail", *web.flags, *line).status == 1
