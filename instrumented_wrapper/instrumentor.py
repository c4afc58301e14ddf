"""The OpenTelemetry entry point ``instrumented_wrapper`` of group ``opentelemetry_instrumentor``.

In a module of its own: `BaseInstrumentor` takes longer to import than the rest of the package.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import make_dataclass
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined, unused-ignore]

from instrumented_wrapper.errors import ConfigurationError
from instrumented_wrapper.instrument import instrument, uninstrument
from instrumented_wrapper.options import OPTION_NAMES

logger = logging.getLogger("instrumented_wrapper")


# The options, as declarative configuration (``OTEL_CONFIG_FILE``) hands them over; `options` checks their values.
Configuration = make_dataclass("Configuration", [(name, Any, None) for name in OPTION_NAMES if name != "enabled"])


class InstrumentedWrapperInstrumentor(BaseInstrumentor):  # type: ignore[misc, unused-ignore]
    """Calls `instrumented_wrapper.instrument` for ``opentelemetry-instrument``; never lets an exception out."""

    configuration = Configuration

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: drivers are patched when, and if, the app imports them."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        kwargs.pop("skip_dep_check", None)
        kwargs.pop("raise_exception_on_conflict", None)
        given = {name: value for name, value in kwargs.items() if value is not None}
        try:
            instrument(**given)
        except ConfigurationError as error:
            logger.error("nothing is patched: %s", error)
        except Exception as error:  # noqa: BLE001 - an exception here would stop the instrumentations after this one
            logger.error("nothing is patched: %s", type(error).__name__)

    def _uninstrument(self, **kwargs: object) -> None:
        uninstrument()
