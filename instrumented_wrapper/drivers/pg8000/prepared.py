"""Prepared statements of pg8000: objects of the app that outlive a switch. Another session prepares them anew."""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.request import Request, itself
from instrumented_wrapper.drivers.engine.sync_calls import MethodWrappers

Method = Callable[..., Any]
_OF: Final = "_instrumented_wrapper_prepared"  # in a statement's ``__dict__``: what prepares it, and in which session
_FORGOTTEN: Final = "prepared statements that were forgotten"  # in `Record.driver_state`: how often
_connection_of: Final = attrgetter("con")


def forget(record: Record) -> None:
    """The session has no prepared statements any more."""
    record.driver_state[_FORGOTTEN] = record.driver_state.get(_FORGOTTEN, 0) + 1


def _session(record: Record) -> tuple[int, int]:
    return record.generation, record.driver_state.get(_FORGOTTEN, 0)


def preparing(original: Method, calls: MethodWrappers) -> Method:
    """Wrap ``PreparedStatement.__init__``: record how the statement was prepared."""

    def prepare(con: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, con, *args, **kwargs)
        if (record := record_of(con)) is not None:
            self.__dict__[_OF] = functools.partial(original, self, con, *args, **kwargs), _session(record)

    made = calls.call(prepare, Request.STATEMENT)

    @functools.wraps(original)
    def __init__(self: Any, con: Any, *args: Any, **kwargs: Any) -> None:
        made(con, self, *args, **kwargs)

    return __init__


def running(original: Method, calls: MethodWrappers) -> Method:
    """``PreparedStatement.run``: a statement, which the present session may not have prepared yet."""

    def statement(con: Any, text: str, kwargs: dict[str, Any], args: tuple[Any, ...], self: Any) -> Any:
        again, session = self.__dict__.get(_OF, (None, None))
        if again is not None and (record := record_of(con)) is not None and session != _session(record):
            again()
            self.__dict__[_OF] = again, _session(record)
        return original(self, *args, **kwargs)

    made = calls.statement(statement, itself, "text")

    @functools.wraps(original)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.con is None or record_of(self.con) is None:
            return original(self, *args, **kwargs)
        return made(self.con, getattr(self, "operation", None) or self.statement, kwargs, args, self)

    return run


def closing(original: Method, calls: MethodWrappers) -> Method:
    """Wrap ``PreparedStatement.close``: a statement of a session that has ended needs no message."""
    sent = calls.call(original, Request.STATEMENT, connection_of=_connection_of)

    @functools.wraps(original)
    def close(self: Any) -> None:
        record = None if self.con is None else record_of(self.con)
        if record is None or self.__dict__.get(_OF, (None, None))[1] == _session(record):
            sent(self)
        elif hasattr(self, "operation"):  # as ``legacy`` does
            self.con = None

    return close
