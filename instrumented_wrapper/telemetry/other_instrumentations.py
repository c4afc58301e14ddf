"""Other instrumentations of the same driver, which also create a span for each statement.

OpenTelemetry does not prevent two instrumentations of one driver. The entry of a driver (`supported`) names the others.
They are looked up among the loaded modules and never imported. Most of them record no metric, or only if the app opts
in.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Final

from opentelemetry.metrics import Meter, MeterProvider, NoOpMeter
from opentelemetry.trace import NoOpTracerProvider

from instrumented_wrapper.supported import driver_entries
from instrumented_wrapper.telemetry.never_raise import never_raise

DURATION: Final = "db.client.operation.duration"
_DBAPI: Final = "opentelemetry.instrumentation.dbapi"  # all of OpenTelemetry's own are made with it


def is_instrumented(driver: str) -> bool:
    """Return True if another instrumentation of `driver` is active: OpenTelemetry's own, the driver's, or Datadog's."""
    if driver not in driver_entries():  # a part of one, which nobody else instruments
        return False
    active = never_raise(_has_instrumentor, driver) or never_raise(_traces_itself, driver)
    return bool(active or getattr(sys.modules.get(driver), "_datadog_patch", False))


def _has_instrumentor(driver: str) -> bool:
    instrumentor = _loaded(driver_entries()[driver].instrumentor)
    return instrumentor is not None and bool(instrumentor().is_instrumented_by_opentelemetry)


def _traces_itself(driver: str) -> bool:
    """Return True if the app has turned on the driver's own tracer, which replaces ``connect``."""
    instrumentor = getattr(_loaded(driver_entries()[driver].tracer), "_instance", None)
    return instrumentor is not None and sys.modules[driver].connect is not instrumentor._original_connect


def _loaded(place: tuple[str, str] | None) -> Any:
    """Return a class if its module was imported, else None."""
    module, name = place or ("", "")
    return getattr(sys.modules.get(module), name, None)


def is_measured(driver: str) -> bool:
    """Return True if an active instrumentation of `driver` records `DURATION`.

    OpenTelemetry's own do so from 0.66 on if ``OTEL_SEMCONV_STABILITY_OPT_IN`` requests it. Datadog and the tracer of
    mysql-connector do not.
    """
    integration = getattr(sys.modules.get(_DBAPI), "DatabaseApiIntegration", None)
    return bool(integration and never_raise(_has_instrumentor, driver) and never_raise(_measures, integration))


@functools.cache
def _measures(integration: Any) -> bool:
    """Return True if a new integration creates the histogram; older ones take no meter provider."""
    asked = _Asked()
    try:
        integration("", "", tracer_provider=NoOpTracerProvider(), meter_provider=asked)
    except TypeError:
        return False
    return DURATION in asked.names


class _Asked(MeterProvider):
    """A provider that records the names of the requested instruments."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def get_meter(self, name: str, *args: object, **kwargs: object) -> Meter:
        meter = NoOpMeter(name)
        create = meter.create_histogram

        def create_histogram(name: str, *args: object, **kwargs: object) -> Any:
            self.names.append(name)
            return create(name)

        meter.create_histogram = create_histogram  # type: ignore[method-assign]
        return meter
