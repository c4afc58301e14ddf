"""Send texts through libpq itself, on the PGconn that psycopg2 exposes for this purpose (``connection.pgconn_ptr``).

psycopg2 begins a transaction before anything that it sends; a query of the wrapper must not. The functions are those of
the very libpq that psycopg2 is linked with.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any, Final

import psycopg2
from psycopg2 import errorcodes, errors

from instrumented_wrapper.drivers.registry import wait_for

_SQLSTATE: Final = ord("C")  # PG_DIAG_SQLSTATE
_SEVERITY: Final = ord("V")  # PG_DIAG_SEVERITY_NONLOCALIZED
_LAST: Final = (b"FATAL", b"PANIC")
_FAILED: Final = (5, 7)  # PGRES_BAD_RESPONSE, PGRES_FATAL_ERROR
_READS: Final = 2  # the first one may only get the server's last words
_POINTER, _INT, _TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
_RECEIVER: Final = ctypes.CFUNCTYPE(None, _POINTER, _POINTER)
_FUNCTIONS: Final[dict[str, tuple[Any, ...]]] = {  # name -> result, arguments
    "PQsendQuery": (_INT, _POINTER, _TEXT),
    "PQgetResult": (_POINTER, _POINTER),
    "PQresultStatus": (_INT, _POINTER),
    "PQresultErrorField": (_TEXT, _POINTER, _INT),
    "PQntuples": (_INT, _POINTER),
    "PQnfields": (_INT, _POINTER),
    "PQgetisnull": (_INT, _POINTER, _INT, _INT),
    "PQgetvalue": (_TEXT, _POINTER, _INT, _INT),
    "PQclear": (None, _POINTER),
    "PQconsumeInput": (_INT, _POINTER),
    "PQisBusy": (_INT, _POINTER),
    "PQsocket": (_INT, _POINTER),
    "PQparameterStatus": (_TEXT, _POINTER, _TEXT),
    "PQsetNoticeReceiver": (_POINTER, _POINTER, _POINTER, _POINTER),
}


def _load() -> dict[str, Any]:
    found: dict[str, Any] = {}
    library = ctypes.CDLL(psycopg2._psycopg.__file__)
    for name, (result, *arguments) in _FUNCTIONS.items():
        function = getattr(library, name, None)
        if function is not None:
            function.restype, function.argtypes = result, arguments
            found[name] = function
    return found


_pq: Final = _load()


def missing_functions() -> list[str]:
    """Return the functions of libpq that cannot be found; empty if all exist."""
    return [name for name in _FUNCTIONS if name not in _pq]


def reported(pgconn: int, name: str, encoding: str) -> str | None:
    """Return a value that the server has reported; psycopg2 does not give it of a connection that is lost."""
    value: bytes | None = _pq["PQparameterStatus"](pgconn, name.encode())
    return None if value is None else value.decode(encoding, "surrogateescape")


def listen(pgconn: int) -> bool:
    """Read unsolicited messages and the end of the connection; return True if the server announced that end.

    psycopg2 does not learn of it: cursors of a connection that it knows to be lost cannot read their rows.
    """
    last_words = []

    def receive(argument: int | None, result: int) -> None:
        severity = _pq["PQresultErrorField"](result, _SEVERITY)
        last_words.append(severity) if severity in _LAST else former(argument, result)

    receiver = _RECEIVER(receive)
    former = _RECEIVER(_pq["PQsetNoticeReceiver"](pgconn, receiver, None))
    try:
        for _ in range(_READS):
            _pq["PQconsumeInput"](pgconn)
            _pq["PQisBusy"](pgconn)  # has it read
    finally:
        _pq["PQsetNoticeReceiver"](pgconn, former, None)
    return bool(last_words)


def send(pgconn: int, text: str, encoding: str) -> list[list[str | None]]:
    """Send a text by the simple protocol and return the rows of its answers, one after the other.

    Raises:
        psycopg2.Error: with the server's SQLSTATE, and without its words, which may quote what the app has set.
    """
    if not _sent(pgconn, text.encode(encoding)):
        raise psycopg2.OperationalError("the server could not be asked")
    rows: list[list[str | None]] = []
    failed = ""
    while result := _next(pgconn):
        try:
            if _pq["PQresultStatus"](result) in _FAILED:
                failed = failed or (_pq["PQresultErrorField"](result, _SQLSTATE) or b"?").decode()
            else:
                rows += _rows(result, encoding)
        finally:
            _pq["PQclear"](result)
    if failed:
        raise _refusal(failed)
    return rows


def _sent(pgconn: int, text: bytes) -> bool:
    """Send a text, after reading the rest of a response that nobody waited for."""
    if _pq["PQsendQuery"](pgconn, text):
        return True
    while result := _next(pgconn):
        _pq["PQclear"](result)
    return bool(_pq["PQsendQuery"](pgconn, text))


def _next(pgconn: int) -> int | None:
    """Return the next result, or None after the last one."""
    while _pq["PQisBusy"](pgconn):
        wait_for(_pq["PQsocket"](pgconn))
        if not _pq["PQconsumeInput"](pgconn):
            break
    answer: int | None = _pq["PQgetResult"](pgconn)
    return answer


def _rows(result: int, encoding: str) -> Iterator[list[str | None]]:
    for row in range(_pq["PQntuples"](result)):
        yield [_cell(result, row, column, encoding) for column in range(_pq["PQnfields"](result))]


def _cell(result: int, row: int, column: int, encoding: str) -> str | None:
    if _pq["PQgetisnull"](result, row, column):
        return None
    cell: bytes = _pq["PQgetvalue"](result, row, column)
    return cell.decode(encoding, "surrogateescape")


def _refusal(state: str) -> psycopg2.Error:
    kind = errors.lookup(state) if state in errorcodes.__dict__.values() else psycopg2.OperationalError
    error = type(kind.__name__, (kind,), {"pgcode": state, "__module__": kind.__module__})
    refused: psycopg2.Error = error(f"the server refused what keeps the session ({state})")
    return refused
