"""mysqlclient: what the contract suite asks of it."""

from pathlib import Path
from typing import Any, ClassVar

import MySQLdb
from MySQLdb.cursors import SSCursor

from ..mysql import ForMySQL


class MySQLClient(ForMySQL):
    """MySQLdb.connect."""

    name, error, unbuffered = "MySQLdb", MySQLdb.Error, SSCursor
    operational_error, programming_error = MySQLdb.OperationalError, MySQLdb.ProgrammingError
    ended_error: ClassVar[type[Exception]] = MySQLdb.OperationalError
    read_only_error = MySQLdb.OperationalError
    closed_error: ClassVar[type[Exception]] = MySQLdb.Error
    unknown_keyword_error = TypeError
    sources: ClassVar = {**ForMySQL.sources, "autocommit": "reported"}  # among the flags of each answer
    no_tls: ClassVar = {"ssl_mode": "DISABLED"}
    lacks = ForMySQL.lacks - {"encrypted passwords"} | {
        *("codes", "classes whose connect configures", "waits that a signal ends", "session reports"),
        "text of any bytes",
        "TLS of Python's",
    }

    def open(self, **keywords: Any) -> Any:
        return MySQLdb.connect(**keywords)

    def use_getters(self, connection: Any) -> None:
        assert connection.open
        assert connection.get_autocommit() in (False, 0)
        for name in ("thread_id", "character_set_name", "get_host_info", "get_proto_info", "get_server_info"):
            assert getattr(connection, name)()

    def tls(self, authority: Path, certificate: Path | None = None, key: Path | None = None) -> dict[str, Any]:
        own = {"cert": str(certificate), "key": str(key)} if certificate else {}
        return {"ssl_mode": "VERIFY_IDENTITY", "ssl": {"ca": str(authority), **own}}

    def use_charset(self, connection: Any, name: str) -> None:
        connection.set_character_set(name)

    def descriptor(self, connection: Any) -> int:
        return int(connection.fileno())

    def is_closed(self, connection: Any) -> bool:
        return not connection.open


DRIVER = MySQLClient()
