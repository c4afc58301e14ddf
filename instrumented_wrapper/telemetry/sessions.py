"""The metric of sessions that would survive a loss. They are counted when metrics are collected, at no other time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from weakref import WeakSet

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.semconv.attributes.db_attributes import DB_SYSTEM_NAME

from instrumented_wrapper.operations import Survival
from instrumented_wrapper.telemetry.attributes import OURS
from instrumented_wrapper.telemetry.never_raise import never_raise
from instrumented_wrapper.telemetry.sdk_present import is_new

Survey = Callable[[], Mapping[Survival, int]]

# Callbacks cannot be taken from an OpenTelemetry meter again: there is one set of them, whoever asks.
_surveys: list[Survey] = []
_observed: WeakSet[Meter] = WeakSet()
_known: dict[Survival, None] = {}  # what was counted before is 0 when there is none, and not missing


class SessionMetrics:
    """Counts sessions by a survey, until it is to forget it."""

    def __init__(self, meter: Meter) -> None:
        if is_new(meter, _observed):
            name, text = f"{OURS}sessions", "Sessions that would survive a loss now, or the reason why not."
            meter.create_observable_up_down_counter(name, [_counts], "{session}", text)

    def count(self, survey: Survey) -> None:
        """Count sessions by `survey` from now on; any thread may call it."""
        _surveys[:] = [survey]

    def forget(self) -> None:
        """Count no session any more."""
        _surveys.clear()
        _known.clear()


def _counts(_: CallbackOptions) -> Iterable[Observation]:
    """Observe all kinds that were seen."""
    for survey in list(_surveys):
        found: Mapping[Survival, int] | None = never_raise(survey)
        if found is None:  # nothing is known: not that there is none
            continue
        _known.update(dict.fromkeys(found))
        for kind in list(_known):
            yield Observation(found.get(kind, 0), _attributes(kind))


def _attributes(kind: Survival) -> dict[str, str]:
    ours = {"driver": kind.driver, "restorable": str(kind.reason == "none").lower(), "reason": kind.reason}
    return {DB_SYSTEM_NAME: kind.system, **{OURS + name: value for name, value in ours.items()}}
