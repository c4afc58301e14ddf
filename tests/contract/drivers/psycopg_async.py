"""psycopg 3, async: as the sync one, its coroutines run on a loop of their own."""

from collections.abc import Callable
from typing import Any

import psycopg
import psycopg_pool

from ..driver import Callback
from ..loop import OwnLoop
from .psycopg_sync import PsycopgSync

LOOP = OwnLoop()


class AsyncAppConnection(psycopg.AsyncConnection[Any]):
    """A class of the app's."""

    on_connect: Callable[..., Any]

    @classmethod
    async def connect(cls, *args: Any, **kwargs: Any) -> Any:
        connection = await super().connect(*args, **kwargs)
        await cls.on_connect(connection)
        return connection


class PsycopgAsync(PsycopgSync):
    """psycopg.AsyncConnection and AsyncConnectionPool."""

    is_async = True
    connection: Any = psycopg.AsyncConnection
    app_connection: Any = AsyncAppConnection
    pool_class: Any = psycopg_pool.AsyncConnectionPool
    pool_check: Any = staticmethod(psycopg_pool.AsyncConnectionPool.check_connection)
    block_methods = "__aenter__", "__aexit__"

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        return LOOP.call(function, *arguments, **keywords)

    def callback(self, what: Callback) -> Callable[..., Any]:
        async def callback(*arguments: Any) -> Any:
            what.calls.append(arguments)
            for setting, value in what.changes.items():
                await getattr(arguments[-1], f"set_{setting}")(value)
            if what.statement:
                await arguments[-1].execute(what.statement)
            if what.closes:
                await arguments[-1].close()
            if what.raises:
                raise what.raises
            return what.returns

        return callback


DRIVER = PsycopgAsync()
