"""What a broker tells is checked, counted and explained; one that lies ends the run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dativo.kernel.limits import NETWORK_REPORTED
from dativo.kernel.network import NetworkGrant, collect
from dativo.kernel.network_record import NetworkRecord, ProcessRecord
from dativo.kernel.network_text import parse
from dativo.protocol import events
from dativo.protocol.errors import InternalError

OK = events.Connection("source", "api.test", "192.0.2.1", 443, "ok", 100, 2000, 0.5, None)
TOTALS = events.ClientTotals("source", 3, 1, 300, 4000, 9, 0)


def grants(*texts: str) -> tuple[NetworkGrant, ...]:
    return collect(map(parse, texts))


def connection(
    name: str | None = "api.test", port: int = 443, verdict: str = "ok", **more: Any
) -> events.Connection:
    refused = {} if verdict in ("ok", "limit_upload") else {"up_bytes": 0, "down_bytes": 0}
    return replace(OK, name=name, port=port, verdict=verdict, **{**refused, **more})


@pytest.fixture
def record() -> ProcessRecord:
    return ProcessRecord(grants("api.test", "*.cdn.test", "10.0.0.0/8:5432", "db.test:5432"))


def test_what_was_reached_is_counted_by_place_and_grant(record: ProcessRecord) -> None:
    for told in (
        connection(),
        connection(address="192.0.2.2"),
        connection("a.cdn.test"),
        connection(None, 5432, address="10.1.2.3"),
    ):
        record.connected(told, 3600)
    first, *others = record.reached()
    assert (first.grant, first.place, first.connections) == ("api.test:443", "api.test:443", 2)
    assert (first.address, first.up_bytes, first.down_bytes) == ("192.0.2.2", 200, 4000)
    assert {(each.grant, each.place) for each in others} == {
        ("*.cdn.test:443", "a.cdn.test:443"),
        ("10.0.0.0/8:5432", "10.1.2.3:5432"),
    }
    assert record.refusals() == []
    assert record.explanation("--net") is None


@pytest.mark.parametrize(
    ("told", "place", "allow"),
    [
        (connection("api.test", 8443, "not_granted"), "api.test:8443", "api.test:8443"),
        (connection(None, 5433, "not_granted", address="10.1.2.3"), "10.1.2.3:5433", "10.1.2.3:5433"),
        (connection(None, 443, "not_granted", address="fd00::1"), "[fd00::1]:443", "[fd00::1]:443"),
        (connection(None, 80, "not_granted", address="169.254.169.254"), "169.254.169.254:80", None),
        (connection("db.test", 5432, "address_private"), "db.test:5432", "db.test:5432 private"),
        (connection("db.test", 5432, "address_cloud"), "db.test:5432", "policy: network.permit_special"),
        (connection("db.test", 5432, "host_blocked"), "db.test:5432", "policy: network.blocked"),
        (connection("api.test", 443, "sni_mismatch"), "api.test:443", "api.test:443 no-sni"),
        (connection("api.test", 443, "connect_failed"), "api.test:443", None),
    ],
)  # fmt: skip
def test_what_was_refused_says_what_would_allow_it(
    record: ProcessRecord, told: events.Connection, place: str, allow: str | None
) -> None:
    record.connected(told, 3600)
    (found,) = record.refusals()
    assert (found.place, found.reason, found.allow) == (place, told.verdict, allow)
    explained = record.explanation("source.grants.network") or ""
    assert explained.startswith(f"{place} was refused ({told.verdict}")
    if allow is not None and not allow.startswith("policy"):
        assert explained.endswith(f"to allow it: {allow} in source.grants.network")


def test_an_upload_that_was_cut_is_both_reached_and_refused() -> None:
    record = ProcessRecord(grants("api.test upload=1KiB"))
    record.connected(connection(verdict="limit_upload", up_bytes=1024), 3600)
    assert [each.up_bytes for each in record.reached()] == [1024]
    (refused,) = record.refusals()
    assert (refused.reason, refused.allow) == ("limit_upload", "api.test:443")


def test_names_are_told_once_for_all_types(record: ProcessRecord) -> None:
    for kind in ("A", "AAAA", "HTTPS"):
        record.looked_up(events.Lookup("source", "Evil.test", kind, "not_granted", 1))
    record.looked_up(events.Lookup("source", "Evil.test", "A", "not_granted", 4))
    record.looked_up(events.Lookup("source", "\\000.x", "A", "not_granted", 1))
    first, second = record.refusals()
    assert (first.place, first.count, first.allow) == ("Evil.test", 4, "evil.test")
    assert (second.place, second.allow) == ("\\000.x", None)


def test_memory_is_bounded(record: ProcessRecord) -> None:
    for number in range(NETWORK_REPORTED + 50):
        record.connected(connection(f"x{number}.cdn.test"), 3600)
        record.looked_up(events.Lookup("source", f"y{number}.test", "A", "not_granted", 1))
    assert (len(record.places), len(record.lookups)) == (NETWORK_REPORTED, NETWORK_REPORTED)
    assert record.left_out == 100
    assert record.connections == NETWORK_REPORTED + 50


# --- lies ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [
        connection("evil.test"),
        connection("api.test", 8443),
        connection("cdn.test"),
        connection(None, 5432, address="11.0.0.1"),
        connection(None, 5432, address=None),
        connection("evil.test", verdict="not_granted", up_bytes=1),
        connection("evil.test", verdict="limit_upload"),
    ],
)
def test_whatever_got_through_must_have_been_granted(
    record: ProcessRecord, told: events.Connection
) -> None:
    with pytest.raises(InternalError, match="let through what is not granted"):
        record.connected(told, 3600)


@pytest.mark.parametrize("counts", [(2, 1), (0,), (5, 5, 4)])
def test_counts_of_lookups_do_not_fall(record: ProcessRecord, counts: tuple[int, ...]) -> None:
    *before, last = (events.Lookup("source", "x.test", "A", "not_granted", n) for n in counts)
    for told in before:
        record.looked_up(told)
    with pytest.raises(InternalError, match=r"lookups of x\.test after"):
        record.looked_up(last)


@pytest.mark.parametrize("field", ["connections", "refused", "up_bytes", "down_bytes"])
def test_totals_are_not_less_than_what_was_told(record: ProcessRecord, field: str) -> None:
    record.connected(connection(), 3600)
    record.connected(connection(verdict="not_granted", port=9), 3600)
    told = events.ClientTotals("source", 2, 1, 100, 2000, 1, 0)
    with pytest.raises(InternalError, match=f"fewer {field}"):
        record.ended(replace(told, **{field: getattr(told, field) - 1}))
    record.ended(told)
    with pytest.raises(InternalError, match="twice"):
        record.ended(told)


def test_only_processes_that_it_serves() -> None:
    found = NetworkRecord({"source": grants("api.test"), "target": grants("loopback"), "other": ()})
    assert list(found.processes) == ["source"]
    for name in ("target", "other", "nobody"):
        with pytest.raises(InternalError, match="does not serve"):
            found.of(name)
    for clients in ((), (TOTALS, replace(TOTALS, client="target")), (TOTALS, TOTALS)):
        with pytest.raises(InternalError, match="other processes"):
            found.ended(events.Finished(clients))
    found.ended(events.Finished((TOTALS,)))


def test_no_more_is_told_than_fits_into_the_audit(record: ProcessRecord) -> None:
    for _ in range(1500):
        record.connected(connection(), 5)
    with pytest.raises(InternalError, match="more than 100 connections a second"):
        record.connected(connection(), 5)
    for number in range(20_000):
        record.looked_up(events.Lookup("source", "x.test", "A", "not_granted", number + 1))
    with pytest.raises(InternalError, match="more than 10000 refused names"):
        record.looked_up(events.Lookup("source", "y.test", "A", "not_granted", 1))


def test_what_the_system_says_steers_no_terminal(record: ProcessRecord) -> None:
    told = connection(verdict="connect_failed", detail="\x1b[2J" + "x" * 900)
    record.connected(told, 1)
    (refused,) = record.refusals()
    assert refused.detail is not None
    assert "\x1b" not in refused.detail
    assert len(refused.detail) < 250


# --- the report ------------------------------------------------------------------------------------------------------------


def test_the_report_has_the_brokers_totals() -> None:
    found = NetworkRecord({"source": grants("api.test")}, proxied=True)
    found.of("source").connected(connection(), 3600)
    (before,) = found.reports()
    assert (before.connections, before.lookups, before.proxied) == (1, 0, True)
    found.ended(events.Finished((replace(TOTALS, suppressed=2),)))
    (after,) = found.reports()
    assert (after.connections, after.refused, after.lookups, after.suppressed) == (3, 1, 9, 2)
    assert (after.granted, after.proposed) == (("api.test:443",), None)


def test_an_observed_process_proposes_what_it_would_have_needed() -> None:
    found = NetworkRecord({"source": ()}, observed=True)
    record = found.of("source")
    for told in (
        connection("b.test", 443, "not_granted"),
        connection("a.test", 8443, "not_granted"),
        connection("a.test", 8443, "not_granted"),
        connection(None, 80, "not_granted", address="169.254.169.254"),
    ):
        record.connected(told, 3600)
    record.looked_up(events.Lookup("source", "a.test", "A", "not_granted", 2))
    record.looked_up(events.Lookup("source", "c.test", "A", "not_granted", 7))
    (report,) = found.reports()
    assert report.proposed == ("a.test:8443", "b.test:443")
    # A name that was only asked for has no port yet; one that was connected to is told with its port.
    assert [each.place for each in report.refusals if ":" not in each.place] == ["c.test"]


def test_places_in_a_few_words() -> None:
    found = NetworkRecord(
        {"source": grants("a.test", "b.test:1-2 private", "c.test", "d.test"), "target": ()}
    )
    assert found.places("source") == "a.test:443,b.test:1-2,c.test:443 and 1 more"
    assert found.places("target") == found.places("writer") == ""


def test_a_name_that_was_asked_for_is_allowed_at_a_port(record: ProcessRecord) -> None:
    record.looked_up(events.Lookup("source", "db.test", "A", "not_granted", 1))
    explained = record.explanation("source.grants.network") or ""
    assert explained.endswith(
        "to allow it: db.test in source.grants.network (that is port 443; another is db.test:PORT)"
    )
