"""SQLAlchemy's pools: what is done before a connection is first handed out is the baseline.

Its dialects (``isolation_level=`` of an engine) and the app's ``connect`` listeners configure each new connection: no
change of the app's, and nothing that a reset takes away. A return to such a pool is left to SQLAlchemy, except that no
pool keeps a connection whose security state a switch could not carry.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.pool.base import _ConnectionFairy, _ConnectionRecord

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.registry import configuring, tracked
from instrumented_wrapper.errors import FailoverError
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.pools.returning import is_refused

__all__ = ["install"]

Method = Callable[..., Any]
logger = logging.getLogger("instrumented_wrapper")
_PING: Final = "_do_ping_w_event"  # of ``pool_pre_ping``
_CONNECT: Final = "_ConnectionRecord__connect"  # calls the creator, then the listeners


def install(patches: Patches, options: Options, flows: Flows) -> str:
    """Patch what makes a connection and configures it."""
    if not hasattr(_ConnectionRecord, _CONNECT):
        logger.warning("SQLAlchemy's pool lacks %s: what its listeners set is taken for the app's doing", _CONNECT)
        return f"left alone: it lacks {_CONNECT}"
    patches.close_over(_ConnectionRecord, _CONNECT, _connecting)
    patches.close_over(_ConnectionRecord, "checkin", _returning)
    if hasattr(DefaultDialect, _PING):
        patches.close_over(DefaultDialect, _PING, _pinging)
    patches.replace(_ConnectionFairy, "__wrapped__", property(attrgetter("driver_connection")))  # what the app asks of
    return "patched"


def _connecting(original: Method) -> Method:
    @functools.wraps(original)
    def connect(self: Any) -> None:
        with configuring():
            original(self)

    return connect


def _returning(original: Method) -> Method:
    """``checkin``: without its role or tenant no other borrower may get a connection."""

    @functools.wraps(original)
    def checkin(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = tracked(self.driver_connection)
        if found is not None and is_refused(found[1], logger):
            self.invalidate()
        return original(self, *args, **kwargs)

    return checkin


def _pinging(original: Method) -> Method:
    """The check before a connection is handed out: one that cannot be used as it was is replaced."""

    @functools.wraps(original)
    def ping(self: Any, connection: Any) -> bool:
        try:
            return original(self, connection)  # type: ignore[no-any-return]
        except FailoverError:
            return False

    return ping
