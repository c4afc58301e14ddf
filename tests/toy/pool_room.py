"""What it takes to register a pool. It knows no driver, not even that of its connections."""

from __future__ import annotations

import functools
import logging
from typing import Any

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.pools.returning import take_back, to_take_back

from . import toypool

logger = logging.getLogger("toypool")


def install(patches: Patches, options: Options, flows: Flows) -> str:
    patches.close_over(toypool.Pool, "give_back", functools.partial(_returning, flows))
    return "patched"


def _returning(flows: Flows, original: Any) -> Any:
    @functools.wraps(original)
    def give_back(self: Any, connection: Any) -> None:
        if (found := to_take_back(connection)) is None:
            return original(self, connection)
        driver, session = found
        if flows.run(take_back(driver, connection, session, flows, logger)):
            original(self, connection)
        session.returned = False
        return None

    return give_back
