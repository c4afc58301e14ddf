"""The end of configuring a new connection, whatever the pool: what is in doubt then belongs to the baseline, too."""

from __future__ import annotations

import logging
import time

from instrumented_wrapper.drivers import Flow, Flows
from instrumented_wrapper.drivers.registry import tracked
from instrumented_wrapper.failover import RESET_TIMEOUT

logger = logging.getLogger("instrumented_wrapper")


def in_doubt(connection: object) -> bool:
    """Return True if configuring `connection` left something that only its server can tell."""
    found = tracked(connection)
    return found is not None and found[1].configuring and found[1].on_server.has_doubts


def settled(connection: object, flows: Flows) -> Flow[None]:
    """Read uncertain state from the server before the app gets the connection: the response is the baseline."""
    found = tracked(connection)
    if found is None:
        return
    driver, session = found
    for_good = not session.on_server.transactional and driver.is_in_transaction(connection)
    if not (for_good or driver.is_idle(connection)):
        return
    try:
        with driver.unobserved(connection, time.monotonic() + RESET_TIMEOUT):
            yield from flows.settle_doubts(driver, connection, session)
    except Exception as error:  # noqa: BLE001 - the app has its connection, and it stays in doubt
        logger.debug("the baseline could not be asked for: %s", type(error).__name__)
