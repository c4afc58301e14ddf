"""SQLAlchemy's pools, over whatever driver: what is done before a connection is first handed out is the baseline.

Its dialects (``isolation_level=`` of an engine) and the app's ``connect`` listeners configure each new connection: no
change of the app's, and nothing that a reset takes away. A return to such a pool is left to SQLAlchemy.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.pool import Pool
from sqlalchemy.pool.base import _ConnectionRecord

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.watching import KEY, unwrapped
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.session import Session

__all__ = ["install_pools", "uninstall"]

logger = logging.getLogger("instrumented_wrapper")
_CONNECT: Final = "_ConnectionRecord__connect"  # calls the creator, then the listeners


def install_pools(patches: Patches, options: Options, flows: Flows) -> str:
    """Hear of new connections before anybody else does, and of the end of their configuration."""
    if not hasattr(_ConnectionRecord, _CONNECT):
        logger.warning(
            "SQLAlchemy's pool lacks %s: what configures a connection is taken for the app's doing", _CONNECT
        )
        return "left alone: its pool is another one"
    event.listen(Pool, "connect", _created, insert=True)
    patches.close_over(_ConnectionRecord, _CONNECT, _connecting)
    return "patched"


def uninstall() -> None:
    """Do not listen any more."""
    if event.contains(Pool, "connect", _created):
        event.remove(Pool, "connect", _created)


def _created(connection: Any, pooled: Any) -> None:
    if (session := _session_of(pooled)) is not None:
        session.hold()


def _connecting(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def connect(self: Any) -> None:
        original(self)
        if (session := _session_of(self)) is not None:
            session.hand_out()

    return connect


def _session_of(pooled: Any) -> Session | None:
    """Return what is known of the driver's connection; an async one is behind SQLAlchemy's own."""
    connection = unwrapped(pooled.driver_connection)
    session: Session | None = getattr(connection, "__dict__", {}).get(KEY)
    return session
