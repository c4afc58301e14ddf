"""The text of a query of psycopg: as telemetry may read it, as it is sent, and what it may do to the session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.databases.postgresql.tokens import folded
from instrumented_wrapper.drivers.engine.statement_cache import StatementCache
from instrumented_wrapper.drivers.psycopg.records import encoding_of
from instrumented_wrapper.statement import Effects, Placeholder, Step

# The generators that send statements of the app -> their argument with the statement.
STATEMENTS: Final = {
    "_execute_gen": "query",
    "_executemany_gen_pipeline": "query",
    "_executemany_gen_no_pipeline": "query",
    "_stream_send_gen": "query",
    "_start_copy_gen": "statement",
    "_declare_gen": "query",
}


def _scan(text: str | bytes) -> Effects | None:
    return postgresql.scan(text if isinstance(text, str) else text.decode(errors="replace"))


EFFECTS: Final = StatementCache(_scan)
effects_of: Final = EFFECTS.value_of  # what a text may do to the session; None for nothing


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
    """Return the text for a part of a template string: an identifier, a query in the query, or a value."""
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


def readable(connection: object, text: bytes) -> str | bytes:
    """Return bytes as they are where every encoding reads them the same way, else as a string."""
    return text if text.isascii() else text.decode(encoding_of(connection), "replace")


def effects_of_step(gen: object, step: str) -> Effects | None:
    """Return the effects of a generator's statement, with the names that its parameters contain.

    `gen` has not begun, or stands for one whose frame is in a traceback.
    """
    if (argument := STATEMENTS.get(step)) is None or (frame := getattr(gen, "gi_frame", None)) is None:
        return None
    given = frame.f_locals
    query = given.get(argument)
    effects = effects_of(query if type(query) is str else sent_text(given.get("self"), query))
    return None if effects is None else replace(effects, steps=tuple(named(one, given) for one in effects.steps))


def named(step: Step, given: Mapping[str, Any]) -> Step:
    """Return a step with the name that the parameters give its setting."""
    if not isinstance(step.name, Placeholder):
        return step
    value = _parameter(given.get("params"), step.name)
    return step._replace(name=folded(value)) if isinstance(value, str) else step


def _parameter(params: Any, placeholder: Placeholder) -> Any:
    try:
        return params[placeholder.key]
    except (LookupError, TypeError):  # psycopg says what is wrong with the parameters
        return None
