"""sqlite3: what the contract suite asks of it. There is no server, and no failover."""

import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from ..blocking import Blocking
from ..sites import SQLite

NAMES = ("isolation_level", "read_only")


class SQLite3(Blocking):
    """sqlite3.connect."""

    name, sites = "sqlite3", (SQLite,)
    operational_error, programming_error = sqlite3.OperationalError, sqlite3.OperationalError
    ended_error = aborted_error = read_only_error = sqlite3.OperationalError
    closed_error: ClassVar[type[Exception]] = sqlite3.ProgrammingError
    default: ClassVar = dict(zip(NAMES, ("", False), strict=True))
    changed: ClassVar = dict(zip(NAMES, ("IMMEDIATE", True), strict=True))
    another = ("isolation_level", "IMMEDIATE")
    refused: ClassVar[Mapping[str, Any]] = {"isolation_level": "NO SUCH LEVEL"}
    shown: ClassVar = dict(zip(NAMES, ("IMMEDIATE", "true"), strict=True))
    shown_default: ClassVar = dict(zip(NAMES, ("", "false"), strict=True))
    sources: ClassVar = dict(zip(NAMES, ("driver", "server"), strict=True))
    lacks = frozenset({"autocommit", "pools", "server", "classes whose connect configures"})
    round_trips = 1  # as it is told: it goes no way

    def connect(self, dsn: str, **keywords: Any) -> Any:
        if "autocommit" in keywords:
            self.needs("autocommit")
        return sqlite3.connect(dsn, **keywords)

    def is_closed(self, connection: Any) -> bool:
        try:
            connection.total_changes  # noqa: B018
        except sqlite3.ProgrammingError:
            return True
        return False

    def execute_on(self, cursor: Any, sql: str) -> list[tuple[Any, ...]]:
        return list(cursor.execute(sql).fetchall())

    def execute_with(self, cursor: Any, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        return list(cursor.execute(sql.replace("%s", "?"), parameters).fetchall())

    def execute_many(self, cursor: Any, sql: str, sets: Any) -> None:
        cursor.executemany(sql.replace("%s", "?"), sets)

    @contextmanager
    def block(self, connection: Any) -> Iterator[None]:
        with connection:
            yield

    def set(self, connection: Any, setting: str, value: Any) -> None:
        if setting == "autocommit":
            self.needs("autocommit")
        elif setting == "read_only":
            self.execute(connection, f"PRAGMA query_only = {int(value)}")
        else:
            setattr(connection, setting, value)

    def get(self, connection: Any, setting: str) -> Any:
        if setting == "read_only":
            return bool(self.execute(connection, "PRAGMA query_only")[0][0])
        return getattr(connection, setting)

    def code_of(self, error: BaseException) -> str | None:
        return error.sqlite_errorname if sys.version_info >= (3, 11) and isinstance(error, sqlite3.Error) else None

    def verb(self, name: str, *, wrong: bool = False) -> Callable[..., Any]:
        if name == "switch" and not wrong:
            self.needs("server")
        return super().verb(name, wrong=wrong)

    def wish_for(self, attrs: str) -> dict[str, str]:
        self.needs("server")
        return {}


DRIVER = SQLite3()
