"""asyncmy's prepared statements: they are prepared anew on the connection that takes over.

With ``stmt_cache_size`` asyncmy itself prepares what cursors execute.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from asyncmy.connection import Connection

from instrumented_wrapper.drivers.engine.async_calls import AsyncMethodWrappers
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.drivers.registry import KEY

Method = Callable[..., Any]
_TEXT: Final = KEY + "_text"
_GENERATION: Final = KEY + "_generation"
_prepare: Final[Any] = Connection.prepare


def preparing(calls: AsyncMethodWrappers, original: Method) -> Method:
    """Wrap ``Connection.prepare``: record the text, and the physical connection that knows it."""

    @functools.wraps(original)
    async def prepare(self: Any, query: Any) -> Any:
        statement = await original(self, query)
        if (record := self.__dict__.get(KEY)) is not None:
            statement.__dict__.update({_TEXT: query, _GENERATION: record.generation})
        return statement

    return calls.call(prepare, Request.STATEMENT)


def executing(calls: AsyncMethodWrappers, begin: Method, original: Method) -> Method:
    """A method of ``PreparedStatement`` that executes it: for the wrapper it is a statement with parameters."""

    async def known(self: Any, text: Any, *args: Any, **kwargs: Any) -> Any:
        await _prepared_here(self)
        return await original(self, *args, **kwargs)

    execute_text = calls.statement(known, attrgetter("_connection"), named="", begin=begin)

    @functools.wraps(original)
    async def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        text = self.__dict__.get(_TEXT)
        return await (original(self, *args, **kwargs) if text is None else execute_text(self, text, *args, **kwargs))

    return execute


async def _prepared_here(statement: Any) -> None:
    """Prepare it again if another physical connection has taken over since."""
    connection, text = statement._connection, statement.__dict__.get(_TEXT)
    record = None if connection is None else connection.__dict__.get(KEY)
    if record is None or text is None or statement.__dict__[_GENERATION] == record.generation:
        return
    again = await _prepare(connection, text)
    statement._statement_id, statement._execute_header = again._statement_id, again._execute_header
    statement._meta = None
    statement.__dict__[_GENERATION] = record.generation


def caching(calls: AsyncMethodWrappers, original: Method) -> Method:
    """Wrap ``Connection._acquire_cached_statement``: what may change the session is sent as text, which the wrapper
    reads.
    """

    @functools.wraps(original)
    async def _acquire_cached_statement(self: Any, query: Any, nargs: int) -> Any:
        if KEY in self.__dict__ and calls.effects_of(query) is not None:
            return None
        return await original(self, query, nargs)

    return _acquire_cached_statement
