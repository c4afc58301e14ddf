"""aiomysql: what the contract suite asks of it."""

from typing import Any, ClassVar

import aiomysql
import aiomysql.connection

from ..async_mysql import ForAsyncMySQL


class AioMySQL(ForAsyncMySQL):
    """aiomysql.connect and aiomysql.Pool."""

    name, module, error, connects = "aiomysql", aiomysql, aiomysql.Error, "_connect"
    operational_error, programming_error = aiomysql.OperationalError, aiomysql.ProgrammingError
    ended_error: ClassVar[type[Exception]] = aiomysql.OperationalError
    read_only_error = aiomysql.OperationalError
    closed_error: ClassVar[type[Exception]] = aiomysql.InterfaceError
    lacks = ForAsyncMySQL.lacks | {"bytes as parameters"}  # with PyMySQL 1.2

    def is_closed(self, connection: Any) -> bool:
        return bool(connection.closed)


DRIVER = AioMySQL()
