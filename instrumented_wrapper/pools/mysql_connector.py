"""What is patched for the pool of mysql-connector-python: the return of a connection, and its own look at one."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

from mysql.connector import pooling

from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.blocking.closing import reset_on_return
from instrumented_wrapper.drivers.blocking.records import record_of
from instrumented_wrapper.drivers.mysql_connector import keeping
from instrumented_wrapper.drivers.mysql_connector.native import MySQLConnector
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.server_settings import Assignment

__all__ = ["patch_pools"]

Method = Callable[..., Any]
_lending: Final = threading.local()  # `now`: a pool is about to hand out a connection


def patch_pools(
    patches: Patches, kinds: Sequence[type[Any]], native: MySQLConnector, driver: Driver, flows: Flows
) -> None:
    """Patch the pool, and what it asks connections of these kinds."""
    returning = functools.partial(_returning, native, driver, flows)
    patches.close_over(pooling.PooledMySQLConnection, "close", returning)
    patches.replace(pooling.PooledMySQLConnection, "__wrapped__", property(attrgetter("_cnx")))  # what the app asks of
    patches.close_over(pooling.MySQLConnectionPool, "get_connection", _getting)
    for kind in kinds:
        patches.close_over(kind, "is_connected", functools.partial(_looking, native))


def _returning(native: MySQLConnector, driver: Driver, flows: Flows, original: Method) -> Method:
    """``PooledMySQLConnection.close``: reset by us, then by the pool; one that fails makes the pool connect anew."""

    @functools.wraps(original)
    def close(self: Any) -> None:
        connection = self._cnx
        record = None if connection is None else record_of(connection)
        if record is None:
            return original(self)  # type: ignore[no-any-return]
        fit = reset_on_return(native, driver, flows, connection, record)
        if not fit:
            native.shut(connection, for_good=True)
            keeping.give(connection, [Assignment(name, was) for name, (_, was) in record.on_server.shown.items()])
        before, record.returning = record.returning, True
        record.refresh()
        try:
            with contextlib.suppress(*(() if fit else native.raises)):  # the pool finds out that it is shut
                return original(self)  # type: ignore[no-any-return]
        finally:
            record.returning, record.returned = before, False
            record.refresh()

    return close


def _getting(original: Method) -> Method:
    """``MySQLConnectionPool.get_connection``: it looks whether the connection lives, with a lock on all pools."""

    @functools.wraps(original)
    def get_connection(self: Any) -> Any:
        _lending.now = True
        try:
            return original(self)
        finally:
            _lending.now = False

    return get_connection


def _looking(native: MySQLConnector, original: Method) -> Method:
    """``is_connected``: what a pool finds lost is replaced by the first statement, which keeps no pool waiting."""

    @functools.wraps(original)
    def is_connected(self: Any) -> Any:
        connected = original(self)
        if connected or not getattr(_lending, "now", False):
            return connected
        record = record_of(self)
        if record is None or not record.switchable or native.is_closed(self):
            return connected
        native.mark_lost(self)
        return True

    return is_connected
