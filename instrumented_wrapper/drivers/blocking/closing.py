"""The end of a connection, and what changes a setting of the driver's own."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from instrumented_wrapper import events, handlers
from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.blocking.native import Native, Phase
from instrumented_wrapper.drivers.blocking.records import Record, record_of
from instrumented_wrapper.drivers.engine.deadlines import shut_same

__all__ = ["closing", "setting"]

Method = Callable[..., Any]
logger = logging.getLogger("instrumented_wrapper")


def closing(native: Native, driver: Driver, flows: Flows) -> Callable[[Method], Method]:
    """``close``: a reset first, where there is something to reset; from then on it stays closed."""

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def close(self: Any, *args: Any, **kwargs: Any) -> Any:
            record = record_of(self)
            if record is None or record.busy is True:
                return original(self, *args, **kwargs)
            with record.mutex:
                record.closed_by_app = True
                abandoned, record.abandoned = record.abandoned, False
                record.refresh()
            if (successor := record.successor) is not None and not record.is_within():
                shut_same(*successor)  # a switch elsewhere waits for it, perhaps for long
            within = record.busy and record.is_within()  # by a handler of the app's, in a switch
            if not (within or record.returned) and _wants_reset(native, driver, self, record):
                try:
                    flows.run(flows.reset(driver, self, record, "close"))
                except BaseException:  # the app is interrupted, and its connection is closed all the same
                    with contextlib.suppress(*native.raises):
                        original(self, *args, **kwargs)
                    raise
                if native.is_closed(self):  # by the app's own handler
                    return None
            with contextlib.suppress(*([native.error] if abandoned else [])):  # for the app it is the first close
                return original(self, *args, **kwargs)

        return close

    return make


def _wants_reset(native: Native, driver: Driver, connection: Any, record: Record) -> bool:
    """With a transaction open only the app's own handler may do something; with a statement under way nobody."""
    if not record.wants_reset() or native.is_closed(connection) or native.is_lost(connection, None):
        return False
    handled = handlers.reset_handler() is not None
    return driver.is_idle(connection) or (handled and native.phase(connection, record) in (Phase.OPEN, Phase.FAILED))


def setting(
    driver: Driver, flows: Flows, names_of: Callable[..., Sequence[str]], nests: bool = True
) -> Callable[[Method], Method]:
    """Make what changes settings of the driver's own keep what they were, and what they are then.

    `names_of` tells by the arguments which settings are changed; `nests`: what is called within is part of it.
    """

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def change(self: Any, *args: Any, **kwargs: Any) -> Any:
            record = record_of(self)
            if record is None or not record.keeps_changes():
                return original(self, *args, **kwargs)
            try:
                names = names_of(*args, **kwargs)
            except TypeError:  # the driver says what is wrong with the arguments
                names = ()
            for name in names:
                flows.note_change(driver, self, record, name)
            record.busy = nests
            try:
                result = original(self, *args, **kwargs)
            finally:
                record.busy = False
            for name in names:
                record.changed_to(name, driver.read(self, name), events.origin())
            return result

        return change

    return make
