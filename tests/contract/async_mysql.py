"""What the suite asks of aiomysql and asyncmy alike; their coroutines run on a loop of their own."""

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import instrumented_wrapper

from .driver import Callback
from .loop import OwnLoop
from .mysql import READ_ONLY, ForMySQL

LOOP = OwnLoop()


class ForAsyncMySQL(ForMySQL):
    """A driver for MySQL on asyncio, with a pool whose ``release`` is no coroutine."""

    module: Any  # the driver
    connects: str  # the method that connects a connection
    is_async = True
    unknown_keyword_error = TypeError
    sources: ClassVar = {**ForMySQL.sources, "autocommit": "reported"}  # among the flags of each answer
    no_tls: ClassVar[Mapping[str, Any]] = {}
    commands_at_once = 2  # one for each statement; the answers are read then
    autocommit_sent = b"AUTOCOMMIT"
    lacks = ForMySQL.lacks - {"pools"} | {"classes whose connect configures", "COM_CHANGE_USER"}

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        return LOOP.call(function, *arguments, **keywords)

    @staticmethod
    def keywords(dsn: Any, **keywords: Any) -> dict[str, Any]:
        given = ForMySQL.keywords(dsn, **keywords)
        return {{"database": "db"}.get(name, name): value for name, value in given.items()}

    def open(self, **keywords: Any) -> Any:
        return self.call(self.module.connect, **keywords)

    def connect_subclass(self, dsn: Any, **settings: Any) -> Any:
        configure = self._configuring(Callback(settings))

        name, connects = self.connects, getattr(self.module.connection.Connection, self.connects)

        async def connected(connection: Any) -> None:
            await connects(connection)
            await configure(connection)

        kind = type("AppConnection", (self.module.connection.Connection,), {name: connected})

        async def connect() -> Any:
            connection = kind(**self.keywords(dsn))
            await getattr(connection, name)()
            return connection

        return self.call(connect)

    def close(self, connection: Any) -> None:
        with suppress(
            self.error, OSError, RuntimeError
        ):  # bare as well: the server has gone; RuntimeError is of uvloop
            self.call(connection.ensure_closed)

    def tls(self, authority: Path, certificate: Path | None = None, key: Path | None = None) -> dict[str, Any]:
        context = ssl.create_default_context(cafile=authority)
        if certificate:
            context.load_cert_chain(certificate, key)
        return {"ssl": context}

    def descriptor(self, connection: Any) -> int:
        transport = getattr(connection, "_transport", None) or connection._writer
        return int(transport.get_extra_info("socket").fileno())

    def execute(self, connection: Any, sql: str) -> list[tuple[Any, ...]]:
        async def execute() -> list[tuple[Any, ...]]:
            cursor = await connection.cursor()
            try:
                return await self._executed(cursor, sql)
            finally:
                await cursor.close()

        return self.call(execute)  # type: ignore[no-any-return]

    async def _executed(self, cursor: Any, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        await cursor.execute(sql, *parameters)
        rows = [tuple(row) for row in await cursor.fetchall()] if cursor.description else []
        while not parameters and await cursor.nextset():
            pass
        return rows

    def cursor(self, connection: Any) -> Any:
        return self.call(connection.cursor)

    def unbuffered_cursor(self, connection: Any) -> Any:
        return self.call(connection.cursor, self.module.cursors.SSCursor)

    def execute_on(self, cursor: Any, sql: str) -> list[tuple[Any, ...]]:
        return self.call(self._executed, cursor, sql)  # type: ignore[no-any-return]

    def execute_with(self, cursor: Any, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        return self.call(self._executed, cursor, sql, parameters)  # type: ignore[no-any-return]

    def execute_many(self, cursor: Any, sql: str, sets: Any) -> None:
        self.call(cursor.executemany, sql, sets)

    def in_transaction(self, connection: Any) -> bool:
        return bool(connection.get_transaction_status())

    def commit(self, connection: Any) -> None:
        self.call(connection.commit)

    def rollback(self, connection: Any) -> None:
        self.call(connection.rollback)

    @contextmanager
    def block(self, connection: Any) -> Iterator[None]:
        self.begin(connection)
        try:
            yield
            self.commit(connection)
        except BaseException:
            with suppress(Exception):  # closed for good
                self.rollback(connection)
            raise

    def begin(self, connection: Any) -> None:
        self.call(connection.begin)

    def rollback_two_phase(self, connection: Any, name: str) -> None:
        self.rollback(connection)

    def use_getters(self, connection: Any) -> None:
        assert not self.is_closed(connection)
        assert connection.get_autocommit() is False
        for name in ("thread_id", "character_set_name", "get_host_info", "get_proto_info", "get_server_info"):
            assert getattr(connection, name)()

    def set_autocommit(self, connection: Any, value: bool) -> None:
        self.call(connection.autocommit, value)

    def callback(self, what: Callback) -> Callable[..., Any]:
        return self._configuring(what)

    def _configuring(self, what: Callback) -> Callable[..., Any]:
        async def callback(*arguments: Any) -> Any:
            what.calls.append(arguments)
            for setting, value in what.changes.items():
                await self._set(arguments[-1], setting, value)
            if what.statement:
                await (await arguments[-1].cursor()).execute(what.statement)
            if what.closes:
                arguments[-1].close()
            if what.raises:
                raise what.raises
            return what.returns

        return callback

    async def _set(self, connection: Any, setting: str, value: Any) -> None:
        if setting == "autocommit":
            await connection.autocommit(value)
            return
        what = READ_ONLY[value] if setting == "read_only" else f"ISOLATION LEVEL {value.replace('-', ' ')}"
        await (await connection.cursor()).execute(f"SET SESSION TRANSACTION {what}")

    def verb(self, name: str, *, wrong: bool = False) -> Callable[..., Any]:
        verb = getattr(instrumented_wrapper, name if wrong else f"{name}_async")
        return lambda *arguments, **keywords: self.call(verb, *arguments, **keywords)

    def pool(self, dsn: Any, configure: Any = None, reset: Any = None, check: Any = None, kwargs: Any = None) -> Any:
        if configure is not None or reset is not None:
            self.needs("pool callbacks")
        given = self.keywords(dsn, **(kwargs or {}))
        return self.call(self.module.create_pool, minsize=1, maxsize=1, **given)

    def take(self, pool: Any, timeout: float | None = None) -> Any:
        return self.call(pool.acquire)

    def give_back(self, pool: Any, connection: Any) -> None:
        self.call(pool.release, connection)

    def close_pool(self, pool: Any) -> None:
        self.call(pool.terminate)
        self.call(pool.wait_closed)
