"""asyncpg: what the contract suite asks of it; its coroutines run on a loop of their own.

It is always in autocommit. An app that wants no autocommit begins its transactions itself, and so does this one.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import asyncpg
from psycopg.conninfo import conninfo_to_dict

import instrumented_wrapper
from instrumented_wrapper import session_state

from ..driver import Callback, Needs
from ..loop import OwnLoop
from ..sites import PostgreSQL

LOOP = OwnLoop()
NAMES = ("read_only", "isolation_level", "deferrable")
DEFAULTS = {name: f"default_transaction_{name.removesuffix('_level')}" for name in NAMES}  # as the server has them
SWITCHES = {True: "on", False: "off"}


@dataclass
class Cursor:
    """Stands for a cursor of other drivers."""

    connection: Any


class AsyncPG(Needs):
    """asyncpg.connect and asyncpg.Pool."""

    name, is_async, sites = "asyncpg", True, (PostgreSQL,)
    operational_error = asyncpg.PostgresConnectionError
    refused_error: Any = (OSError, asyncpg.PostgresConnectionError)  # the system's; or it is cut off in the middle
    no_primary_error, no_primary = asyncpg.TargetServerAttributeNotMatched, ""
    names = DEFAULTS
    programming_error: Any = (asyncpg.InterfaceError, asyncpg.SyntaxOrAccessError)  # ours, and the server's
    ended_error: ClassVar[type[Exception]] = asyncpg.PostgresError
    aborted_error = asyncpg.InFailedSQLTransactionError
    read_only_error = asyncpg.ReadOnlySQLTransactionError
    closed_error: ClassVar[type[Exception]] = asyncpg.InterfaceError
    unknown_keyword_error = TypeError
    own_keywords: frozenset[str] = frozenset()
    for_several: ClassVar[Mapping[str, Any]] = {}
    default: ClassVar = dict(zip(NAMES, (False, "read committed", False), strict=True))
    changed: ClassVar = dict(zip(NAMES, (True, "serializable", True), strict=True))
    another = ("deferrable", True)
    refused: ClassVar[Mapping[str, Any]] = {}
    unsent: ClassVar[Mapping[str, Any]] = {}
    shown: ClassVar = dict.fromkeys(NAMES, "<hidden>")  # they live on the server
    shown_default = shown
    sources: ClassVar = dict(zip(NAMES, ("reported", "server", "server"), strict=True))
    commit_sent, rollback_sent = b"COMMIT", b"ROLLBACK"
    round_trips = 1
    lacks = frozenset(
        {
            *("implicit commits", "ends of nothing", "settings without a round trip", "text with its parameters"),
            *("classes whose connect configures", "pool checks", "pool timeouts", "settings of the driver"),
            *("pools that reset each setting", "empty batches that send nothing", "autocommit as a setting"),
            *("libpq", "codes of losses"),
            *(() if hasattr(asyncpg.Connection, "get_reset_query") else ("pool callbacks",)),  # `reset`, since 0.30
        }
    )
    pool_check, pool_timeout = None, TimeoutError
    _proxies: ClassVar[dict[Any, Any]] = {}
    _autocommit: ClassVar[WeakKeyDictionary[Any, bool]] = WeakKeyDictionary()

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        return LOOP.call(function, *arguments, **keywords)

    @staticmethod
    def keywords(dsn: str, **keywords: Any) -> dict[str, Any]:
        given: dict[str, Any] = {**conninfo_to_dict(dsn)}
        settings = {"application_name": str(given.pop("application_name", ""))}
        for option in str(given.pop("options", "")).split("-c ")[1:]:
            name, _, value = option.strip().partition("=")
            settings[name] = value
        given.pop("gssencmode", None)
        host, port = str(given.pop("host", "")), str(given.pop("port", ""))
        where = {"host": host.split(","), "port": [int(each) for each in port.split(",")]}
        renamed = {"dbname": "database", "sslmode": "ssl", "connect_timeout": "timeout"}
        rest = {renamed.get(name, name): value for name, value in given.items()}
        if "timeout" in rest:
            rest["timeout"] = float(rest["timeout"])
        return {**where, **rest, "server_settings": settings, **keywords}

    def connect(self, dsn: str, autocommit: bool = False, **keywords: Any) -> Any:
        connection = self.call(asyncpg.connect, **self.keywords(dsn, **keywords))
        self._autocommit[connection] = autocommit
        return connection

    def connect_subclass(self, dsn: str, **settings: Any) -> Any:
        self.needs("classes whose connect configures")

    def close(self, connection: Any) -> None:
        self.call(connection.close)

    def is_closed(self, connection: Any) -> bool:
        return bool(connection.is_closed())

    def was_reset(self, connection: Any, sent: bytes) -> bool:
        return b"set_config" in sent

    def execute(self, connection: Any, sql: str) -> list[tuple[Any, ...]]:
        return self._execute(connection, sql)

    def _execute(self, connection: Any, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        async def execute() -> list[tuple[Any, ...]]:
            closed = connection.is_closed()  # asyncpg does not tell then whether a transaction is open
            begins = not (self._autocommit.get(connection, False) or closed or connection.is_in_transaction())
            if begins and not sql.lstrip().upper().startswith(("BEGIN", "START", "COMMIT", "ROLLBACK", "END")):
                await connection.execute("BEGIN")
            if not (parameters or self._has_rows(sql)):
                await connection.execute(sql)
                return []
            return [tuple(row) for row in await connection.fetch(sql, *parameters)]

        return self.call(execute)  # type: ignore[no-any-return]

    @staticmethod
    def _has_rows(sql: str) -> bool:
        """Return True for a text that asyncpg has rows of: it drops those of a script."""
        single = ";" not in sql.rstrip("; ") or "$$" in sql
        return single and sql.lstrip().upper().startswith(("SELECT", "SHOW", "TABLE", "VALUES", "WITH"))

    def cursor(self, connection: Any) -> Any:
        return Cursor(connection)

    def execute_on(self, cursor: Any, sql: str) -> list[tuple[Any, ...]]:
        return self._execute(cursor.connection, sql)

    def execute_with(self, cursor: Any, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        return self._execute(cursor.connection, self._numbered(sql), *(parameters or ()))

    @staticmethod
    def _numbered(sql: str) -> str:
        first, *others = sql.split("%s")
        return first + "".join(f"${number}{text}" for number, text in enumerate(others, start=1))

    def execute_many(self, cursor: Any, sql: str, sets: Any) -> None:
        self.call(cursor.connection.executemany, self._numbered(sql), sets)

    def in_transaction(self, connection: Any) -> bool:
        return not connection.is_closed() and bool(connection.is_in_transaction())

    def commit(self, connection: Any) -> None:
        self.call(connection.execute, "COMMIT")

    def rollback(self, connection: Any) -> None:
        if connection.is_closed() or connection.is_in_transaction():
            self.call(connection.execute, "ROLLBACK")

    @contextmanager
    def block(self, connection: Any) -> Iterator[None]:
        transaction = connection.transaction()
        self.call(transaction.__aenter__)
        try:
            yield
        except BaseException as error:
            if not self.call(transaction.__aexit__, type(error), error, error.__traceback__):
                raise
        else:
            self.call(transaction.__aexit__, None, None, None)

    def prepare(self, connection: Any, name: str, *statements: str) -> None:
        for text in ("BEGIN", *statements, f"PREPARE TRANSACTION '{name}'"):
            self.call(connection.execute, text)

    def commit_prepared(self, connection: Any, name: str) -> None:
        self.call(connection.execute, f"COMMIT PREPARED '{name}'")

    def rollback_two_phase(self, connection: Any, name: str) -> None:
        self.rollback(connection)

    def set(self, connection: Any, setting: str, value: Any) -> None:
        if setting == "autocommit":
            self._autocommit[connection] = value
        else:
            self.call(connection.execute, self._set(setting, value))

    @staticmethod
    def _set(setting: str, value: Any) -> str:
        text = SWITCHES.get(value, value)
        return f"SET {DEFAULTS[setting]} = '{text}'"

    def get(self, connection: Any, setting: str) -> Any:
        if setting == "autocommit":
            return self._autocommit.get(connection, False)
        return self._read(self.call(connection.fetchval, f"SHOW {DEFAULTS[setting]}"))

    @staticmethod
    def _read(text: Any) -> Any:
        return {"on": True, "off": False}.get(text, text)

    def told(self, setting: str, value: Any) -> Any:
        return SWITCHES.get(value, value)

    def known(self, connection: Any) -> dict[str, tuple[Any, Any]]:
        ours = {name: setting for setting, name in DEFAULTS.items()}
        found = session_state(connection).items()
        return {ours.get(name, name): (self._read(s.pristine_value), self._read(s.value)) for name, s in found}

    def use_getters(self, connection: Any) -> None:
        assert not connection.is_closed()
        assert connection.get_server_pid()
        assert connection.get_settings().server_version
        assert connection.get_server_version()
        assert connection.is_in_transaction() is False

    def state_of(self, error: BaseException) -> str | None:
        """asyncpg's own error of a loss has a SQLSTATE of asyncpg's."""
        return getattr(error, "sqlstate", None)

    code_of = state_of

    def callback(self, what: Callback) -> Callable[..., Any]:
        async def callback(*arguments: Any) -> Any:
            what.calls.append(arguments)
            for setting, value in what.changes.items():
                if setting != "autocommit":
                    await arguments[-1].execute(self._set(setting, value))
            if what.statement:
                await arguments[-1].execute(what.statement)
            if what.closes:
                await arguments[-1].close()
            if what.raises:
                raise what.raises
            return what.returns

        return callback

    def verb(self, name: str, *, wrong: bool = False) -> Callable[..., Any]:
        verb = getattr(instrumented_wrapper, name if wrong else f"{name}_async")
        return lambda *arguments, **keywords: self.call(verb, *arguments, **keywords)

    def wish_for(self, attrs: str) -> dict[str, str]:
        return {"target_session_attrs": attrs}

    def pool(self, dsn: str, **keywords: Any) -> Any:
        for name in {"check"} & keywords.keys():
            self.needs(f"pool {name}s")
        if "reset" in keywords:
            self.needs("pool callbacks")
        renamed = {"configure": "init", "reset": "reset"}
        given = {
            renamed.get(name, name): self.callback(value) if isinstance(value, Callback) else value
            for name, value in keywords.items()
        }
        given.update(given.pop("kwargs", {}))
        return self.call(asyncpg.create_pool, min_size=1, max_size=1, **self.keywords(dsn, **given))

    def take(self, pool: Any, timeout: float | None = None) -> Any:
        """Return the connection itself: what asyncpg hands out is a new proxy each time."""
        proxy = self.call(pool.acquire, timeout=timeout)
        self._proxies[proxy._con] = proxy
        return proxy._con

    def give_back(self, pool: Any, connection: Any) -> None:
        self._autocommit.pop(connection, None)
        self.call(pool.release, self._proxies.pop(connection))

    def close_pool(self, pool: Any) -> None:
        with suppress(asyncpg.InterfaceError):
            self.call(pool.terminate)


DRIVER = AsyncPG()
