"""Read the effects of a statement, or of several, on the session.

`scan` reads words, not meaning. It reads a setting exactly or not at all. Of other state it returns what *may* exist,
because a silent switch requires a session that is carried over completely.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from instrumented_wrapper.databases.lexer import without_data
from instrumented_wrapper.databases.postgresql.config_calls import config_steps, view_steps
from instrumented_wrapper.databases.postgresql.functions import calls_of, judge, may_call
from instrumented_wrapper.databases.postgresql.locks import lock_of
from instrumented_wrapper.databases.postgresql.settings import IDENTITY, asks_read_only, reset_steps, set_steps
from instrumented_wrapper.databases.postgresql.state import ADVISORY, CUSTOM, HELD, LISTEN, LOADED, PREPARED, TEMPORARY
from instrumented_wrapper.databases.postgresql.tokens import Token, tokens_of
from instrumented_wrapper.statement import (
    BEGIN,
    COMMIT,
    DECLARE,
    DOUBT,
    NAMED,
    RELEASE,
    RESET_ALL,
    ROLLBACK,
    ROLLBACK_TO,
    SAVEPOINT,
    SET,
    Effects,
    Named,
    Step,
    merged_effects,
    part_of,
)

_TRIGGERS: Final = re.compile(
    r"\b(set|reset|set_config|listen|unlisten|prepare|prepared|deallocate|discard|temp|temporary|pg_temp|declare|close"
    r"|pg_(try_)?advisory_\w+|do|call|execute|load|commit|end|begin|start|rollback|abort|copy|savepoint|release|drop|(create|replace|alter)\s+(function|procedure|routine))\b",
    re.IGNORECASE,
)
_LITERALS: Final = re.compile(r"'(?:[^']+|'')*+'")
# Comments, other kinds of quotes, escapes: where none is left without the literals, these were taken out rightly.
_NOT_PLAIN: Final = re.compile(r"""--|/\*|\$(?!\d)|["\\]|[eE]'""")
_ROUTINE_WORDS: Final = ("function", "procedure", "routine")
_RUN_TEXT: Final = frozenset(  # functions of PostgreSQL's own that run a text which they are given
    "query_to_xml query_to_xmlschema query_to_xml_and_xmlschema ts_stat ts_rewrite".split()
)
_LASTING: Final = frozenset({ADVISORY, LOADED})


def scan(text: str) -> Effects | None:
    """Return what `text`, one or several statements, may do to the session; None where it is nothing that matters."""
    if not _may_matter(text):
        return None
    statements = [statement for statement in _statements(text) if statement]
    each = [tuple(_effects_of(statement)) for statement in statements]
    merged = merged_effects([effects for found in each for effects in found], len(statements) > 1, _LASTING)
    parts = tuple(part_of(_first_word(statement), found) for statement, found in zip(statements, each, strict=True))
    merged = replace(merged, parts=parts)
    return None if replace(merged, several=False) == Effects() else merged


def _may_matter(text: str) -> bool:
    """Return True if a text has to be read. This check is cheap; the data of a long text is removed first."""
    text = without_data(text, _LITERALS, _NOT_PLAIN)
    return bool(_TRIGGERS.search(text)) or may_call(text)


def _statements(text: str) -> Iterator[list[Token]]:
    """Split a text into statements. The body of a routine (``BEGIN ATOMIC ... END``) runs later, and is left out."""
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
    begins = (place for place, token in enumerate(statement[:-1]) if token == Token("word", "begin"))
    return _defines_routine(statement) and any(statement[p + 1] == Token("word", "atomic") for p in begins)


def _defines_routine(statement: list[Token]) -> bool:
    head = [token.text for token in statement[:4]]
    return head[:1] in (["create"], ["alter"]) and any(word in head for word in _ROUTINE_WORDS)


def _first_word(statement: list[Token]) -> str:
    return next((token.text for token in statement if token.text != "("), "")


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
    """Read function calls and clauses that can occur in any statement."""
    names = [token.text if token.kind in ("word", "name") else "" for token in statement]
    if _defines_routine(statement):
        names = names[:6]  # what it does, it does when it is called; where it is, counts
    elif words[0] != "prepare":
        steps = tuple(config_steps(statement))
        if words[0] == "declare":  # it is done when it is fetched
            steps = tuple(step._replace(value=DECLARE) if step.kind == DOUBT else step for step in steps)
        yield _with_nameless(Effects(steps=steps, calls=calls_of(statement), read_only=_asked(steps)))
        yield Effects(steps=tuple(view_steps(statement)))  # custom settings are not in that view
    if words[0] in ("explain", "create") and any(a == "execute" for a, b in pairwise(words) if b not in _ROUTINE_WORDS):
        yield Effects(steps=(Step(DOUBT, "", "EXECUTE"),))
    yield from (Effects(steps=(Step(DOUBT, "", CUSTOM),), leaves=(CUSTOM,)) for name in _RUN_TEXT.intersection(names))
    for index, word in enumerate(names):
        if word.startswith(("pg_advisory_lock", "pg_try_advisory_lock")):
            yield Effects(leaves=(ADVISORY,), makes=(Named(ADVISORY, lock_of(statement)),))
        elif word == "pg_advisory_unlock_all" and lock_of(statement):
            yield Effects(clears=(ADVISORY,))
        elif word in ("pg_advisory_unlock", "pg_advisory_unlock_shared"):
            yield Effects(ends=(Named(ADVISORY, lock_of(statement)),))
        elif (word == "pg_temp" and words[0] not in ("set", "reset")) or (
            word in ("temp", "temporary") and "into" in words[max(0, index - 2) : index]
        ):
            yield Effects(leaves=(TEMPORARY,))


def _with_nameless(effects: Effects) -> Effects:
    """Mark custom settings as possibly changed if a setting without a known name was: the server does not list them."""
    if all(step.name for step in effects.steps if step.kind == DOUBT):
        return effects
    steps = tuple(s._replace(value=CUSTOM) if s.kind == DOUBT and not s.name else s for s in effects.steps)
    return replace(effects, steps=steps, leaves=(CUSTOM,))


def _set(statement: list[Token], words: list[str]) -> Effects:
    if words[1:2] == ["transaction"]:
        return Effects(read_only="transaction" if asks_read_only(words) else "")
    steps = tuple(set_steps(statement))
    return _with_nameless(Effects(steps=steps, read_only=_asked(steps)))


def _asked(steps: Sequence[Step]) -> str:
    """Return True if the app requests a read-only session, or ends that request."""
    given = [step.value for step in steps if step.name == "default_transaction_read_only" and step.kind == SET]
    return "" if not given else "session" if given[-1] in ("on", "true", "1", "yes") else "ended"


def _reset(statement: list[Token], words: list[str]) -> Effects:
    steps = tuple(reset_steps(statement))
    ended = any(step.kind == RESET_ALL or step.name == "default_transaction_read_only" for step in steps)
    cleared = ("settings",) if steps and steps[-1].kind == RESET_ALL else ()
    return Effects(steps=steps, clears=cleared, read_only="ended" if ended else "")


def _discard(statement: list[Token], words: list[str]) -> Effects:
    if words[1:2] == ["all"]:
        steps = (*(Step(SET, name, None) for name in IDENTITY), Step(RESET_ALL), Step(COMMIT))  # in a pipeline, too
        return Effects(steps=steps, clears=("*",), read_only="ended")
    return Effects(clears=(TEMPORARY,)) if words[1:2] in (["temp"], ["temporary"]) else Effects()


def _prepare(statement: list[Token], words: list[str]) -> Effects:
    if words[1:2] == ["transaction"]:
        return Effects(steps=(Step(COMMIT),), outcome_unknown_if_lost=True)
    steps = (*config_steps(statement), *view_steps(statement))
    named = (Step(NAMED, step.name) for step in steps if step.name)
    left = (PREPARED,) if all(isinstance(step.name, str) and step.name for step in steps) else (PREPARED, CUSTOM)
    what = statement[words.index("as") + 1 :] if "as" in words else []
    made = (Named(PREPARED, (statement[1].text,)),) if len(statement) > 1 else ()
    return Effects(steps=tuple(named), calls=calls_of(what), leaves=left, makes=made)


def _deallocate(statement: list[Token], words: list[str]) -> Effects:
    if words[-1] == "all":
        return Effects(clears=(PREPARED,))
    return Effects(ends=(Named(PREPARED, (statement[-1].text,), whole=True, asks=True),))


def _create(statement: list[Token], words: list[str]) -> Effects:
    if _defines_routine(statement):
        return Effects(defines=True)
    is_temporary = any(word in ("temp", "temporary") for word in words[1:5])
    ends_with_transaction = " on commit drop" in " ".join(words)
    return Effects(leaves=(TEMPORARY,)) if is_temporary and not ends_with_transaction else Effects()


def _declare(statement: list[Token], words: list[str]) -> Effects:
    if "with hold" not in " ".join(words):
        return Effects()
    return Effects(leaves=(HELD,), makes=(Named(HELD, (statement[1].text,)),))


def _close(statement: list[Token], words: list[str]) -> Effects:
    if words[1:2] == ["all"]:
        return Effects(clears=(HELD,))
    return Effects(ends=(Named(HELD, (statement[-1].text,), whole=True, asks=True),))


def _listen(statement: list[Token], words: list[str]) -> Effects:
    return Effects(leaves=(LISTEN,), makes=(Named(LISTEN, (statement[-1].text,)),))


def _unlisten(statement: list[Token], words: list[str]) -> Effects:
    if statement[-1].text == "*":
        return Effects(clears=(LISTEN,))
    return Effects(ends=(Named(LISTEN, (statement[-1].text,), whole=True, asks=True),))


def _drop(statement: list[Token], words: list[str]) -> Effects:
    """Read a DROP. Only the server knows whether the table is temporary: that depends on the search path."""
    return Effects(ends=(Named(TEMPORARY, asks=True),))


def _rollback(statement: list[Token], words: list[str]) -> Effects:
    if "prepared" in words:
        return Effects(outcome_unknown_if_lost=True)
    if "to" in words:
        return Effects(steps=(Step(ROLLBACK_TO, statement[-1].text),))
    return Effects(steps=(Step(ROLLBACK), *_chained(words)), rolls_back=True)


def _commit(statement: list[Token], words: list[str]) -> Effects:
    if "prepared" in words:
        return Effects(outcome_unknown_if_lost=True)
    return Effects(steps=(Step(COMMIT), *_chained(words)), outcome_unknown_if_lost=True)


def _chained(words: list[str]) -> tuple[Step, ...]:
    return (Step(BEGIN),) if words[-2:] == ["and", "chain"] else ()


def _begin(statement: list[Token], words: list[str]) -> Effects:
    return Effects(steps=(Step(BEGIN),), begins=True, read_only="transaction" if asks_read_only(words) else "")


def _do(statement: list[Token], words: list[str]) -> Effects:
    bodies = "\n".join(token.text for token in statement if token.kind in ("string", "escaped"))
    language = words[words.index("language") + 1] if "language" in words[:-1] else "plpgsql"
    found = judge("", language, bodies)
    named = tuple(Step(DOUBT, name, "DO") for name in sorted(found.settings))
    nameless = (Step(DOUBT, "", CUSTOM),) if found.nameless else ()
    steps = (*named, Step(DOUBT, "", "DO"), *nameless)
    return Effects(steps=steps, calls=found.calls, leaves=(CUSTOM,) if nameless else ())


def _call(statement: list[Token], words: list[str]) -> Effects:
    called = next((token.text for place, token in enumerate(statement[:-1]) if statement[place + 1].text == "("), "")
    return Effects(steps=(Step(DOUBT, "", "CALL"),), calls=frozenset({called} if called else ()))


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
    "commit": _commit,
    "end": _commit,
    "savepoint": lambda statement, words: Effects(steps=(Step(SAVEPOINT, statement[-1].text),)),
    "release": lambda statement, words: Effects(steps=(Step(RELEASE, statement[-1].text),)),
    "rollback": _rollback,
    "abort": _rollback,
    "alter": lambda statement, words: Effects(defines=_defines_routine(statement)),
    "listen": _listen,
    "unlisten": _unlisten,
    "close": _close,
    "drop": _drop,
    "do": _do,
    "call": _call,
    "execute": lambda statement, words: Effects(steps=(Step(DOUBT, "", "EXECUTE"),)),
    "copy": lambda statement, words: Effects(streams="stdin" in words),
    "load": lambda statement, words: Effects(leaves=(LOADED,)),
}
