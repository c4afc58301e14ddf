"""``mysql.connector.aio.pooling``: the return of a connection."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable
from typing import Any, Final

from mysql.connector.aio import pooling

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.registry import tracked
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.pools.returning import policy_of_clearing, take_back, to_take_back

logger = logging.getLogger("instrumented_wrapper")
PARTS: Final = {pooling.PooledMySQLConnection: ["close", "._cnx", "._cnx_pool"]}


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch the connections that the pool hands out."""
    patches.close_over(pooling.PooledMySQLConnection, "close", functools.partial(_returning, flows))


def _returning(flows: Flows, original: Callable[..., Any]) -> Callable[..., Any]:
    """``PooledMySQLConnection.close``: reset by us, then by the pool, which connects one anew that has ended."""

    @functools.wraps(original)
    async def close(self: Any) -> None:
        connection = self._cnx
        if (found := tracked(connection)) is None:
            return await original(self)  # type: ignore[no-any-return]
        driver, session = found
        fit = to_take_back(connection) is None
        chosen = policy_of_clearing(session, self._cnx_pool.can_reset_session)
        try:
            if not fit:
                name = self._cnx_pool.pool_name
                fit = await flows.run_async(take_back(driver, connection, session, flows, logger, chosen, name))
            if not fit:
                driver.end(connection)
        finally:
            with driver.returning(connection), contextlib.suppress(*(() if fit else (Exception,))):  # it has ended
                await original(self)
            session.returned = False
        return None

    return close
