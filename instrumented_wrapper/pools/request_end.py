"""The end of a use of a connection that stays open: a request, a task, a return to a pool that does not reset.

Knows no framework and no pool.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.registry import tracked_as
from instrumented_wrapper.pools.returning import OFF, REPORT, policy, take_back, to_take_back

logger = logging.getLogger("instrumented_wrapper")


def end_request(flows: Flows, wrapper: Any) -> None:
    """Apply ``reset_on_return`` to the session of one of Django's connections, outside ``atomic()``.

    Args:
        flows: the flows to run.
        wrapper: Django's ``DatabaseWrapper``. If its connection must not be used again, its own ``close()`` closes it,
            so that the layers above forget the session.
    """
    if not wrapper.in_atomic_block:
        end_use(flows, wrapper.connection, wrapper.close, wrapper.alias)


def end_use(flows: Flows, connection: object, close: Callable[[], object], pool: str = "") -> None:
    """Apply ``reset_on_return`` to a session, ``report`` by default.

    An open transaction belongs to the app, which may continue it: the session is left alone, unless it is to be reset
    or closed.

    Args:
        flows: the flows to run.
        connection: the driver's own object, or None.
        close: closes a connection that nobody may use again.
        pool: the pool's name for reports; by default its server and database.
    """
    session = tracked_as(connection)
    if session is None or session.is_clean() or (found := to_take_back(connection, REPORT)) is None:
        return
    driver, session = found
    chosen = policy(session, REPORT)
    if session.lost is None and driver.is_in_transaction(connection) and chosen in (REPORT, OFF):
        return
    try:
        if not flows.run(take_back(driver, connection, session, flows, logger, chosen, pool)):
            close()
    finally:
        session.returned = False
