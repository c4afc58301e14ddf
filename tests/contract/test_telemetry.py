"""Section 6: spans with their attributes, parents and events; metrics; and that no secret is in any of it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import SpanKind, StatusCode

from instrumented_wrapper import FailoverError, SessionStateTransferHandlers
from servers import Proxy

from .driver import DriverUnderTest
from .rows import insert

OURS = "instrumented_wrapper."
BOUNDARIES = (0.00001, 0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30)
TRACER = TracerProvider().get_tracer("the app")


@contextmanager
def app_span() -> Iterator[Any]:
    with TRACER.start_as_current_span("work of the app") as span:
        yield span.get_span_context()


def ours(span: ReadableSpan) -> dict[str, Any]:
    return {name.removeprefix(OURS): value for name, value in span.attributes.items() if name.startswith(OURS)}


def standard(span: ReadableSpan) -> dict[str, Any]:
    return {name: value for name, value in span.attributes.items() if not name.startswith(OURS)}


def where(site: Any) -> dict[str, Any]:
    return {"db.system.name": site.system, "db.namespace": site.namespace, **site.address}


def is_ours(span: ReadableSpan, parent: Any, spans: Any = None) -> None:
    """Check a span and whose child it is: the app's, or with `spans` that of a statement of the app's."""
    assert span.kind is SpanKind.INTERNAL
    assert span.instrumentation_scope.name == "instrumented_wrapper"
    statements = [found for found in spans.all() if found.kind is SpanKind.CLIENT] if spans else []
    above = {found.context.span_id: found.parent for found in statements}
    assert above.get(span.parent.span_id, span.parent).span_id == parent.span_id


def is_in_a_statement(span: ReadableSpan, spans: Any, parent: Any) -> None:
    (statement,) = (found for found in spans.all() if found.context.span_id == span.parent.span_id)
    assert statement.kind is SpanKind.CLIENT
    assert statement.parent.span_id == parent.span_id
    assert statement.start_time <= span.start_time <= span.end_time <= statement.end_time


def attempts(span: ReadableSpan) -> list[tuple[Any, ...]]:
    assert {event.name for event in span.events} == {"attempt"}
    assert all(event.attributes["seconds"] >= 0 for event in span.events)
    assert all(span.start_time <= event.timestamp <= span.end_time for event in span.events)
    assert all(0 <= event.attributes["first"] <= event.attributes["last"] for event in span.events)
    told = ("server.address", "server.port", "outcome", "count")
    found = [tuple(event.attributes[name] for name in told) for event in span.events]
    assert len({group[:3] for group in found}) == len(found)  # one event for each server and outcome
    return found


def events(span: ReadableSpan) -> set[tuple[Any, ...]]:
    assert {event.name for event in span.events} <= {"setting"}
    return {tuple(event.attributes[key] for key in ("name", "before", "after", "outcome")) for event in span.events}


def test_pristine_fetch(driver: DriverUnderTest, connect, site, spans, measured) -> None:
    connection = connect()
    with app_span() as parent:
        for setting, value in driver.changed.items():
            driver.set(connection, setting, value)
    fetches = spans.named("session_state.pristine_fetch")
    assert [ours(span) for span in fetches] == [
        {"driver": driver.name, "setting": driver.named(name), "pristine_value": driver.shown_default[name]}
        | {"source": driver.sources[name]}
        for name in driver.changed
    ]
    for span in fetches:
        is_ours(span, parent, spans)
        assert standard(span) == where(site)
    told = {"db.system.name": site.system, OURS + "driver": driver.name}
    counted = {frozenset({**told, OURS + "setting": driver.named(name)}.items()): 1 for name in driver.changed}
    assert measured.new("pristine_fetch.duration") == counted


@pytest.mark.parametrize("trigger", ["close", "pool_return", "requested"])
def test_a_reset_has_one_span_and_one_measurement(
    driver: DriverUnderTest, connect, pool, site, spans, measured, trigger: str
) -> None:
    opened = pool() if trigger == "pool_return" else None
    connection = driver.take(opened) if opened else connect()
    for setting, value in driver.changed.items():
        driver.set(connection, setting, value)
    with app_span() as parent:
        if opened:
            driver.give_back(opened, connection)
        else:
            (driver.close if trigger == "close" else driver.verb("reset_session"))(connection)
    (span,) = spans.named("session_state.reset")
    is_ours(span, parent)
    assert standard(span) == where(site)
    trips = driver.round_trips if not opened or driver.has("pools that reset each setting") else 0  # the pool's own
    told = {"driver": driver.name, "trigger": trigger, "handled_by": "default", "round_trips": trips}
    assert ours(span) == {**told, "settings": tuple(map(driver.named, driver.changed))}
    assert events(span) == {
        (driver.named(name), driver.shown[name], driver.shown_default[name], "reset") for name in driver.changed
    }
    metric = {"db.system.name": site.system, OURS + "driver": driver.name, OURS + "trigger": trigger}
    assert measured.new("reset.duration") == {frozenset(metric.items()): 1}
    assert measured.new("settings") == counted(driver, "reset", "reset")


def counted(driver: DriverUnderTest, operation: str, outcome: str) -> dict[Any, int]:
    told = {OURS + "operation": operation, OURS + "outcome": outcome}
    return {frozenset({**told, OURS + "setting": driver.named(name)}.items()): 1 for name in driver.changed}


def test_failover_and_transfer(driver: DriverUnderTest, connect, site, spans, measured) -> None:
    connection = connect()
    for setting, value in driver.changed.items():
        driver.set(connection, setting, value)
    old = site.cluster.primary
    site.cluster.wait_streaming()
    cursor = driver.cursor(connection)
    site.cluster.failover()
    spans.clear()
    measured.before = measured._counts()
    with app_span() as parent:
        driver.execute_on(cursor, "SELECT 1")
    (failover,) = spans.named("failover")
    is_ours(failover, failover.parent)
    is_in_a_statement(failover, spans, parent)
    assert standard(failover) == where(site)
    told, new = ours(failover), site.cluster.primary
    tried = attempts(failover)
    assert told.pop("attempts") == sum(count for *_, count in tried) >= 1
    assert (new.host, new.port, "connected", 1) in tried
    assert {(host, port) for host, port, *_ in tried} == {(s.host, s.port) for s in (old, new)}
    assert told == {
        **{"driver": driver.name, "trigger": "connection_lost", "outcome": "success", "transaction": "none"},
        **{"may_have_run": False, "previous.address": old.host, "previous.port": old.port},
    }
    assert failover.status.status_code is not StatusCode.ERROR
    transfer_is_told(driver, site, spans, failover)
    metric = {"driver": driver.name, "trigger": "connection_lost", "outcome": "success", "transaction": "none"}
    named = {"db.system.name": site.system, **{OURS + name: value for name, value in metric.items()}}
    assert measured.new("failover.duration") == {frozenset(named.items()): 1}
    named = {"db.system.name": site.system, OURS + "driver": driver.name}
    assert measured.new("transfer.duration") == {frozenset(named.items()): 1}
    assert measured.new("settings") == counted(driver, "transfer", "restored")


def transfer_is_told(driver: DriverUnderTest, site: Any, spans: Any, failover: ReadableSpan) -> None:
    (transfer,) = spans.named("session_state.transfer")
    is_ours(transfer, failover.context)
    assert standard(transfer) == where(site)
    told = {"driver": driver.name, "handled_by": "default", "round_trips": driver.round_trips, "not_restored": ()}
    assert ours(transfer) == {**told, "settings": tuple(map(driver.named, driver.changed))}
    assert events(transfer) == {
        (driver.named(name), driver.shown_default[name], driver.shown[name], "restored") for name in driver.changed
    }
    fetches = spans.named("session_state.pristine_fetch")
    assert [ours(span)["setting"] for span in fetches] == list(
        map(driver.named, driver.changed)
    )  # once per changed setting
    for span in fetches:
        is_ours(span, transfer.context)


def test_a_planned_switch(driver: DriverUnderTest, connect, site, spans) -> None:
    connection = connect()
    driver.set(connection, "read_only", True)
    with app_span() as parent:
        driver.verb("switch")(connection)
    (failover,) = spans.named("failover")
    is_ours(failover, parent)
    assert (ours(failover)["trigger"], ours(failover)["outcome"]) == ("requested", "success")
    assert len(spans.named("session_state.transfer")) == 1
    (reset,) = spans.named("session_state.reset")  # of the old one
    assert (ours(reset)["trigger"], ours(reset)["settings"]) == ("switch", (driver.named("read_only"),))


def test_a_session_that_ended(driver: DriverUnderTest, connect, site, spans) -> None:
    connection = connect(autocommit=True)
    with pytest.raises(FailoverError):
        driver.execute(connection, site.suicide)
    (failover,) = spans.named("failover")
    assert (ours(failover)["trigger"], ours(failover)["may_have_run"]) == ("session_ended", True)


def test_not_restored_is_told(driver: DriverUnderTest, connect, site, spans) -> None:
    connection = connect(autocommit=True)
    statement, left = next(iter(site.leaving.items()))
    driver.execute(connection, statement)
    site.end_sessions()
    with pytest.raises(FailoverError):
        driver.execute(connection, "SELECT 1")
    (transfer,) = spans.named("session_state.transfer")
    assert ours(transfer)["not_restored"] == (left,)
    assert [(event.attributes["name"], event.attributes["outcome"]) for event in transfer.events] == [(left, "skipped")]


def test_a_failed_failover(driver: DriverUnderTest, connect, site, spans, measured, proxy: Proxy) -> None:
    options = {"failover": "on", "failover_timeout": 0.2}
    connection = connect(site.dsn(proxy), instrumented_wrapper=options)
    proxy.refuse()
    with pytest.raises(FailoverError) as caught:
        driver.execute(connection, site.suicide)
    (failover,) = spans.named("failover")
    assert failover.status.status_code is StatusCode.ERROR
    assert failover.status.description is None  # never the server's words
    assert failover.attributes["error.type"]
    assert (ours(failover)["outcome"], ours(failover)["transaction"]) == ("failed", "rolled_back")
    assert not {"server.address", "server.port"} & set(failover.attributes)
    assert ours(failover)["previous.port"] == proxy.port
    assert ours(failover)["attempts"] == sum(count for *_, count in attempts(failover)) >= 1
    assert len(failover.events) <= 3  # though the host was asked again and again
    told = {"driver": driver.name, "trigger": "connection_lost", "outcome": "failed", "transaction": "rolled_back"}
    named = {"db.system.name": site.system, **{OURS + name: value for name, value in told.items()}}
    assert measured.new("failover.duration") == {frozenset(named.items()): 1}
    assert caught.value.server is None


def test_a_failed_reset(driver: DriverUnderTest, connect, site, spans, measured, caplog) -> None:
    def handler(state: Any, connection: Any) -> None:
        raise LookupError("some secret")

    connection = connect()
    driver.set(connection, "read_only", True)
    SessionStateTransferHandlers.set_reset_session_state_on_close_func(handler)
    driver.close(connection)
    (reset,) = spans.named("session_state.reset")
    assert reset.status.status_code is StatusCode.ERROR
    assert reset.status.description is None
    assert reset.attributes["error.type"] == "LookupError"
    assert [event[3] for event in events(reset)] == ["failed"]
    named = {"db.system.name": site.system, OURS + "driver": driver.name, OURS + "trigger": "close"}
    assert measured.new("reset.duration") == {frozenset({**named, "error.type": "LookupError"}.items()): 1}


def test_instruments(driver: DriverUnderTest, connect, site, measured) -> None:
    connection = connect()
    driver.set(connection, "autocommit", True)
    with pytest.raises(FailoverError):
        driver.execute(connection, site.suicide)
    driver.close(connection)
    metrics = measured.metrics()
    for name in ("pristine_fetch", "reset", "transfer", "failover"):
        metric = metrics[f"{OURS}{name}.duration"]
        assert metric.unit == "s"
        assert all(point.explicit_bounds == BOUNDARIES for point in metric.data.data_points)
    assert metrics[f"{OURS}settings"].unit == "{setting}"


def test_no_telemetry_sends_a_statement(driver: DriverUnderTest, connect, site, proxy: Proxy) -> None:
    driver.needs("settings without a round trip")
    connection = connect(site.dsn(proxy))
    proxy.clear()
    with app_span():
        for setting, value in driver.unsent.items():
            driver.set(connection, setting, value)
        driver.verb("reset_session")(connection)
    assert proxy.bytes_from_client == 0


def test_no_span_stays_current(driver: DriverUnderTest, connect, site) -> None:
    connection = connect(autocommit=True)
    with app_span() as parent:
        driver.set(connection, "read_only", True)
        with pytest.raises(FailoverError):
            driver.execute(connection, site.suicide)
        assert trace.get_current_span().get_span_context() == parent


def test_the_code_of_an_error_is_told(driver: DriverUnderTest, connect, spans) -> None:
    connection = connect()
    spans.clear()
    with pytest.raises(driver.programming_error) as caught:
        driver.execute(connection, "SELECT * FROM no_such_table")
    (failed,) = (span for span in spans.all() if span.attributes.get("error.type"))
    code = driver.code_of(caught.value)
    assert (failed.attributes["error.type"], failed.attributes["db.response.status_code"]) == (code, code)


# --- secrets ----------------------------------------------------------------------------------------------------


def test_no_secret_is_told(driver: DriverUnderTest, connect, site, table, spans, measured, proxy, caplog) -> None:
    options = {"failover_timeout": 0.3}
    with caplog.at_level(logging.DEBUG):
        connection = connect(site.dsn(proxy, site.cluster.primary), instrumented_wrapper=options)
        driver.execute(connection, site.secret_setting)
        driver.commit(connection)
        driver.set(connection, "read_only", True)
        texts = [_failure(driver, connection, site.secret_suicide)]
        driver.rollback(connection)
        driver.set(connection, "read_only", False)
        driver.execute(connection, insert(table, 1))
        proxy.cut()
        driver.close(connection)
        lonely = connect(site.dsn(proxy), instrumented_wrapper={**options, "failover": "on"})
        proxy.refuse()
        texts += [_failure(driver, lonely, site.secret_suicide)]
    told = [span.to_json() for span in spans.all()]
    told += [str(metric) for metric in measured.metrics().values()]
    told += [record.getMessage() + str(record.__dict__) for record in caplog.records if "wrapper" in record.name]
    assert len(spans.named("failover")) >= 2
    assert [text for text in told + texts if "secret" in text] == []


def _failure(driver: DriverUnderTest, connection: Any, statement: str) -> str:
    with pytest.raises(FailoverError) as caught:
        driver.execute(connection, statement)
    return f"{caught.value} {caught.value!r} {vars(caught.value)}"
