"""The values that a session is expected to have on its server. Pure: databases compare values, each in its own way."""

from __future__ import annotations

from instrumented_wrapper.plans import Expected
from instrumented_wrapper.server_settings import ServerSettings


def expected_settings(known: ServerSettings) -> tuple[Expected, ...]:
    """Return the settings whose value is known: those that the app has changed or fetched, and the baseline."""
    shown = known.shown
    baseline = [Expected(name, text, False) for name, text in known.baseline_assignments() if name not in shown]
    return (
        *baseline,
        *(
            Expected(name, value, value == pristine and not known.is_configured(name))
            for name, (value, pristine) in shown.items()
        ),
    )
