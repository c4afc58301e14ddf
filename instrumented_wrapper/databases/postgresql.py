"""PostgreSQL: what a statement may do to the session, and the codes that matter to a switch.

Pure text: no driver, no server. `scan` reads a statement's words, not its meaning; where it cannot be sure it says
that something *may* have been left in the session, because a session that is switched in silence must be whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from instrumented_wrapper.databases.tokens import Token, tokens_of

__all__ = ["READ_ONLY_SQL_TRANSACTION", "SYSTEM", "Effects", "scan"]

SYSTEM: Final = "postgresql"
READ_ONLY_SQL_TRANSACTION: Final = "25006"
# Leaves a session in a transaction that the server itself refuses to go on with, in one round trip.
ABORTED_TRANSACTION: Final = "BEGIN; ROLLBACK TO SAVEPOINT lost_with_the_previous_session"

LISTEN: Final = "LISTEN"
PREPARED: Final = "prepared statements"
TEMPORARY: Final = "temporary tables"
HELD: Final = "held cursors"
ADVISORY: Final = "advisory locks"
UNKNOWN_SETTING: Final = "set_config"
_LASTING: Final = frozenset({ADVISORY, "DO", "CALL", "LOAD"})
# State that RESET ALL leaves alone although it looks like a setting.
_NOT_RESET_BY_ALL: Final = frozenset(
    {
        "role",
        "session_authorization",
        UNKNOWN_SETTING,
        LISTEN,
        PREPARED,
        TEMPORARY,
        HELD,
        ADVISORY,
        "DO",
        "CALL",
        "LOAD",
    }
)


@dataclass(frozen=True, slots=True)
class Effects:
    """What the statements of one text may do.

    Attributes:
        leaves: names of session state that may be there afterwards.
        clears: names of session state that are gone afterwards; ``*`` is all of it, ``settings`` all settings.
        in_doubt: it ends a transaction in a way whose outcome is unknown if the answer is lost.
        begins: it opens a transaction.
        rolls_back: it rolls a transaction back as a whole.
        read_only: the app asks for read-only: ``transaction``, ``session``; ``ended``: no more; or nothing.
        several: it is more than one statement.
    """

    leaves: tuple[str, ...] = ()
    clears: tuple[str, ...] = ()
    in_doubt: bool = False
    begins: bool = False
    rolls_back: bool = False
    read_only: str = ""
    several: bool = False

    @property
    def lasting(self) -> tuple[str, ...]:
        """What of `leaves` may be there even if the statement fails: no rollback undoes it."""
        return tuple(name for name in self.leaves if name in _LASTING)


_TRIGGERS: Final = re.compile(
    r"\b(set|reset|set_config|listen|unlisten|prepare|prepared|deallocate|discard|temp|temporary|pg_temp|declare|close"
    r"|pg_(try_)?advisory_\w+|do|call|load|commit|end|begin|start|rollback|abort)\b",
    re.IGNORECASE,
)
_LITERALS: Final = re.compile(r"'(?:[^']+|'')*+'")
_NOT_PLAIN: Final = re.compile(r'--|/\*|[$"\\]')  # comments, other kinds of quotes, escapes
_LONG: Final = 1000  # characters; long texts are mostly data, which is taken out before a second, cheap look
_MOST_ARGUMENT_TOKENS: Final = 200
_SETTING_NAME: Final = re.compile(r"[^\W\d][\w$]*(?:\.[^\W\d][\w$]*)*")


def scan(text: str) -> Effects | None:
    """Return what `text`, one or several statements, may do to the session; None where it is nothing that matters."""
    if not _TRIGGERS.search(text) or _is_only_data(text):
        return None
    statements = [statement for statement in _statements(text) if statement]
    found = [effects for statement in statements for effects in _effects_of(statement)]
    merged = _merge(found, several=len(statements) > 1)
    return None if replace(merged, several=False) == Effects() else merged


def _is_only_data(text: str) -> bool:
    """Tell at little cost whether a long text has its triggers in plain literals only."""
    if len(text) <= _LONG or _NOT_PLAIN.search(text):
        return False
    return not _TRIGGERS.search(_LITERALS.sub("''", text))


def _merge(found: Sequence[Effects], several: bool) -> Effects:
    """Take all effects together. Of several statements, what one clears may come back with a ROLLBACK after it."""
    clears = () if several else tuple(dict.fromkeys(name for effects in found for name in effects.clears))
    return Effects(
        leaves=tuple(dict.fromkeys(name for effects in found for name in effects.leaves)),
        clears=clears,
        in_doubt=any(e.in_doubt for e in found),
        begins=any(e.begins for e in found),
        rolls_back=any(e.rolls_back for e in found),
        read_only=next((e.read_only for e in reversed(found) if e.read_only), ""),
        several=several,
    )


def covers(cleared: str, name: str) -> bool:
    """Tell whether clearing `cleared` takes the state `name` away."""
    if cleared == "*":
        return name != "LOAD"
    return cleared == name or (cleared == "settings" and name not in _NOT_RESET_BY_ALL)


def _statements(text: str) -> Iterator[list[Token]]:
    """Split a text; the body of a routine (``BEGIN ATOMIC ... END``) runs when it is called, and is left out."""
    statement: list[Token] = []
    in_body = False
    for token in tokens_of(text):
        if token != Token("mark", ";"):
            statement.append(token)
            continue
        if not in_body:
            yield statement
        in_body = _goes_on(statement) if not in_body else statement[:1] != [Token("word", "end")]
        statement = []
    if not in_body:
        yield statement


def _goes_on(statement: list[Token]) -> bool:
    return _defines_routine(statement) and Token("word", "atomic") in statement


def _defines_routine(statement: list[Token]) -> bool:
    head = [token.text for token in statement[:4]]
    return head[:1] == ["create"] and ("function" in head or "procedure" in head)


def _effects_of(statement: list[Token]) -> Iterator[Effects]:
    while statement and statement[0].text == "(":
        statement = statement[1:]
    if not statement or statement[0].kind != "word":
        return
    words = [token.text if token.kind == "word" else "" for token in statement]
    if reader := _BY_FIRST_WORD.get(words[0]):
        yield reader(statement, words)
    yield from _anywhere(statement, words)


def _anywhere(statement: list[Token], words: list[str]) -> Iterator[Effects]:
    """Functions and clauses that may stand in any statement."""
    names = [token.text if token.kind in ("word", "name") else "" for token in statement]
    if _defines_routine(statement):
        names = names[:6]  # what it does, it does when it is called; where it is, counts
    known = Effects()
    for index, word in enumerate(names):
        if word == "set_config" and known.leaves != (UNKNOWN_SETTING,) and _calls(statement, index):
            known = _set_config(statement[index + 2 : index + 2 + _MOST_ARGUMENT_TOKENS])
            yield known
        elif word.startswith(("pg_advisory_lock", "pg_try_advisory_lock")):
            yield Effects(leaves=(ADVISORY,))
        elif word == "pg_advisory_unlock_all" and words[0] == "select" and len(words) == 4:
            yield Effects(clears=(ADVISORY,))
        elif word == "pg_temp" or (word in ("temp", "temporary") and "into" in words[max(0, index - 2) : index]):
            yield Effects(leaves=(TEMPORARY,))


def _calls(statement: list[Token], index: int) -> bool:
    return index + 1 < len(statement) and statement[index + 1].text == "("


def _set_config(tokens: list[Token]) -> Effects:
    arguments: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.kind == "mark" and token.text == ")" and depth == 0:
            break
        depth += (token.text == "(") - (token.text == ")") if token.kind == "mark" else 0
        if token == Token("mark", ",") and depth == 0:
            arguments.append([])
        else:
            arguments[-1].append(token)
    if len(arguments) == 3 and [token.text for token in arguments[2]] == ["true"]:
        return Effects()  # is_local: it ends with the transaction
    named = len(arguments[0]) == 1 and arguments[0][0].kind == "string"
    return Effects(leaves=(_checked(arguments[0][0].text) if named else UNKNOWN_SETTING,))


def _checked(name: str) -> str:
    """Return a setting's name in lower case; what does not look like one is not repeated: it may be a value."""
    return name.lower() if _SETTING_NAME.fullmatch(name) else UNKNOWN_SETTING


def _set(statement: list[Token], words: list[str]) -> Effects:
    if words[1:2] == ["session"] and words[2:3] not in (["authorization"], ["characteristics"]):
        statement, words = statement[1:], words[1:]
    second = words[1] if len(words) > 1 else ""
    if second in ("local", "constraints"):
        return Effects()
    if second == "transaction":
        return Effects(read_only="transaction" if _asks_read_only(words) else "")
    if words[1:3] == ["session", "characteristics"]:
        return _characteristics(words)
    name = _setting_name(statement[1:])
    if name != "default_transaction_read_only":
        return Effects(leaves=(name,))
    forbids = statement[-1].text in ("on", "true", "1", "yes")
    return Effects(leaves=(name,), read_only="session" if forbids else "ended")


def _characteristics(words: list[str]) -> Effects:
    changed = {
        "default_transaction_isolation": "isolation" in words,
        "default_transaction_read_only": "only" in words or "write" in words,
        "default_transaction_deferrable": "deferrable" in words,
    }
    leaves = tuple(name for name, is_changed in changed.items() if is_changed)
    return Effects(
        leaves=leaves, read_only="session" if _asks_read_only(words) else "ended" if "write" in words else ""
    )


_SPELLINGS: Final = {
    "time": "timezone",
    "names": "client_encoding",
    "schema": "search_path",
    "xml": "xmloption",
    "session": "session_authorization",
}


def _setting_name(tokens: list[Token]) -> str:
    """Return the setting that ``SET``/``RESET`` names: ``a``, ``a.b``, ``TIME ZONE``, ``SESSION AUTHORIZATION``."""
    if not tokens or tokens[0].kind not in ("word", "name"):
        return UNKNOWN_SETTING
    first = tokens[0].text
    if len(tokens) > 2 and tokens[1].text == ".":
        return _checked(f"{first}.{tokens[2].text}")
    plain = len(tokens) > 1 and tokens[1].text in ("=", "to")
    return _checked(first if plain else _SPELLINGS.get(first, first))


def _reset(statement: list[Token], words: list[str]) -> Effects:
    cleared = "settings" if words[1:] == ["all"] else _setting_name(statement[1:])
    ended = cleared in ("settings", "default_transaction_read_only")
    return Effects(clears=(cleared,), read_only="ended" if ended else "")


def _discard(statement: list[Token], words: list[str]) -> Effects:
    if words[1:2] == ["all"]:
        return Effects(clears=("*",), read_only="ended")
    return Effects(clears=(TEMPORARY,)) if words[1:2] in (["temp"], ["temporary"]) else Effects()


def _prepare(statement: list[Token], words: list[str]) -> Effects:
    return Effects(in_doubt=True) if words[1:2] == ["transaction"] else Effects(leaves=(PREPARED,))


def _deallocate(statement: list[Token], words: list[str]) -> Effects:
    return Effects(clears=(PREPARED,)) if words[-1] == "all" else Effects()


def _create(statement: list[Token], words: list[str]) -> Effects:
    is_temporary = any(word in ("temp", "temporary") for word in words[1:5])
    ends_with_transaction = " on commit drop" in " ".join(words)
    return Effects(leaves=(TEMPORARY,)) if is_temporary and not ends_with_transaction else Effects()


def _declare(statement: list[Token], words: list[str]) -> Effects:
    return Effects(leaves=(HELD,)) if "with hold" in " ".join(words) else Effects()


def _rollback(statement: list[Token], words: list[str]) -> Effects:
    if "prepared" in words:
        return Effects(in_doubt=True)
    return Effects() if "to" in words else Effects(rolls_back=True)


def _begin(statement: list[Token], words: list[str]) -> Effects:
    return Effects(begins=True, read_only="transaction" if _asks_read_only(words) else "")


def _asks_read_only(words: list[str]) -> bool:
    return "read only" in " ".join(words)


_BY_FIRST_WORD: Final[dict[str, Callable[[list[Token], list[str]], Effects]]] = {
    "set": _set,
    "reset": _reset,
    "discard": _discard,
    "prepare": _prepare,
    "deallocate": _deallocate,
    "create": _create,
    "declare": _declare,
    "begin": _begin,
    "start": _begin,
    "commit": lambda _, words: Effects(in_doubt=True),
    "end": lambda _, words: Effects(in_doubt=True),
    "rollback": _rollback,
    "abort": _rollback,
    "listen": lambda statement, words: Effects(leaves=(LISTEN,)),
    "unlisten": lambda statement, words: Effects(clears=(LISTEN,) if statement[-1].text == "*" else ()),
    "close": lambda statement, words: Effects(clears=(HELD,) if words[1:2] == ["all"] else ()),
    "do": lambda statement, words: Effects(leaves=("DO",)),
    "call": lambda statement, words: Effects(leaves=("CALL",)),
    "load": lambda statement, words: Effects(leaves=("LOAD",)),
}
