"""mysql-connector-python, its pure connections: what the contract suite asks of them."""

from contextlib import suppress
from itertools import count
from typing import Any, ClassVar

import mysql.connector
from mysql.connector.connection import MySQLConnection
from mysql.connector.pooling import MySQLConnectionPool

from ..driver import Callback
from ..mysql import ForMySQL

NUMBERS = count()
GONE = ("-1", "1047", "2013", "2055")  # "not available", a node of Galera that does not serve, lost


class MySQLConnector(ForMySQL):
    """mysql.connector.connect."""

    name, error = "mysql.connector", mysql.connector.Error
    operational_error, programming_error = mysql.connector.OperationalError, mysql.connector.ProgrammingError
    ended_error: ClassVar[type[Exception]] = mysql.connector.Error  # a DatabaseError: it goes by the SQLSTATE
    read_only_error = mysql.connector.Error
    closed_error: ClassVar[type[Exception]] = mysql.connector.Error
    unknown_keyword_error = AttributeError
    own_keywords = frozenset({"failover"})
    takes_files: ClassVar = {"allow_local_infile": True}
    parameter_names = ("_arg1", "_arg2")
    lacks = (ForMySQL.lacks - {"pools", "prepared cursors"}) | {
        *("text with its parameters", "session reports", "encrypted passwords"),
        *("portions of batches", "results that are left unread"),
    }
    pool_timeout = mysql.connector.errors.PoolError
    pure = True
    connection: Any = MySQLConnection
    lent: ClassVar[dict[int, Any]] = {}

    def open(self, **keywords: Any) -> Any:
        return mysql.connector.connect(use_pure=self.pure, **keywords)

    def connect_subclass(self, dsn: Any, **settings: Any) -> Any:
        configure = self.callback(Callback(settings))

        class AppConnection(self.connection):  # type: ignore[name-defined, misc]
            def connect(self, **kwargs: Any) -> None:
                super().connect(**kwargs)
                configure(self)

        return AppConnection(**self.keywords(dsn))

    def prepared_cursor(self, connection: Any) -> Any:
        return connection.cursor(prepared=True)

    def unbuffered_cursor(self, connection: Any) -> Any:
        return connection.cursor(buffered=False)

    def begin(self, connection: Any) -> None:
        connection.start_transaction()

    def set_autocommit(self, connection: Any, value: bool) -> None:
        connection.autocommit = value

    def use_getters(self, connection: Any) -> None:
        assert connection.in_transaction in (True, False)
        for name in ("connection_id", "server_host", "server_port", "user", "python_charset"):
            assert getattr(connection, name)
        for name in ("autocommit", "database", "time_zone", "sql_mode"):  # these ask the server
            with suppress(self.error):
                getattr(connection, name)

    def code_of(self, error: BaseException) -> str:
        return str(getattr(error, "errno", None))

    def in_transaction(self, connection: Any) -> bool:
        return bool(connection.in_transaction)

    def descriptor(self, connection: Any) -> int:
        return int(connection._socket.sock.fileno())

    def is_closed(self, connection: Any) -> bool:
        return connection._socket.sock.fileno() < 0

    def pool(self, dsn: Any, configure: Any = None, reset: Any = None, check: Any = None, kwargs: Any = None) -> Any:
        if configure is not None or reset is not None:
            self.needs("pool callbacks")
        given = self.keywords(dsn, **(kwargs or {}))
        return MySQLConnectionPool(pool_name=f"pool_{next(NUMBERS)}", pool_size=1, use_pure=self.pure, **given)

    def take(self, pool: Any, timeout: float | None = None) -> Any:
        """Return the connection itself: the pool wraps it anew each time."""
        pooled = pool.get_connection()
        self.lent[id(pooled._cnx)] = pooled
        return pooled._cnx

    def give_back(self, pool: Any, connection: Any) -> None:
        """Close what the pool lent: that resets the session, and raises, bare as well, where the server has gone.

        The pool has the connection by then all the same.
        """
        try:
            self.lent.pop(id(connection)).close()
        except self.error as error:
            if self.code_of(error) not in GONE:
                raise

    def close_pool(self, pool: Any) -> None:
        pool._remove_connections()


DRIVER = MySQLConnector()
