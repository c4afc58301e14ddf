"""Methods that read rows from the server: they belong to a statement that was sent. Only a failure matters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.flow import RERAISE
from instrumented_wrapper.drivers.engine.request import Request, SentCall
from instrumented_wrapper.drivers.engine.sync_calls import MethodWrappers
from instrumented_wrapper.drivers.registry import KEY

Method = Callable[..., Any]


class ReadWrappers:
    """Makes the closures for one driver."""

    def __init__(self, adapter: DriverAdapter, calls: MethodWrappers) -> None:
        self._adapter, self._calls = adapter, calls

    def fetch(
        self,
        original: Method,
        connection_of: Callable[[Any], Any],
        end: Callable[[Any], None] | None = None,
        alone: bool = False,
    ) -> Method:
        """Make the closure of a method that reads rows.

        Args:
            original: the method.
            connection_of: returns the connection of a cursor.
            end: is called with the cursor after there was no row.
            alone: the method has no arguments. It is called once per row: to pack none costs as much as all the rest.
        """
        if not self._adapter.reentrant:
            return self._locked(original, connection_of)
        failed, given = self._failed(original, connection_of), (original, self._adapter.raises, end or _nothing)
        return _row(*given, failed) if alone else _rows(*given, failed)

    def _failed(self, original: Method, connection_of: Callable[[Any], Any]) -> Method:
        """Return what is done where no other thread can have moved the connection meanwhile."""
        not_read = self._not_read

        def failed(error: BaseException, this: Any, *args: Any, **kwargs: Any) -> Any:
            if (record := _record_of_caller(connection_of, this)) is None:
                return RERAISE
            run = functools.partial(original, this, *args, **kwargs)
            return not_read(this, record, error, run, record.generation)

        return failed

    def _locked(self, original: Method, connection_of: Callable[[Any], Any]) -> Method:
        raised, failed = self._adapter.raises, self._not_read

        @functools.wraps(original)
        def fetch(this: Any, *args: Any, **kwargs: Any) -> Any:
            if (record := _record_of_caller(connection_of, this)) is None:
                return original(this, *args, **kwargs)
            with record.use_lock:
                generation = record.generation
                try:
                    return original(this, *args, **kwargs)
                except raised as error:
                    run = functools.partial(original, this, *args, **kwargs)
                    if (instead := failed(this, record, error, run, generation)) is RERAISE:
                        raise
                    return instead

        return fetch

    def _not_read(
        self, cursor: Any, record: Record, error: BaseException, run: Callable[[], Any], generation: int
    ) -> Any:
        """Rows could not be read."""
        text = self._adapter.executed(cursor)
        effects = None if text is None else self._calls.effects_of(text)
        return self._calls.failed(SentCall(record.connection(), record, Request.READ, effects, run, generation), error)


def _rows(original: Method, raised: Any, end: Callable[[Any], None], failed: Method) -> Method:
    @functools.wraps(original)
    def fetch(this: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            rows = original(this, *args, **kwargs)
        except raised as error:
            if (instead := failed(error, this, *args, **kwargs)) is RERAISE:
                raise
            return instead
        if not rows:
            end(this)
        return rows

    return fetch


def _row(original: Method, raised: Any, end: Callable[[Any], None], failed: Method) -> Method:
    @functools.wraps(original)
    def fetch(this: Any) -> Any:
        try:
            row = original(this)
        except raised as error:
            if (instead := failed(error, this)) is RERAISE:
                raise
            return instead
        if not row:
            end(this)
        return row

    return fetch


def _nothing(cursor: Any) -> None:
    """Nothing is done at the end of the rows."""


def _record_of_caller(connection_of: Callable[[Any], Any], cursor: Any) -> Record | None:
    """Return the record of a cursor's connection, if a call now is the app's own and tracked."""
    try:
        connection = connection_of(cursor)
        record: Record | None = None if connection is None else connection.__dict__.get(KEY)
    except ReferenceError:  # a weak one, which is gone: the driver says so
        return None
    return None if record is None or record.off or (record.active_caller and record.is_within()) else record
