"""asyncpg with the calls that the operations make: a cursor is the connection, and a transaction is begun by SQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
from psycopg.conninfo import conninfo_to_dict

__all__ = ["Connection"]

_RENAMED = {"dbname": "database", "host": "host", "port": "port", "user": "user", "password": "password"}


class Connection:
    """A connection, which is a cursor of its own as well."""

    def __init__(self, connection: Any, autocommit: bool) -> None:
        self._connection, self._autocommit, self._row = connection, autocommit, None

    @classmethod
    async def connect(cls, where: str, autocommit: bool) -> Connection:
        """Connect by a connection string of libpq."""
        given = {_RENAMED[name]: value for name, value in conninfo_to_dict(where).items() if name in _RENAMED}
        return cls(await asyncpg.connect(**given), autocommit)

    def cursor(self, name: str = "") -> Connection | ServerCursor:
        """Return a cursor; one on the server where it has a name."""
        return ServerCursor(self._connection) if name else self

    async def execute(self, text: str) -> None:
        """Run a statement, within a transaction outside autocommit."""
        if not (self._autocommit or self._connection.is_in_transaction()):
            await self._connection.execute("BEGIN;")
        self._row = await self._connection.fetchrow(text)

    async def fetchone(self) -> Any:
        """Return the row that was fetched."""
        return self._row

    async def commit(self) -> None:
        """Commit by SQL."""
        await self._connection.execute("COMMIT;")

    async def rollback(self) -> None:
        """Roll back by SQL."""
        await self._connection.execute("ROLLBACK;")

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()


class ServerCursor:
    """A cursor on the server: asyncpg fetches 50 rows at once where it is iterated, one by `fetchrow`."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._text, self._cursor = connection, "", None

    async def execute(self, text: str) -> None:
        """Open it, in a transaction."""
        await self._connection.execute("BEGIN;")
        self._text, self._cursor = text, await self._connection.cursor(text)

    def __aiter__(self) -> AsyncIterator[Any]:
        rows: AsyncIterator[Any] = self._connection.cursor(self._text).__aiter__()
        return rows

    async def fetchone(self) -> Any:
        """Fetch a row."""
        assert self._cursor is not None
        return await self._cursor.fetchrow()

    async def close(self) -> None:
        """The end of the transaction closes it."""
