"""asyncmy: what the contract suite asks of it."""

from typing import Any, ClassVar

import asyncmy
import asyncmy.connection
import asyncmy.cursors

from ..async_mysql import ForAsyncMySQL


class AsyncMy(ForAsyncMySQL):
    """asyncmy.connect and asyncmy.Pool."""

    name, module, error, connects = "asyncmy", asyncmy, asyncmy.Error, "connect"
    operational_error, programming_error = asyncmy.OperationalError, asyncmy.ProgrammingError
    ended_error: ClassVar[type[Exception]] = asyncmy.OperationalError
    read_only_error = asyncmy.OperationalError
    closed_error: ClassVar[type[Exception]] = asyncmy.InterfaceError
    lacks = ForAsyncMySQL.lacks | {"finaliser", "LOAD DATA LOCAL", "portions of batches"}

    def is_closed(self, connection: Any) -> bool:
        return bool(not connection.connected)


DRIVER = AsyncMy()
