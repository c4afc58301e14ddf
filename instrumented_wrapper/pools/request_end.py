"""The end of a use of a connection that stays open: a request, a task, a return to a pool that leaves it to the app.

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
    """Do with the session of one of Django's connections what ``reset_on_return`` says, outside ``atomic()``.

    Args:
        flows: what is done.
        wrapper: Django's ``DatabaseWrapper``; where its connection must not be used again, its own ``close()`` closes
            it, so that the layers above forget what they know of the session.
    """
    if not wrapper.in_atomic_block:
        end_use(flows, wrapper.connection, wrapper.close, wrapper.alias)


def end_use(flows: Flows, connection: object, close: Callable[[], object], pool: str = "") -> None:
    """Do with a session what ``reset_on_return`` says, ``report`` by default.

    An open transaction belongs to the app, which may go on with it: it is left alone, unless the session is to be
    reset or closed.

    Args:
        flows: what is done.
        connection: the driver's own object, or None.
        close: closes the connection where nobody may use it again.
        pool: its name, for what is reported; by default its server and database.
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
