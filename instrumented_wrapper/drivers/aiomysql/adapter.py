"""What aiomysql is like: `AsyncAdapter`. Private parts that are used are looked for once, when patching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiomysql.connection import Connection, MySQLResult
from pymysql.charset import charset_by_name
from pymysql.err import Error, OperationalError, ProgrammingError

from instrumented_wrapper.drivers.for_async_mysql import ForAsyncMySQL


class _OwnResult(MySQLResult):  # type: ignore[misc]
    """The answer to what the wrapper itself has sent: as the driver reads it, past all that is patched."""

    _read_ok_packet = MySQLResult._read_ok_packet
    _check_packet_is_eof = MySQLResult._check_packet_is_eof


class AioMySQL(ForAsyncMySQL):
    """`AsyncAdapter` for aiomysql."""

    name = "aiomysql"
    error = Error
    raises: tuple[type[Exception], ...] = (Error, OSError, RuntimeError)  # also of streams whose loop is closing
    operational_error = OperationalError
    programming_error = ProgrammingError
    kinds: tuple[type[Any], ...] = (Connection,)
    physical = (
        "_reader _writer _secure _next_seq_id _host _port _unix_socket host_info server_status server_version"
        " server_thread_id server_capabilities server_language server_charset salt protocol_version"
        " _server_auth_plugin _auth_plugin_used client_flag connected_time _close_reason"
    ).split()
    flags, at_connect = "client_flag", ("sql_mode", "init_command")
    result = _OwnResult
    charset_named = staticmethod(charset_by_name)
    construct = staticmethod(Connection.__init__)
    connect = staticmethod(Connection._connect)
    end = staticmethod(Connection.close)

    def is_lost(self, connection: Any, error: BaseException | None) -> bool:
        """Do as for every MySQL driver, and break a cycle: a stream keeps its socket's error and these frames."""
        if error is not None and isinstance(error.__cause__, OSError):
            error.__cause__.__traceback__ = None
        return super().is_lost(connection, error)

    def before_construction(self, connection: Any) -> None:
        """Give its finaliser what that looks at, also where the arguments are refused."""
        connection._writer = None

    def is_open(self, connection: Any) -> bool:
        """Return True if it has streams: aiomysql drops them when it closes."""
        return connection._writer is not None

    def seer(self, connection: Any) -> Callable[[], bool]:
        """Return what reads the present stream."""
        reader = connection._reader
        return lambda: bool(reader.eof_received or reader.exception() is not None)

    def status_of(self, connection: Any, result: Any) -> int | None:
        """Return the flags that aiomysql keeps: those of responses without rows."""
        return result.server_status  # type: ignore[no-any-return]

    def transport(self, connection: Any) -> Any:
        """Return the writer's."""
        return None if connection._writer is None else connection._writer.transport
