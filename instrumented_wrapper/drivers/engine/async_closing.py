"""The end of a connection of an async driver."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Collection
from functools import partial
from types import CodeType
from typing import Any

from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.engine.adapted_record import record_of
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.async_record import AsyncRecord
from instrumented_wrapper.drivers.engine.closing import closed_if_interrupted, last_reset

Method = Callable[..., Any]


def closing_after_reset(
    adapter: DriverAdapter, driver: Driver, flows: Flows, close: Method
) -> Callable[[Method], Method]:
    """Make a coroutine that closes reset the session first; `close` ends the connection where that fails."""

    def make(original: Method) -> Method:
        @functools.wraps(original)
        async def ensure_closed(self: Any, *args: object, **kwargs: object) -> Any:
            record = record_of(self)
            if not isinstance(record, AsyncRecord):
                return await original(self, *args, **kwargs)
            within = record.is_within()
            in_use = record.active_caller is not False and not within
            flow = last_reset(driver, flows, self, record, within=within, in_use=in_use)
            with closed_if_interrupted(partial(close, self)):  # or where it fails: the server has gone
                if flow is not None:
                    async with record.exclusive():
                        await flows.run_async(flow)
                if adapter.is_closed(self):  # by the app's own handler
                    return None
                return await original(self, *args, **kwargs)

        return ensure_closed

    return make


def closing_at_once(driver: Driver, flows: Flows, internal: Collection[CodeType]) -> Callable[[Method], Method]:
    """Make a plain method that closes keep that the app has done so. It cannot wait, so that nothing is reset.

    `internal`: the code of the driver's own functions that call it, when the connection is lost or a task is cancelled.
    """

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def close(self: Any, *args: object, **kwargs: object) -> Any:
            record = record_of(self)
            if record is not None and sys._getframe(1).f_code not in internal:
                last_reset(driver, flows, self, record, within=record.is_within(), in_use=True)
            return original(self, *args, **kwargs)

        return close

    return make
