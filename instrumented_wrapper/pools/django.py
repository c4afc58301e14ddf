"""Django's connections: how Django configures a new one is the baseline.

Autocommit, the isolation level, the time zone, and what receivers of ``connection_created`` do: a reset that took these
away would leave Django with a connection that it takes for another one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.registry import configuring
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches

__all__ = ["install"]


def install(patches: Patches, options: Options, flows: Flows) -> str:
    """Patch what makes a connection and configures it."""
    patches.close_over(BaseDatabaseWrapper, "connect", _connecting)
    return "patched"


def _connecting(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def connect(self: Any) -> Any:
        with configuring():
            return original(self)

    return connect
