"""Recorded events in, whole spans out: section 6 of the contract, attribute by attribute."""

from __future__ import annotations

import time
from enum import Enum

import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from recorder import Recorder

from instrumented_wrapper.events import (
    Failover,
    FailoverEnd,
    Fetched,
    Leak,
    PristineFetch,
    Reset,
    ServerAddress,
    SettingChange,
    SettingsEnd,
    Signals,
    Transfer,
    observe,
)
from instrumented_wrapper.failover import Attempts


class Level(Enum):
    SERIALIZABLE = 4


OLD, NEW = ServerAddress("postgresql", "app", "10.0.0.1", 5432), ServerAddress("postgresql", "app", "10.0.0.2", 5433)
WHERE = {"driver": "psycopg", "peer": OLD, "signals": Signals()}
ON_EACH = {
    "db.system.name": "postgresql",
    "db.namespace": "app",
    "server.address": "10.0.0.1",
    "server.port": 5432,
    "instrumented_wrapper.driver": "psycopg",
}
O = "instrumented_wrapper."  # noqa: E741 - it stands before every name
RESET = Reset(**WHERE, trigger="pool_return", settings=("autocommit", "work_mem"))
FETCH = PristineFetch(**WHERE, setting="autocommit", source="driver")
TRANSFER = Transfer(**WHERE, settings=("autocommit",))
LEAK = Leak(**WHERE, settings=("search_path",), pool="orders")
FAILOVER = Failover(**WHERE, trigger="connection_lost", transaction="rolled_back", may_have_run=False)
ALL = [RESET, FETCH, TRANSFER, FAILOVER, LEAK]


def happen(event, outcome=None):
    with observe(event) as observed:
        observed.outcome = outcome


def test_a_pristine_fetch(recorder):
    happen(FETCH, Fetched(False))
    span = recorder.span
    assert span.name == "session_state.pristine_fetch"
    assert dict(span.attributes) == {
        **ON_EACH,
        O + "setting": "autocommit",
        O + "source": "driver",
        O + "pristine_value": "false",
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.events == ()


def test_a_reset(recorder):
    changes = (SettingChange("autocommit", True, False, "reset"), SettingChange("work_mem", "1", "2", "skipped"))
    happen(RESET, SettingsEnd(changes, "default", round_trips=1))
    span = recorder.span
    assert span.name == "session_state.reset"
    assert dict(span.attributes) == {
        **ON_EACH,
        O + "trigger": "pool_return",
        O + "settings": ("autocommit", "work_mem"),
        O + "handled_by": "default",
        O + "round_trips": 1,
    }
    assert [(event.name, dict(event.attributes)) for event in span.events] == [
        ("setting", {"name": "autocommit", "before": "true", "after": "false", "outcome": "reset"}),
        ("setting", {"name": "work_mem", "before": "<hidden>", "after": "<hidden>", "outcome": "skipped"}),
    ]
    assert span.status.status_code is StatusCode.UNSET


def test_a_leak(recorder):
    happen(LEAK)
    span = recorder.span
    assert span.name == "session_state.leak"
    pool = {"db.client.connection.pool.name": "orders"}
    assert dict(span.attributes) == {**ON_EACH, O + "settings": ("search_path",), **pool}
    assert span.status.status_code is StatusCode.UNSET


def test_a_transfer(recorder):
    change = SettingChange("isolation_level", None, Level.SERIALIZABLE, "restored")
    happen(TRANSFER, SettingsEnd((change,), "custom", round_trips=0, not_restored=("role", "LISTEN")))
    span = recorder.span
    assert span.name == "session_state.transfer"
    assert dict(span.attributes) == {
        **ON_EACH,
        O + "settings": ("autocommit",),
        O + "not_restored": ("role", "LISTEN"),
        O + "handled_by": "custom",
        O + "round_trips": 0,
    }
    assert dict(span.events[0].attributes) == {
        "name": "isolation_level",
        "before": "default",
        "after": "SERIALIZABLE",
        "outcome": "restored",
    }


def test_a_transfer_of_nothing_that_was_left_out_says_so(recorder):
    happen(TRANSFER, SettingsEnd((), "default", 0))
    assert recorder.span.attributes[O + "not_restored"] == ()


def test_a_failover(recorder):
    happen(FAILOVER, FailoverEnd("success", "session_ended", NEW, attempts=3))
    span = recorder.span
    assert span.name == "failover"
    assert dict(span.attributes) == {
        **ON_EACH,
        "server.address": "10.0.0.2",
        "server.port": 5433,
        O + "trigger": "session_ended",
        O + "outcome": "success",
        O + "transaction": "rolled_back",
        O + "may_have_run": False,
        O + "attempts": 3,
        O + "previous.address": "10.0.0.1",
        O + "previous.port": 5432,
    }
    assert span.status.status_code is StatusCode.UNSET


def test_attempts_at_one_server_with_one_outcome_are_one_event(recorder):
    """`first` and `last` are seconds since the failover began."""
    began = time.monotonic()
    refused = Attempts(("10.0.0.1", 5432), "refused", began + 1, began + 9, 34, 0.5)
    connected = Attempts(("10.0.0.2", 5433), "connected", began - 1, began - 1, 1, 0.25)
    happen(FAILOVER, FailoverEnd("success", "connection_lost", NEW, attempts=35, tried=(refused, connected)))
    first, second = recorder.span.events
    assert {first.name, second.name} == {"attempt"}
    told = dict(first.attributes)
    assert told.pop("last") - told.pop("first") == pytest.approx(8)
    assert told == {
        "server.address": "10.0.0.1",
        "server.port": 5432,
        "outcome": "refused",
        "count": 34,
        "seconds": 0.5,
    }
    assert second.attributes["first"] == second.attributes["last"] == 0  # never before the failover itself
    assert recorder.span.start_time <= second.timestamp <= recorder.span.end_time


def test_a_failover_that_failed_names_no_new_server(recorder):
    happen(FAILOVER, FailoverEnd("failed", "connection_lost", None, attempts=2, error="57P01"))
    span = recorder.span
    assert not {"server.address", "server.port"} & set(span.attributes)
    assert span.attributes[O + "outcome"] == "failed"
    assert span.attributes["error.type"] == "57P01"
    assert span.status.status_code is StatusCode.ERROR
    assert not span.status.description


def test_a_failover_that_failed_for_no_known_reason_is_still_an_error(recorder):
    happen(FAILOVER, FailoverEnd("failed", "requested", None, attempts=0))
    assert recorder.span.status.status_code is StatusCode.ERROR
    assert recorder.span.attributes["error.type"]


def test_a_reset_that_failed(recorder):
    happen(RESET, SettingsEnd((SettingChange("autocommit", 1, 0, "failed"),), "default", 0, error="ValueError"))
    span = recorder.span
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "ValueError"
    assert span.events[0].attributes["outcome"] == "failed"


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (psycopg.errors.AdminShutdown("secret"), "57P01"),
        (ValueError("secret"), "ValueError"),
        (KeyboardInterrupt("secret"), "KeyboardInterrupt"),
    ],
)
def test_an_exception_that_passes_is_told_without_its_text(recorder, event, error, code):
    with pytest.raises(type(error)), observe(event):
        raise error
    span = recorder.span
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == code
    assert "secret" not in span.to_json()
    assert all(event.name != "exception" for event in span.events)


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_kind_and_scope(recorder, event):
    happen(event)
    assert recorder.span.kind is SpanKind.INTERNAL
    assert recorder.span.instrumentation_scope.name == "instrumented_wrapper"
    assert recorder.span.instrumentation_scope.version == "1.2.3"


def test_the_app_s_span_is_the_parent_and_is_current_again_afterwards(recorder):
    tracer = recorder.tracers.get_tracer("app")
    with tracer.start_as_current_span("request") as request:
        with observe(FAILOVER):
            with observe(TRANSFER):
                happen(FETCH)
            assert trace.get_current_span() is not request
        assert trace.get_current_span() is request
    parents = {span.name: span.parent and span.parent.span_id for span in recorder.spans}
    ids = {span.name: span.context.span_id for span in recorder.spans}
    assert parents == {
        "request": None,
        "failover": ids["request"],
        "session_state.transfer": ids["failover"],
        "session_state.pristine_fetch": ids["session_state.transfer"],
    }


def test_without_a_span_of_the_app_it_is_a_root(recorder):
    happen(RESET)
    assert recorder.span.parent is None
    assert not trace.get_current_span().is_recording()


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_context_is_as_before_also_after_an_exception(recorder, error):
    before = trace.get_current_span()
    try:
        with observe(RESET):
            if error:
                raise error
    except BaseException:
        pass
    assert trace.get_current_span() is before


# --- values -----------------------------------------------------------------------------------------------------

SHOWN = [
    ("autocommit", True, "true"),
    ("autocommit", False, "false"),
    ("read_only", None, "default"),
    ("isolation_level", Level.SERIALIZABLE, "SERIALIZABLE"),
    ("isolation_level", psycopg.IsolationLevel.REPEATABLE_READ, "REPEATABLE_READ"),
    ("deferrable", True, "true"),
]


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize(("setting", "value", "text"), SHOWN)
def test_values_of_the_four_are_always_shown(recorder, values, setting, value, text):
    where = {**WHERE, "signals": Signals(values=values)}
    happen(PristineFetch(**where, setting=setting, source="driver"), Fetched(value))
    happen(
        Reset(**where, trigger="close", settings=()),
        SettingsEnd((SettingChange(setting, value, value, "reset"),), "", 0),
    )
    fetch, reset = recorder.spans
    assert fetch.attributes[O + "pristine_value"] == text
    assert (reset.events[0].attributes["before"], reset.events[0].attributes["after"]) == (text, text)


@pytest.mark.parametrize("setting", ["search_path", "work_mem", "app.tenant", "role"])
@pytest.mark.parametrize("value", ["hunter2", 7, True, None])
def test_values_of_others_are_hidden(recorder, setting, value):
    happen(PristineFetch(**WHERE, setting=setting, source="server"), Fetched(value))
    happen(TRANSFER, SettingsEnd((SettingChange(setting, value, value, "restored"),), "default", 1))
    fetch, transfer = recorder.spans
    assert fetch.attributes[O + "pristine_value"] == "<hidden>"
    assert (transfer.events[0].attributes["before"], transfer.events[0].attributes["after"]) == ("<hidden>",) * 2
    assert "hunter2" not in fetch.to_json() + transfer.to_json()


def test_values_of_others_are_shown_where_the_app_says_so(recorder):
    where = {**WHERE, "signals": Signals(values=True)}
    happen(PristineFetch(**where, setting="search_path", source="server"), Fetched("a, b"))
    assert recorder.span.attributes[O + "pristine_value"] == "a, b"


# --- when nothing is told ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_nothing_is_recorded_under_suppression(recorder, event):
    with suppress_instrumentation():
        happen(event)
    assert recorder.spans == []
    assert recorder.metrics() == {}


@pytest.mark.parametrize(("traces", "metrics"), [(True, True), (True, False), (False, True), (False, False)])
def test_switched_off_for_one_connection(recorder, traces, metrics):
    happen(Reset(**{**WHERE, "signals": Signals(traces, metrics)}, trigger="close", settings=()))
    assert len(recorder.spans) == traces
    assert bool(recorder.metrics()) == metrics


def test_a_sampler_that_says_no_costs_no_attributes(monkeypatch):
    recorder = Recorder(sampler=ALWAYS_OFF).listen(monkeypatch)
    happen(RESET, SettingsEnd((), "default", 0))
    assert recorder.spans == []
    assert recorder.points("instrumented_wrapper.reset.duration")


class FailingProcessor:
    """A span processor of the app's that does not do."""

    def on_start(self, span, parent_context=None):
        raise RuntimeError("on start")

    def on_end(self, span):
        raise RuntimeError("on end")

    def _on_ending(self, span):
        raise RuntimeError("on ending")

    def shutdown(self):
        return None

    def force_flush(self, timeout_millis=0):
        return True


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_what_fails_in_telemetry_harms_nothing(monkeypatch, event):
    recorder = Recorder()
    recorder.tracers.add_span_processor(FailingProcessor())  # type: ignore[arg-type]
    recorder.listen(monkeypatch)
    before = trace.get_current_span()
    with observe(event) as observed:
        observed.outcome = Fetched(1)
    assert trace.get_current_span() is before
    assert recorder.metrics(), "metrics do not suffer for it"


class Unprintable:
    def __str__(self):
        raise RuntimeError("no")


def test_a_value_that_cannot_be_shown_leaves_the_span_and_the_context_whole(recorder):
    before = trace.get_current_span()
    happen(FETCH, Fetched(Unprintable()))
    assert recorder.span.name == "session_state.pristine_fetch"
    assert trace.get_current_span() is before


def test_what_is_not_known_is_left_out(recorder):
    unknown = ServerAddress("postgresql", "", "", None)
    happen(Reset(**{**WHERE, "peer": unknown}, trigger="close", settings=()), SettingsEnd((), "default", 0))
    assert not {"db.namespace", "server.address", "server.port"} & set(recorder.span.attributes)
