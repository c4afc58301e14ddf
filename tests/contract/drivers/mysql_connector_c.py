"""mysql-connector-python, its connections of the C extension: as the pure ones."""

from typing import Any

from mysql.connector.connection_cext import CMySQLConnection

from .mysql_connector import MySQLConnector


class MySQLConnectorC(MySQLConnector):
    """mysql.connector.connect, with the C extension."""

    pure = False
    lacks = MySQLConnector.lacks | {
        "batches from iterators",
        "waits that a signal ends",
        "sockets in sight",
        "TLS of Python's",
    }
    commit_sent, rollback_sent = b"commit", b"rollback"
    connection: Any = CMySQLConnection

    def descriptor(self, connection: Any) -> int:
        self.needs("sockets in sight")
        return -1

    def is_closed(self, connection: Any) -> bool:
        return not connection._cmysql.ping()


DRIVER = MySQLConnectorC()
