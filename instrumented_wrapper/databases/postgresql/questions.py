"""Queries that read and set the session state of PostgreSQL: one round trip each, in the simple protocol.

Every name is schema-qualified, so objects in the app's ``search_path`` cannot replace it. Literals are quoted here,
for drivers that cannot bind an array, and because poolers support the simple protocol best.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from instrumented_wrapper.databases.postgresql.settings import IDENTITY, NOT_STATE
from instrumented_wrapper.databases.postgresql.state import ADVISORY, HELD, LISTEN, PREPARED, TEMPORARY, clearing
from instrumented_wrapper.plans import Assignment, Difference, Expected

# Settings whose value the server reports whenever it changes (PostgreSQL's documentation, "Asynchronous Operations").
REPORTED: Final = {
    "application_name": "application_name",
    "client_encoding": "client_encoding",
    "datestyle": "DateStyle",
    "default_transaction_read_only": "default_transaction_read_only",
    "intervalstyle": "IntervalStyle",
    "scram_iterations": "scram_iterations",
    "search_path": "search_path",
    "session_authorization": "session_authorization",
    "standard_conforming_strings": "standard_conforming_strings",
    "timezone": "TimeZone",
}
# A question is no transaction of the app's: it neither waits for a safe snapshot nor fails to serialize.
_PLAIN: Final = "SET LOCAL TRANSACTION ISOLATION LEVEL READ COMMITTED, NOT DEFERRABLE; "
_SAVEPOINT: Final = "instrumented_wrapper"
_ASKS: Final = re.compile(r"((?:(?<=; )|^)SELECT [ik], )")  # how each question begins that brings rows, but SHOW
SETTING, STATE, FUNCTION, SESSION, OTHER = "setting", "state", "function", "session", "other"


def survives_reset_all(name: str) -> bool:
    """Return True if ``RESET ALL`` does not reset the setting."""
    return name in IDENTITY


def ordered(assignments: Iterable[Assignment], back: bool = False) -> list[Assignment]:
    """Sort settings by the privileges that they need: the session's user comes last, or first on the way back."""
    places = {name: place for place, name in enumerate(IDENTITY, start=1)}
    given = sorted(assignments, key=lambda a: places.get(a.name, 0))
    return sorted(given, key=lambda a: a.name not in places) if back else given


# A database without an encoding holds bytes, which nothing converts.
_ENCODING: Final = (
    "CASE WHEN pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END"
)


def literal(text: str | None) -> str:
    """Quote a value, whatever ``standard_conforming_strings`` and ``client_encoding`` are."""
    if text is None:
        return "NULL"
    if not text.isascii():
        data = text.encode(errors="surrogateescape").hex()
        return f"pg_catalog.convert_from(pg_catalog.decode('{data}', 'hex'), {_ENCODING})"
    quoted = text.replace("'", "''")
    return f" E'{quoted}'".replace("\\", "\\\\") if "\\" in text else f"'{quoted}'"


def readable(cell: str | None) -> str | None:
    """Decode a cell that `_armored` has encoded."""
    return None if cell is None else bytes.fromhex(cell).decode(errors="surrogateescape")


def _armored(value: str) -> str:
    """Return an expression for a text in hexadecimal: ``client_encoding`` may lack its characters."""
    return f"pg_catalog.encode(pg_catalog.convert_to({value}, {_ENCODING}), 'hex')"


def identifier(name: str) -> str:
    """Quote the name of a setting; the parts of one with dots by themselves."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def _array(texts: Iterable[str | None]) -> str:
    return f"ARRAY[{', '.join(map(literal, texts))}]::pg_catalog.text[]"


def query_settings(names: Sequence[str]) -> str:
    """Return the query for values outside a transaction and for the process that answers: place, value, process."""
    return (
        f"{_PLAIN}SELECT i, {_armored('pg_catalog.current_setting(n, true)')}, pg_catalog.pg_backend_pid()"
        f" FROM pg_catalog.unnest({_array(names)}) WITH ORDINALITY AS s(n, i)"
    )


def show(names: Sequence[str], defaults: Iterable[str]) -> str:
    """Return the statements that read values within the app's transaction.

    They take no snapshot and leave nothing behind. A setting in `defaults` has not been set by this session yet, or is
    hidden by SET LOCAL: its default is read.
    """
    return "; ".join(showing(names, defaults))


def showing(names: Sequence[str], defaults: Iterable[str]) -> list[str]:
    """Return the statements of `show`, one by one; the last one undoes the others."""
    texts = [f"SAVEPOINT {_SAVEPOINT}"]
    for name in names:
        texts += [f"SET {identifier(name)} TO DEFAULT"] if name in defaults else []
        texts.append(f"SHOW {identifier(name)}")
    return [*texts, NOTHING_SHOWN]


# After a `show` that was refused, and at its end: the transaction is as it was before.
NOTHING_SHOWN: Final = f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}; RELEASE SAVEPOINT {_SAVEPOINT}"


def assign(assignments: Sequence[Assignment], clears: Sequence[str], process: int | None) -> str:
    """Return one text that clears state and applies settings in the server session `process`: place, value before.

    If another process answers, as behind a pooler, nothing changes: there is no row, or `ELSEWHERE`. With None, any
    process may answer.
    """
    here = f"pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) {process}"
    guard = [f"SELECT 1 OPERATOR(pg_catalog./) ({here})::pg_catalog.int4"] if clears and process is not None else []
    names, texts = _array(a.name for a in assignments), _array(a.text for a in assignments)
    setting = (
        f"SELECT i, {_armored('pg_catalog.current_setting(n, true)')}, pg_catalog.set_config(n, v, false) IS NULL"
        f" FROM unnest({names}, {texts}) WITH ORDINALITY AS s(n, v, i){'' if process is None else f' WHERE {here}'}"
    )
    return _PLAIN + "; ".join([*guard, *map(clearing, clears), *([setting] if assignments else [])])


def process(mark: str) -> str:
    """Return the query for the process that answers, recognisable by `mark`."""
    return f"SELECT pg_catalog.pg_backend_pid() /* {mark} */"


def beside(process: str) -> str:
    """Return the query of `process` in a transaction that stays open, with the last query of the other `process`."""
    asked = f"SELECT query FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) {process}"
    return f"BEGIN; SELECT pg_catalog.pg_backend_pid(), ({asked})"


def was_another(last: str | None, mark: str) -> bool:
    """Return True if the last text of a process, as far as the server shows it, is not the one with `mark`."""
    return bool(last) and not str(last).startswith("<insufficient") and mark not in str(last)


def copied(text: str) -> str | None:
    """Return a query as a COPY, for drivers that drop the rows of a simple query; None if it has no rows.

    The statements before it clear state and contain no value of the app.
    """
    before, asks, after = _ASKS.split(text, maxsplit=1) if _ASKS.search(text) else (text, "", "")
    return f"{before}COPY ({asks}{after}) TO STDOUT" if asks else None


def differences(rows: Iterable[Sequence[str | None]], expected: Iterable[Expected]) -> tuple[Difference, ...]:
    """Return what `verify` has found; a custom setting that is empty was never set, or is reset."""
    tracked = {one.name: one.text for one in expected}
    found = [(str(name), value, wanted) for kind, name, value, wanted in rows if kind in (SETTING, OTHER)]
    return tuple(
        Difference(name, tracked.get(name, wanted), value, name in tracked)
        for name, value, wanted in found
        if value != wanted and not ("." in name and not value and not wanted)
    )


ELSEWHERE: Final = "22012"  # division by zero: another process than the one that is meant

_NAME: Final = 'pg_catalog.lower(name COLLATE pg_catalog."C")'
# What a setting would be without any SQL, spelled as the server shows it. A few cannot be set at any time.
_RESET_VALUE: Final = (
    "CASE WHEN setting OPERATOR(pg_catalog.=) reset_val THEN pg_catalog.current_setting(name, true)"
    " WHEN context OPERATOR(pg_catalog.=) 'user' AND name OPERATOR(pg_catalog.<>) 'temp_buffers'"
    " THEN pg_catalog.set_config(name, NULL, true) ELSE reset_val END"
)
_ALL_SETTINGS: Final = (
    f"{_NAME}, pg_catalog.current_setting(name, true), {_RESET_VALUE}"
    " FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session'"
    f" AND name OPERATOR(pg_catalog.<>) ALL ({_array(NOT_STATE)})"
)
_ALL_STATE: Final = (
    f"SELECT '{STATE}', s, NULL, NULL FROM (VALUES"
    f" ('{TEMPORARY}', EXISTS (SELECT FROM pg_catalog.pg_class"
    " WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())"
    " OR EXISTS (SELECT FROM pg_catalog.pg_proc"
    " WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())"
    " OR EXISTS (SELECT FROM pg_catalog.pg_type"
    " WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())),"
    f" ('{ADVISORY}', EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory'"
    " AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())),"
    f" ('{LISTEN}', EXISTS (SELECT FROM pg_catalog.pg_listening_channels())),"
    f" ('{PREPARED}', EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)),"
    f" ('{HELD}', EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable))"
    ") AS found(s, there) WHERE there"
)


def resync(names: Sequence[str], unknown: Sequence[str], functions: Sequence[str], everything: bool) -> str:
    """Return the query for all uncertain state: rows of kind, name, value and default.

    Args:
        names: the settings to read.
        unknown: those of them whose default is read too.
        functions: names of functions whose language and body are read.
        everything: any setting may have changed and any other state may exist.
    """
    parts = [f"SELECT '{SESSION}', NULL, pg_catalog.pg_backend_pid()::pg_catalog.text, NULL"]
    known = [name for name in names if name not in unknown]
    parts += [_settings(known, "NULL")] if known else []
    parts += [_functions(functions)] if functions else []
    others = f"SELECT '{SETTING}', {_ALL_SETTINGS} AND {_NAME} OPERATOR(pg_catalog.<>) ALL ({_array(names)})"
    parts += [_ALL_STATE, others] if everything else []
    last = sorted(unknown, key=IDENTITY.__contains__)
    last.sort(key="session_authorization".__eq__)  # to ask for its default ends the role, which is read before
    parts += [_settings(last, _DEFAULT)] if last else []
    cells = ", ".join(map(_armored, ("n", "v", "d")))
    return f"{_PLAIN}SELECT k, {cells} FROM ({' UNION ALL '.join(parts)}) AS found(k, n, v, d)"


_DEFAULT: Final = (
    "CASE WHEN pg_catalog.current_setting(n, true) IS NULL THEN NULL"  # a custom setting that is not there stays so
    f" WHEN EXISTS (SELECT FROM pg_catalog.pg_settings WHERE {_NAME} OPERATOR(pg_catalog.=) n)"
    f" THEN (SELECT {_RESET_VALUE} FROM pg_catalog.pg_settings WHERE {_NAME} OPERATOR(pg_catalog.=) n)"
    " ELSE pg_catalog.set_config(n, NULL, true) END"
)


def _settings(names: Sequence[str], default: str) -> str:
    asked = f"SELECT '{SETTING}', n, pg_catalog.current_setting(n, true), {default}"
    return f"{asked} FROM pg_catalog.unnest({_array(names)}) AS s(n)"


def verify(expected: Sequence[Expected], converted: bool = True) -> str:
    """Ask for the values of settings that differ, outside a transaction: rows of kind, name, value, expected value.

    An expected value is converted as the server itself does it, by giving it to the setting for the time of this
    question; only where its text is not the one of the present value, so that as a rule nothing is set.

    Args:
        expected: of the settings that are tracked; all others are expected to be at their default.
        converted: False where the server has refused to convert one, so that texts are compared.
    """
    given = [one for one in expected if one.name != "role"]
    role = [one for one in expected if one.name == "role"] or [Expected("role", "none", at_baseline=True)]
    given += role  # no list has it; last, because the others need the rights of the present one
    names = _array(one.name for one in given)
    values = f"{names}, {_array(one.text for one in given)}, {_flags(one.at_baseline for one in given)}"
    session = f"SELECT '{SESSION}', NULL, pg_catalog.pg_backend_pid()::pg_catalog.text, NULL"
    others = (
        f"SELECT '{OTHER}', {_ALL_SETTINGS} AND {_NAME} OPERATOR(pg_catalog.<>) ALL ({names})"
        " AND setting OPERATOR(pg_catalog.<>) reset_val"
    )
    present = (  # with an OFFSET it is read before anything is set
        f"SELECT n, v, b, pg_catalog.current_setting(n, true) AS c FROM unnest({values}) AS s(n, v, b) OFFSET 0"
    )
    tracked = f"SELECT '{SETTING}', n, c, {_CONVERTED if converted else 'v'} FROM ({present}) AS present"
    cells = ", ".join(map(_armored, ("n", "v", "d")))
    return f"{_PLAIN}SELECT k, {cells} FROM ({session} UNION ALL {others} UNION ALL {tracked}) AS found(k, n, v, d)"


def _flags(values: Iterable[bool]) -> str:
    return f"ARRAY[{', '.join(str(value).lower() for value in values)}]::pg_catalog.bool[]"


# A setting that is not listed has the text that it was given.
_CONVERTED: Final = (
    "CASE WHEN c OPERATOR(pg_catalog.=) v THEN v"
    " WHEN b AND n OPERATOR(pg_catalog.=) 'role' THEN pg_catalog.set_config(n, NULL, true)"
    f" WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_settings WHERE {_NAME} OPERATOR(pg_catalog.=) n) THEN v"
    f" WHEN b THEN (SELECT {_RESET_VALUE} FROM pg_catalog.pg_settings WHERE {_NAME} OPERATOR(pg_catalog.=) n)"
    " ELSE pg_catalog.set_config(n, v, true) END"
)


# The body of a routine by the SQL standard (BEGIN ATOMIC) is not kept as text; an aggregate has functions for a body.
_OF_AGGREGATE: Final = (
    "(SELECT 'SELECT ' OPERATOR(pg_catalog.||) pg_catalog.string_agg(pg_catalog.quote_ident(f.proname)"
    " OPERATOR(pg_catalog.||) '()', ', ') FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc f"
    " ON f.oid OPERATOR(pg_catalog.=) ANY (ARRAY[a.aggtransfn::pg_catalog.oid, a.aggfinalfn::pg_catalog.oid,"
    " a.aggmtransfn::pg_catalog.oid, a.aggminvtransfn::pg_catalog.oid, a.aggmfinalfn::pg_catalog.oid])"
    " WHERE a.aggfnoid OPERATOR(pg_catalog.=) p.oid)"
)
_BODY: Final = (
    f"CASE WHEN prokind OPERATOR(pg_catalog.=) 'a' THEN {_OF_AGGREGATE}"
    " WHEN lanname OPERATOR(pg_catalog.=) 'sql' AND prosrc OPERATOR(pg_catalog.=) ''"
    " THEN pg_catalog.pg_get_functiondef(p.oid) ELSE prosrc END"
)


def _functions(names: Sequence[str]) -> str:
    return (
        f"SELECT '{FUNCTION}', proname::pg_catalog.text,"
        " CASE WHEN prokind OPERATOR(pg_catalog.=) 'a' THEN 'sql' ELSE lanname::pg_catalog.text END,"
        f" {_BODY} FROM pg_catalog.pg_proc p"
        " JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang"
        f" WHERE proname::pg_catalog.text OPERATOR(pg_catalog.=) ANY ({_array(names)})"
    )
