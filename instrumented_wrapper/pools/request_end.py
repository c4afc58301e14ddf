"""The end of a request, or of a task, on one of Django's persistent connections. Imports nothing of Django."""

from __future__ import annotations

import logging
from typing import Any

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.registry import tracked_as
from instrumented_wrapper.pools.returning import OFF, REPORT, policy, take_back, to_take_back

__all__ = ["end_request"]

logger = logging.getLogger("instrumented_wrapper")


def end_request(flows: Flows, wrapper: Any) -> None:
    """Do with the session of a persistent connection what ``reset_on_return`` says, outside ``atomic()``.

    Args:
        flows: what is done.
        wrapper: Django's ``DatabaseWrapper``; where its connection must not be used again, its own ``close()`` closes
            it, so that the layers above forget what they know of the session.
    """
    session = tracked_as(connection := wrapper.connection)
    if session is None or session.is_clean() or wrapper.in_atomic_block:
        return
    if (found := to_take_back(connection, REPORT)) is None:
        return
    driver, session = found
    chosen = policy(session, REPORT)
    if session.lost is None and driver.is_in_transaction(connection) and chosen in (REPORT, OFF):
        return  # with AUTOCOMMIT off it is the app's, which goes on with it
    try:
        if not flows.run(take_back(driver, connection, session, flows, logger, chosen, wrapper.alias)):
            wrapper.close()
    finally:
        session.returned = False
