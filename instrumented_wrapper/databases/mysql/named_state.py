"""Read the locks, temporary tables and prepared statements that a statement creates or drops by name."""

from __future__ import annotations

from collections.abc import Sequence

from instrumented_wrapper.databases.mysql.state import PREPARED, TEMPORARY
from instrumented_wrapper.databases.mysql.tokens import Token
from instrumented_wrapper.statement import Effects, Named

_COMMA, _DOT = Token("mark", ","), Token("mark", ".")
_LONGEST = 3  # tokens of a name with its database
_BEFORE_NAME = {("if", "exists"): 2, ("if", "not"): 3}


def lock_of(statement: Sequence[Token]) -> tuple[str, ...]:
    """Return the name of the lock of ``SELECT GET_LOCK('name', 0)``; empty where that is not all that it does."""
    words = [token.text for token in statement]
    opened = words[2:3] == ["("] and words[-1:] == [")"] and words.count("(") == words.count(")") == 1
    if not (opened and statement[1].kind == "word" and words[1] in ("get_lock", "release_lock")):
        return ()
    name, *rest = statement[3:-1] or [_COMMA]
    plain = name.kind == "string" and (not rest or (rest[0] == _COMMA and len(rest) <= _LONGEST))
    return (name.text.lower(),) if plain else ()


def deallocated(statement: Sequence[Token]) -> Effects:
    """Read ``DEALLOCATE PREPARE`` and ``DROP PREPARE``."""
    return Effects(ends=(Named(PREPARED, (statement[-1].text.lower(),), whole=True),))


def temporary(statement: Sequence[Token]) -> Effects:
    """Read ``CREATE TEMPORARY TABLE`` and ``DROP [TEMPORARY] TABLE``, which drops a temporary one first."""
    named = tuple(Named(TEMPORARY, key) for key in _tables_of(statement))
    if statement[0].text == "drop":
        return Effects(ends=named)
    return Effects(leaves=(TEMPORARY,), makes=named[:1])


def _tables_of(statement: Sequence[Token]) -> tuple[tuple[str, ...], ...]:
    """Return the tables that are created or dropped; without a name where the text does not contain it."""
    words = [token.text if token.kind == "word" else "" for token in statement]
    if "table" not in words:
        return ((),)
    rest = list(statement[words.index("table") + 1 :])
    rest = rest[_BEFORE_NAME.get((rest[0].text, rest[1].text), 0) if len(rest) > 1 else 0 :]
    if words[0] == "create":
        qualified = rest[1:2] == [_DOT]
        return (tuple(token.text for token in (rest[:_LONGEST] if qualified else rest[:1])),)
    tables: list[tuple[str, ...]] = [()]
    for token in rest:
        tables = [*tables, ()] if token == _COMMA else [*tables[:-1], (*tables[-1], token.text)]
    return tuple(tables)
