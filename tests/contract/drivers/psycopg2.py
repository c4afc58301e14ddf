"""psycopg2: what the contract suite asks of it, and what it has no such thing for."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import psycopg2
import psycopg2.pool
from psycopg2 import errors, extensions

from ..blocking import Blocking
from ..driver import Callback
from ..sites import PostgreSQL

NAMES = ("autocommit", "read_only", "isolation_level", "deferrable")
ATTRIBUTES = {"read_only": "readonly"}  # where psycopg2 calls a setting otherwise


def change(connection: Any, setting: str, value: Any) -> None:
    setattr(connection, ATTRIBUTES.get(setting, setting), value)


def configured_by(configure: Callable[[Any], Any]) -> type[Any]:
    """Return a connection class of the app's that configures each connection before anybody has it."""

    class AppConnection(extensions.connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            configure(self)

    return AppConnection


class Psycopg2(Blocking):
    """psycopg2.connect and ThreadedConnectionPool."""

    name, sites = "psycopg2", (PostgreSQL,)
    operational_error, programming_error = psycopg2.OperationalError, psycopg2.ProgrammingError
    ended_error: ClassVar[type[Exception]] = psycopg2.OperationalError
    aborted_error = errors.InFailedSqlTransaction
    read_only_error = errors.ReadOnlySqlTransaction
    closed_error: ClassVar[type[Exception]] = psycopg2.InterfaceError
    default: ClassVar = dict(zip(NAMES, (False, None, None, None), strict=True))
    serializable = extensions.ISOLATION_LEVEL_SERIALIZABLE
    changed: ClassVar = dict(zip(NAMES, (True, True, serializable, True), strict=True))
    # In autocommit psycopg2 sends the others, one by one.
    unsent: ClassVar = {name: value for name, value in changed.items() if name != "autocommit"}
    another = ("deferrable", True)
    refused: ClassVar = {"read_only": False, "autocommit": True}
    sources: ClassVar = dict.fromkeys(NAMES, "driver")
    commit_sent, rollback_sent = b"COMMIT", b"ROLLBACK"
    round_trips = 0
    unknown_keyword_error = psycopg2.ProgrammingError
    shown: ClassVar = dict(zip(NAMES, ("true", "true", "SERIALIZABLE", "true"), strict=True))
    shown_default: ClassVar = dict(zip(NAMES, ("false", "default", "default", "default"), strict=True))
    lacks = frozenset(
        {
            *("nested blocks", "pool callbacks", "pool checks", "pool timeouts", "codes of losses"),
            *("methods that end what a text began", "implicit commits"),
        }
    )
    pool_timeout = psycopg2.pool.PoolError

    def connect(self, dsn: str, autocommit: bool | None = None, **keywords: Any) -> Any:
        if autocommit is not None:
            configured = configured_by(lambda connection: change(connection, "autocommit", autocommit))
            keywords["connection_factory"] = configured
        return psycopg2.connect(dsn, **keywords)

    def connect_subclass(self, dsn: str, **settings: Any) -> Any:
        return psycopg2.connect(dsn, connection_factory=configured_by(self.callback(Callback(settings))))

    def is_closed(self, connection: Any) -> bool:
        return bool(connection.closed)

    def was_reset(self, connection: Any, sent: bytes) -> bool:
        return {name: self.get(connection, name) for name in self.default} == self.default

    def in_transaction(self, connection: Any) -> bool:
        return connection.info.transaction_status != extensions.TRANSACTION_STATUS_IDLE

    @contextmanager
    def block(self, connection: Any) -> Iterator[None]:
        with connection:
            yield

    def prepare(self, connection: Any, name: str, *statements: str) -> None:
        connection.tpc_begin(connection.xid(1, name, "branch"))
        for statement in statements:
            self.execute(connection, statement)
        connection.tpc_prepare()

    def commit_prepared(self, connection: Any, name: str) -> None:
        connection.tpc_commit()

    def rollback_two_phase(self, connection: Any, name: str) -> None:
        connection.tpc_rollback()

    def set(self, connection: Any, setting: str, value: Any) -> None:
        change(connection, setting, value)

    def get(self, connection: Any, setting: str) -> Any:
        return getattr(connection, ATTRIBUTES.get(setting, setting))

    def use_getters(self, connection: Any) -> None:
        assert {name: self.get(connection, name) for name in self.default} == {**self.default, "read_only": True}

    def state_of(self, error: BaseException) -> str | None:
        return error.pgcode if isinstance(error, psycopg2.Error) else None

    def wish_for(self, attrs: str) -> dict[str, str]:
        return {"target_session_attrs": attrs}

    def pool(
        self,
        dsn: str,
        configure: Callback | None = None,
        reset: Callback | None = None,
        check: Any = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if reset is not None:
            self.needs("pool callbacks")
        keywords = dict(kwargs or {})
        if configure is not None:  # the way of psycopg2's pools to do that
            keywords["connection_factory"] = configured_by(self.callback(configure))
        return psycopg2.pool.ThreadedConnectionPool(1, 1, dsn, **keywords)

    def take(self, pool: Any, timeout: float | None = None) -> Any:
        return pool.getconn()

    def give_back(self, pool: Any, connection: Any) -> None:
        pool.putconn(connection)

    def close_pool(self, pool: Any) -> None:
        if not pool.closed:
            pool.closeall()


DRIVER = Psycopg2()
