"""Recorded events in, whole metrics out: names, units, boundaries and attributes of section 6 of the contract."""

from __future__ import annotations

import subprocess
import sys
from weakref import WeakSet

import pytest
from opentelemetry.metrics import CallbackOptions, Meter
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.metrics import MeterProvider

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
from instrumented_wrapper.operations import Survival
from instrumented_wrapper.telemetry import sessions
from instrumented_wrapper.telemetry.sdk_present import is_new

O = "instrumented_wrapper."  # noqa: E741 - it stands before every name
PEER = ServerAddress("postgresql", "app", "10.0.0.1", 5432)
WHERE = {"driver": "psycopg", "peer": PEER, "signals": Signals()}
BOUNDARIES = (0.00001, 0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30)
TOLD = {"db.system.name": "postgresql", O + "driver": "psycopg"}

FETCH = PristineFetch(**WHERE, setting="autocommit", source="driver")
RESET = Reset(**WHERE, trigger="pool_return", settings=())
TRANSFER = Transfer(**WHERE, settings=())
LEAK = Leak(**WHERE, settings=("search_path", "app.tenant", "app.user"), pool="orders")
FAILOVER = Failover(**WHERE, trigger="connection_lost", transaction="unknown", may_have_run=True)

# event, its end, metric, attributes
ROWS = [
    (FETCH, Fetched(1), "pristine_fetch.duration", {O + "setting": "autocommit"}),
    (
        PristineFetch(**WHERE, setting="app.tenant", source="server"),
        Fetched(1),
        "pristine_fetch.duration",
        {O + "setting": "custom"},
    ),
    (RESET, SettingsEnd((), "default", 0), "reset.duration", {O + "trigger": "pool_return"}),
    (
        RESET,
        SettingsEnd((), "default", 0, error="57P01"),
        "reset.duration",
        {O + "trigger": "pool_return", "error.type": "57P01"},
    ),
    (TRANSFER, SettingsEnd((), "custom", 0), "transfer.duration", {}),
    (
        FAILOVER,
        FailoverEnd("success", "session_ended", PEER, 1),
        "failover.duration",
        {O + "trigger": "session_ended", O + "outcome": "success", O + "transaction": "unknown"},
    ),
    (
        FAILOVER,
        FailoverEnd("failed", "connection_lost", None, 1, "57P01"),
        "failover.duration",
        {O + "trigger": "connection_lost", O + "outcome": "failed", O + "transaction": "unknown"},
    ),
]


def happen(event, outcome=None):
    with observe(event) as observed:
        observed.outcome = outcome


@pytest.mark.parametrize(("event", "outcome", "name", "attributes"), ROWS)
def test_durations(recorder, event, outcome, name, attributes):
    happen(event, outcome)
    (point,) = recorder.points(O + name)
    assert dict(point.attributes) == TOLD | attributes
    assert point.count == 1
    assert 0 < point.sum < 60
    assert recorder.metrics()[O + name].unit == "s"
    assert point.explicit_bounds == BOUNDARIES


@pytest.mark.parametrize("event", [FETCH, RESET, TRANSFER], ids=lambda event: type(event).__name__)
def test_a_duration_of_what_raised(recorder, event):
    with pytest.raises(ValueError), observe(event):
        raise ValueError("secret")
    (name,) = [name for name in recorder.metrics() if name.endswith("duration")]
    (point,) = recorder.points(name)
    assert point.attributes["error.type"] == "ValueError"


def test_a_failover_that_was_interrupted_counts_as_failed(recorder):
    with pytest.raises(KeyboardInterrupt), observe(FAILOVER):
        raise KeyboardInterrupt
    (point,) = recorder.points(O + "failover.duration")
    assert point.attributes[O + "outcome"] == "failed"
    assert "error.type" not in point.attributes


def test_settings_are_counted(recorder):
    changes = [("autocommit", "reset"), ("read_only", "failed"), ("app.tenant", "reset"), ("@tenant", "reset")]
    happen(RESET, SettingsEnd(tuple(SettingChange(name, 0, 1, outcome) for name, outcome in changes), "default", 0))
    happen(RESET, SettingsEnd((SettingChange("autocommit", 1, 0, "reset"),), "default", 0))
    happen(TRANSFER, SettingsEnd((SettingChange("autocommit", 1, 0, "restored"),), "default", 0))
    counted = {
        tuple(point.attributes[O + name] for name in ("operation", "setting", "outcome")): point.value
        for point in recorder.points(O + "settings")
    }
    assert counted == {
        ("reset", "autocommit", "reset"): 2,
        ("reset", "read_only", "failed"): 1,
        ("reset", "custom", "reset"): 2,
        ("transfer", "autocommit", "restored"): 1,
    }
    assert all(len(point.attributes) == 3 for point in recorder.points(O + "settings"))
    metric = recorder.metrics()[O + "settings"]
    assert (metric.unit, metric.data.is_monotonic) == ("{setting}", True)


def test_a_leak_is_counted_for_each_setting(recorder):
    happen(LEAK)
    counted = {
        tuple(point.attributes[O + name] for name in ("operation", "setting", "outcome")): point.value
        for point in recorder.points(O + "settings")
    }
    assert counted == {("leak", "search_path", "skipped"): 1, ("leak", "custom", "skipped"): 2}


def test_the_scope(recorder):
    happen(RESET)
    assert recorder.scopes() == {("instrumented_wrapper", "1.2.3")}


def test_every_metric_is_described(recorder):
    for event, outcome, _, _ in ROWS:
        happen(event, outcome)
    happen(RESET, SettingsEnd((SettingChange("a", 0, 1, "reset"),), "default", 0))
    assert set(recorder.metrics()) == {
        O + name
        for name in (
            "pristine_fetch.duration",
            "reset.duration",
            "transfer.duration",
            "failover.duration",
            "settings",
        )
    }
    assert all(metric.description for metric in recorder.metrics().values())


def test_no_attribute_has_a_value_of_the_app(recorder):
    change = SettingChange("app.tenant", "hunter2", "hunter3", "reset")
    happen(RESET, SettingsEnd((change,), "default", 0))
    happen(PristineFetch(**WHERE, setting="work_mem", source="server"), Fetched("hunter2"))
    points = [point for name in recorder.metrics() for point in recorder.points(name)]
    assert not [
        point for point in points if "hunter" in str(dict(point.attributes)) or "tenant" in str(point.attributes)
    ]


def test_many_names_of_the_app_make_one_series(recorder):
    for number in range(100):
        happen(PristineFetch(**WHERE, setting=f"app.s{number}", source="server"), Fetched(1))
    (point,) = recorder.points(O + "pristine_fetch.duration")
    assert point.count == 100


def test_a_survey_of_sessions_that_fails_is_no_count_of_zero(monkeypatch):
    kind = Survival("postgresql", "psycopg", "none")
    answers = iter([{kind: 2}, {}])
    monkeypatch.setattr(sessions, "_known", {})
    monkeypatch.setattr(sessions, "_surveys", [lambda: next(answers)])  # the third call raises
    collected = [[one.value for one in sessions._counts(CallbackOptions())] for _ in range(3)]
    assert collected == [[2], [0], []]


INSTRUMENTED_AGAIN = """
import sqlite3
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
import instrumented_wrapper as wrapper

reader = InMemoryMetricReader()
for times in range(4):
    wrapper.instrument()
    if times == 1:
        metrics.set_meter_provider(MeterProvider([reader]))
    if times < 3:
        wrapper.uninstrument()
connection = sqlite3.connect(":memory:")
found = [
    metric
    for resource in reader.get_metrics_data().resource_metrics
    for scope in resource.scope_metrics
    for metric in scope.metrics
]
print([[point.value for point in metric.data.data_points] for metric in found if metric.name.endswith(".sessions")])
"""


def test_sessions_are_observed_once_whenever_the_provider_is_set():
    done = subprocess.run(
        [sys.executable, "-c", INSTRUMENTED_AGAIN], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("[[1]]", "")


def test_proxies_and_what_they_lead_to_are_one_meter():
    """Older SDKs observe twice what two of them register."""
    proxies, known = _ProxyMeterProvider(), WeakSet[Meter]()
    assert [is_new(proxies.get_meter("app"), known) for _ in range(2)] == [True, False]
    provider = MeterProvider()
    proxies.on_set_meter_provider(provider)
    assert not is_new(proxies.get_meter("app"), known)
    assert not is_new(provider.get_meter("app"), known)
    assert is_new(MeterProvider().get_meter("app"), known)
