"""The end of a connection of an async driver."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from functools import partial
from types import CodeType
from typing import Any

from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.engine.adapted_record import record_of
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.async_record import AsyncRecord
from instrumented_wrapper.drivers.engine.closing import closed_if_interrupted, last_reset

Method = Callable[..., Any]


def _nothing(code: CodeType) -> bool:
    return False


def closing_after_reset(
    adapter: DriverAdapter,
    driver: Driver,
    flows: Flows,
    close: Method,
    internal: Callable[[CodeType], bool] = _nothing,
) -> Callable[[Method], Method]:
    """Make a coroutine that closes reset the session first; `close` ends the connection where that fails.

    `internal`: see `closing_at_once`.
    """

    def make(original: Method) -> Method:
        @functools.wraps(original)
        async def ensure_closed(self: Any, *args: object, **kwargs: object) -> Any:
            record = record_of(self)
            if not isinstance(record, AsyncRecord) or internal(sys._getframe(1).f_code):
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


def closing_at_once(
    driver: Driver, flows: Flows, internal: Callable[[CodeType], bool] = _nothing
) -> Callable[[Method], Method]:
    """Wrap a plain method that closes: record that the app has closed. It cannot wait, so nothing is reset.

    `internal`: returns True for the code of callers that close after a loss or a cancellation: functions of the
    driver; if those are compiled and have no frames, functions of ours that call the driver.
    """

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def close(self: Any, *args: object, **kwargs: object) -> Any:
            record = record_of(self)
            if record is not None and not internal(sys._getframe(1).f_code):
                last_reset(driver, flows, self, record, within=record.is_within(), in_use=True)
            return original(self, *args, **kwargs)

        return close

    return make
