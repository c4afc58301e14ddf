"""PyMySQL: what the contract suite asks of it."""

from typing import Any, ClassVar

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT, SERVER_STATUS
from pymysql.cursors import SSCursor

from ..driver import Callback
from ..mysql import ForMySQL


class PyMySQL(ForMySQL):
    """pymysql.connect."""

    name, error, unbuffered = "pymysql", pymysql.err.Error, SSCursor
    operational_error, programming_error = pymysql.err.OperationalError, pymysql.err.ProgrammingError
    ended_error: ClassVar[type[Exception]] = pymysql.err.OperationalError
    read_only_error = pymysql.err.OperationalError
    closed_error: ClassVar[type[Exception]] = pymysql.err.InterfaceError
    unknown_keyword_error = TypeError
    sources: ClassVar = {**ForMySQL.sources, "autocommit": "reported"}  # among the flags of each answer
    commands_at_once = 2  # one for each; it reads the answers then
    autocommit_sent = b"AUTOCOMMIT"
    for_several: ClassVar = {"client_flag": CLIENT.MULTI_STATEMENTS}
    lacks = ForMySQL.lacks | {"COM_CHANGE_USER"} | ({"codes"} if pymysql.VERSION < (1, 2) else set())

    def open(self, **keywords: Any) -> Any:
        return pymysql.connect(**keywords)

    def connect_subclass(self, dsn: Any, **settings: Any) -> Any:
        configure = self.callback(Callback(settings))

        class AppConnection(Connection):
            def connect(self, sock: Any = None) -> None:
                super().connect(sock)
                configure(self)

        return AppConnection(**self.keywords(dsn))

    def use_getters(self, connection: Any) -> None:
        assert connection.open
        assert connection.get_autocommit() is False
        for name in ("thread_id", "character_set_name", "get_host_info", "get_proto_info", "get_server_info"):
            assert getattr(connection, name)()

    def in_transaction(self, connection: Any) -> bool:
        return bool(connection.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def descriptor(self, connection: Any) -> int:
        return int(connection._sock.fileno())

    def is_closed(self, connection: Any) -> bool:
        return not connection.open


DRIVER = PyMySQL()
