"""psycopg 3, sync: what the contract suite asks of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import psycopg
import psycopg_pool
from psycopg import IsolationLevel

import instrumented_wrapper

from ..driver import Callback, Needs
from ..sites import PostgreSQL

NAMES = ("autocommit", "read_only", "isolation_level", "deferrable")


class AppConnection(psycopg.Connection[Any]):
    """A class of the app's."""

    on_connect: Callable[..., Any]

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Any:
        connection = super().connect(*args, **kwargs)
        cls.on_connect(connection)
        return connection


class PsycopgSync(Needs):
    """psycopg.Connection and ConnectionPool. The async twin only calls otherwise."""

    name, is_async, sites = "psycopg", False, (PostgreSQL,)
    operational_error, programming_error = psycopg.OperationalError, psycopg.ProgrammingError
    ended_error: ClassVar[type[Exception]] = psycopg.OperationalError
    aborted_error = psycopg.errors.InFailedSqlTransaction
    read_only_error = psycopg.errors.ReadOnlySqlTransaction
    closed_error: ClassVar[type[Exception]] = psycopg.OperationalError
    default: ClassVar = dict(zip(NAMES, (False, None, None, None), strict=True))
    changed: ClassVar = dict(zip(NAMES, (True, True, IsolationLevel.SERIALIZABLE, True), strict=True))
    unsent: ClassVar = changed
    another = ("deferrable", True)
    refused: ClassVar = {"read_only": False, "autocommit": True}
    sources: ClassVar = dict.fromkeys(NAMES, "driver")
    commit_sent, rollback_sent = b"COMMIT", b"ROLLBACK"
    round_trips = 0
    for_several: ClassVar[Mapping[str, Any]] = {}
    own_keywords: frozenset[str] = frozenset()
    unknown_keyword_error = psycopg.ProgrammingError
    shown: ClassVar = dict(zip(NAMES, ("true", "true", "SERIALIZABLE", "true"), strict=True))
    shown_default: ClassVar = dict(zip(NAMES, ("false", "default", "default", "default"), strict=True))
    lacks = frozenset({"implicit commits", "ends of nothing"})
    connection: Any = psycopg.Connection
    app_connection: Any = AppConnection
    pool_class: Any = psycopg_pool.ConnectionPool
    pool_check: Any = staticmethod(psycopg_pool.ConnectionPool.check_connection)
    pool_timeout = psycopg_pool.PoolTimeout
    block_methods = "__enter__", "__exit__"

    def connect(self, dsn: str, **keywords: Any) -> Any:
        return self.call(self.connection.connect, dsn, **keywords)

    def connect_subclass(self, dsn: str, **settings: Any) -> Any:
        namespace = {"on_connect": staticmethod(self.callback(Callback(settings)))}
        return self.call(type("Configured", (self.app_connection,), namespace).connect, dsn)

    def close(self, connection: Any) -> None:
        self.call(connection.close)

    def is_closed(self, connection: Any) -> bool:
        return bool(connection.closed)

    def was_reset(self, connection: Any, sent: bytes) -> bool:
        return {name: self.get(connection, name) for name in self.default} == self.default

    def execute(self, connection: Any, sql: str) -> list[tuple[Any, ...]]:
        return self._rows(self.call(connection.execute, sql))

    def cursor(self, connection: Any) -> Any:
        return connection.cursor()

    def execute_on(self, cursor: Any, sql: str) -> list[tuple[Any, ...]]:
        return self._rows(self.call(cursor.execute, sql))

    def _rows(self, cursor: Any) -> list[tuple[Any, ...]]:
        return self.call(cursor.fetchall) if cursor.description else []

    def execute_with(self, cursor: Any, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        return self._rows(self.call(cursor.execute, sql, parameters))

    def execute_many(self, cursor: Any, sql: str, sets: Any) -> None:
        self.call(cursor.executemany, sql, sets)

    def in_transaction(self, connection: Any) -> bool:
        return connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE

    def commit(self, connection: Any) -> None:
        self.call(connection.commit)

    def rollback(self, connection: Any) -> None:
        self.call(connection.rollback)

    @contextmanager
    def block(self, connection: Any) -> Iterator[None]:
        transaction = connection.transaction()
        enter, leave = (getattr(transaction, method) for method in self.block_methods)
        self.call(enter)
        try:
            yield
        except BaseException as error:
            if not self.call(leave, type(error), error, error.__traceback__):
                raise
        else:
            self.call(leave, None, None, None)

    def prepare(self, connection: Any, name: str, *statements: str) -> None:
        self.call(connection.tpc_begin, connection.xid(1, name, "branch"))
        for statement in statements:
            self.execute(connection, statement)
        self.call(connection.tpc_prepare)

    def commit_prepared(self, connection: Any, name: str) -> None:
        self.call(connection.tpc_commit)

    def rollback_two_phase(self, connection: Any, name: str) -> None:
        self.call(connection.tpc_rollback)

    def set(self, connection: Any, setting: str, value: Any) -> None:
        self.call(getattr(connection, f"set_{setting}"), value)

    def get(self, connection: Any, setting: str) -> Any:
        return getattr(connection, setting)

    def use_getters(self, connection: Any) -> None:
        assert {name: self.get(connection, name) for name in self.default} == {**self.default, "read_only": True}

    def state_of(self, error: BaseException) -> str | None:
        return getattr(error, "sqlstate", None)

    code_of = state_of

    def callback(self, what: Callback) -> Callable[..., Any]:
        def callback(*arguments: Any) -> Any:
            what.calls.append(arguments)
            for setting, value in what.changes.items():
                getattr(arguments[-1], f"set_{setting}")(value)
            if what.statement:
                arguments[-1].execute(what.statement)
            if what.closes:
                arguments[-1].close()
            if what.raises:
                raise what.raises
            return what.returns

        return callback

    def verb(self, name: str, *, wrong: bool = False) -> Callable[..., Any]:
        verb = getattr(instrumented_wrapper, f"{name}_async" if self.is_async is not wrong else name)
        return lambda *arguments, **keywords: self._finished(verb, *arguments, **keywords)

    def _finished(self, verb: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        result = self.call(verb, *arguments, **keywords)
        if hasattr(result, "send"):  # the wrong twin: its first step tells
            result.send(None)
        return result

    def wish_for(self, attrs: str) -> dict[str, str]:
        return {"target_session_attrs": attrs}

    def pool(self, dsn: str, **keywords: Any) -> Any:
        given = {name: self.callback(v) if isinstance(v, Callback) else v for name, v in keywords.items()}
        pool = self.call(self.pool_class, dsn, min_size=1, max_size=1, open=False, timeout=20, **given)
        self.call(pool.open)
        return pool

    def take(self, pool: Any, timeout: float | None = None) -> Any:
        return self.call(pool.getconn, timeout)

    def give_back(self, pool: Any, connection: Any) -> None:
        self.call(pool.putconn, connection)

    def close_pool(self, pool: Any) -> None:
        self.call(pool.close)


DRIVER = PsycopgSync()
