"""Metrics of what happened: durations, and settings that were reset or transferred."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.metrics import Counter, Histogram, Meter
from opentelemetry.semconv.attributes.db_attributes import DB_SYSTEM_NAME
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE

from instrumented_wrapper.events import (
    Drift,
    Event,
    Failover,
    FailoverEnd,
    Finish,
    Leak,
    Listener,
    Outcome,
    PristineFetch,
    Reset,
    SettingsEnd,
    Transfer,
    error_type,
)
from instrumented_wrapper.telemetry.attributes import OURS

BOUNDARIES: Final = (0.00001, 0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30)
_DURATIONS: Final[Mapping[type[Event], tuple[str, str]]] = {
    PristineFetch: ("pristine_fetch", "Time to read the pristine value of one setting"),
    Reset: ("reset", "Time to bring a session back to its pristine values"),
    Transfer: ("transfer", "Time to apply a session's settings to a new physical connection"),
    Failover: ("failover", "Time from noticing a loss until the app has its connection back"),
}


def measuring(meter: Meter) -> Listener:
    """Return a listener that measures each event."""
    durations = {kind: _histogram(meter, *named) for kind, named in _DURATIONS.items()}
    settings = meter.create_counter(
        OURS + "settings", "{setting}", "Settings that were reset, transferred, left behind, or not as they are tracked"
    )

    def listen(event: Event) -> Finish | None:
        if not event.signals.metrics:
            return None
        if isinstance(event, Leak | Drift):
            _count_names(settings, event)
            return None
        started = time.perf_counter() - (event.waited if isinstance(event, Failover) else 0.0)

        def finish(outcome: Outcome | None, error: BaseException | None) -> None:
            seconds = time.perf_counter() - started
            durations[type(event)].record(seconds, _attributes(event, outcome, error))
            if isinstance(outcome, SettingsEnd):
                _count(settings, event, outcome)

        return finish

    return listen


def _histogram(meter: Meter, name: str, description: str) -> Histogram:
    full = f"{OURS}{name}.duration"
    return meter.create_histogram(full, "s", description, explicit_bucket_boundaries_advisory=BOUNDARIES)


def _attributes(event: Event, outcome: Outcome | None, error: BaseException | None) -> dict[str, Any]:
    values = {DB_SYSTEM_NAME: event.peer.system, OURS + "driver": event.driver}
    if isinstance(event, Failover):
        end = outcome if isinstance(outcome, FailoverEnd) else FailoverEnd("failed", event.trigger, None, 0)
        ours = {"trigger": end.trigger, "outcome": end.outcome, "transaction": end.transaction or event.transaction}
        return values | {OURS + name: value for name, value in ours.items()}
    if isinstance(event, PristineFetch):
        values[OURS + "setting"] = _family(event.setting)
    elif isinstance(event, Reset):
        values[OURS + "trigger"] = event.trigger
    code = getattr(outcome, "error", None) or (error_type(error) if error else None)
    return values | ({ERROR_TYPE: code} if code else {})


def _count_names(settings: Counter, event: Leak | Drift) -> None:
    """Count what has no duration; of a drift the outcome is whether the session knows the setting."""
    if isinstance(event, Leak):
        operation, found = "leak", {"skipped": event.settings}
    else:
        operation, found = "drift", {"tracked": event.tracked, "untracked": event.untracked}
    for outcome, names in found.items():
        for name in names:
            values = {"operation": operation, "setting": _family(name), "outcome": outcome}
            settings.add(1, {OURS + key: value for key, value in values.items()})


def _count(settings: Counter, event: Event, end: SettingsEnd) -> None:
    operation = "reset" if isinstance(event, Reset) else "transfer"
    for change in end.changes:
        values = {"operation": operation, "setting": _family(change.name), "outcome": change.outcome}
        settings.add(1, {OURS + name: value for name, value in values.items()})
    for name in end.not_restored:
        settings.add(1, {OURS + "operation": operation, OURS + "setting": _family(name), OURS + "outcome": "skipped"})


def _family(setting: str) -> str:
    """Return the name of a setting; those with a dot, and user variables, are the app's own: any number of series."""
    return "custom" if "." in setting or setting.startswith("@") else setting
