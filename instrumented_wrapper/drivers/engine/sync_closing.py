"""The end of a connection, and what changes a setting of the driver's own."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from instrumented_wrapper import events
from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.closing import closed_if_interrupted, last_reset

Method = Callable[..., Any]
logger = logging.getLogger("instrumented_wrapper")


def closing(adapter: DriverAdapter, driver: Driver, flows: Flows) -> Callable[[Method], Method]:
    """``close``: a reset first, where there is something to reset; from then on it stays closed."""

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def close(self: Any, *args: object, **kwargs: object) -> Any:
            record = record_of(self)
            if record is None or record.active_caller is True:
                return original(self, *args, **kwargs)
            flow = last_reset(driver, flows, self, record, within=record.is_within())
            if flow is not None:
                with closed_if_interrupted(partial(_close_quietly, adapter, original, self)):
                    flows.run(flow)
                if adapter.is_closed(self):  # by the app's own handler
                    return None
            with _first_for_the_app(adapter, record):
                return original(self, *args, **kwargs)

        return close

    return make


@contextlib.contextmanager
def _first_for_the_app(adapter: DriverAdapter, record: Record) -> Iterator[None]:
    """Suppress the driver's error of a second close if the wrapper has closed the connection, also just now."""
    try:
        yield
    except adapter.error:
        if not record.abandoned:
            raise
    finally:
        record.abandoned = False


def _close_quietly(adapter: DriverAdapter, original: Method, connection: object) -> None:
    with contextlib.suppress(*adapter.raises):  # what interrupts the app is raised
        original(connection)


def setting(
    driver: Driver, flows: Flows, names_of: Callable[..., Sequence[str]], reentrant: bool = True
) -> Callable[[Method], Method]:
    """Wrap what changes settings of the driver's own: record their values before and after.

    `names_of` returns the settings that the arguments change; `reentrant`: calls within belong to this one.
    """

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def change(self: Any, *args: object, **kwargs: object) -> Any:
            record = record_of(self)
            if record is None or not record.keeps_changes():
                return original(self, *args, **kwargs)
            try:
                names = names_of(*args, **kwargs)
            except TypeError:  # the driver says what is wrong with the arguments
                names = ()
            for name in names:
                flows.note_change(driver, self, record, name)
            record.active_caller = reentrant
            try:
                result = original(self, *args, **kwargs)
            finally:
                record.active_caller = False
            for name in names:
                record.changed_to(name, driver.read(self, name), events.origin())
            return result

        return change

    return make
