"""The text of a query of psycopg: as telemetry may read it, and as it is sent."""

from __future__ import annotations

from typing import Any

from instrumented_wrapper.drivers.psycopg.records import encoding_of

__all__ = ["readable", "sent_text", "text_of"]


def text_of(cursor: Any, query: Any) -> str:
    """Return the text of a query for telemetry: a value of a template string is a placeholder in it."""
    if isinstance(query, str):
        return query
    if isinstance(query, bytes):
        return query.decode(encoding_of(cursor._conn), "replace")
    if hasattr(query, "as_string"):
        return query.as_string(cursor)  # type: ignore[no-any-return]
    return "".join(part if isinstance(part, str) else _interpolated(cursor, part) for part in query)


def _interpolated(cursor: Any, part: Any) -> str:
    """Return what stands for a part of a template string: an identifier, a query in the query, or a value."""
    if part.format_spec == "i":
        return '"{}"'.format(str(part.value).replace('"', '""'))
    return text_of(cursor, part.value) if part.format_spec == "q" else "%s"


def sent_text(cursor: Any, query: Any) -> str | bytes:
    """Return the text that is sent for a query that is not a string; empty where psycopg will refuse the query."""
    if isinstance(query, bytes):
        return readable(cursor._conn, query)
    try:
        return readable(cursor._conn, query.as_bytes(cursor)) if hasattr(query, "as_bytes") else ""
    except Exception:  # noqa: BLE001 - psycopg does the same again, and says what is wrong
        return ""


def readable(connection: Any, text: bytes) -> str | bytes:
    """Return bytes as they are where every encoding reads them the same way, else as a string."""
    return text if text.isascii() else text.decode(encoding_of(connection), "replace")
