"""Nothing that fails in telemetry reaches the app."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("instrumented_wrapper")


def never_raise(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function` and return what it returns; None where it fails, which is logged for who debugs."""
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - the app is never broken by its observability
        logger.debug("telemetry failed: %s", type(error).__name__)
        return None
