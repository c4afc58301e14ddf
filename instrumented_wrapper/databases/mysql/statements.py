"""Read the effects of a statement, or of several, on the session.

`scan` reads words, not meaning. It reads a setting exactly or marks it as uncertain. Of other state it returns what
*may* exist, because a silent switch requires a session that is carried over completely. The manuals list the statements
that commit implicitly under "Statements That Cause an Implicit Commit".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from instrumented_wrapper.databases.lexer import without_data
from instrumented_wrapper.databases.mysql.functions import calls
from instrumented_wrapper.databases.mysql.named_state import deallocated, lock_of, temporary
from instrumented_wrapper.databases.mysql.settings import HIDDEN, is_of_next_transaction, set_steps
from instrumented_wrapper.databases.mysql.state import (
    HANDLERS,
    LOCKED,
    LOCKS,
    NEXT,
    PREPARED,
    RESOURCE_GROUP,
    TEMPORARY,
    USER_VARIABLES,
)
from instrumented_wrapper.databases.mysql.tokens import Token, tokens_of
from instrumented_wrapper.databases.mysql.transactions import commit, rollback, xa
from instrumented_wrapper.statement import (
    BEGIN,
    COMMIT,
    DOUBT,
    NAMED,
    RELEASE,
    SAVEPOINT,
    SET,
    SET_LOCAL,
    Effects,
    Named,
    Step,
    merged_effects,
    part_of,
)

_BEGINNINGS: Final = (
    r"(?:\A|;)[\s(]*(?:alter|analyze|begin|cache|call|change|check|commit|create|deallocate|do|drop|execute|flush"
    r"|get|grant|handler|install|load|lock|optimize|prepare|purge|release|rename|repair|reset|revoke|rollback"
    r"|savepoint|set|start|stop|truncate|uninstall|unlock|use|xa)\b"
)
_INTO: Final = r"\binto(?:\s|/\*.{0,200}?\*/)*+@"
_TRIGGERS: Final = re.compile(
    rf"{_BEGINNINGS}|:=|{_INTO}|\bget_lock\b|\brelease_(?:all_)?locks?\b", re.IGNORECASE | re.DOTALL
)
# Without escapes, whose meaning depends on the session, and without what may be a name or a comment.
_LITERALS: Final = re.compile(r"'(?:[^'\\]++|'')*+'")
_NOT_PLAIN: Final = re.compile(r"""--|/\*|\#|["`\\]|\$\$""")
_COMMENTED: Final = re.compile(r"(?:\A|;)\s*(?:/\*|--|\#)")
_VERSIONS: Final = re.compile(r"/\*M?!(\d{5,6})")
_SURE: Final = 50700  # MariaDB leaves out what is for MySQL from here on, and each server what is for newer ones
# Of temporary tables and prepared statements; and what MariaDB sets and restores itself while it looks after a table.
_TOLD: Final = ("alter", "analyze", "deallocate", "drop", "optimize", "repair")
_INTO_VARIABLES: Final = ("get", "load")  # GET DIAGNOSTICS @a = ..., LOAD DATA ... (i, @w)
_ROUTINES: Final = ("procedure", "function", "trigger", "event", "package")
_WITH_CHARACTER_SET: Final = re.compile(r"(?:n|_\w+\s*)['\"]", re.IGNORECASE)
# Statements that commit what is open, by their first word.
_COMMITS: Final = frozenset(
    """alter analyze cache change check create drop flush grant install optimize purge rename repair reset revoke stop
    truncate uninstall""".split()
)


def scan(text: str) -> Effects | None:
    """Return what `text`, one or several statements, may do to the session; None where it is nothing that matters."""
    rest = without_data(text, _LITERALS, _NOT_PLAIN)
    called = calls(rest)
    if not (_TRIGGERS.search(rest) or _COMMENTED.search(rest)):
        return Effects(calls=called) if called else None
    statements = [statement for statement in _statements(text) if statement]
    each = [tuple(_effects_of(statement)) for statement in statements]
    merged = merged_effects([effects for found in each for effects in found], len(statements) > 1, frozenset({LOCKS}))
    parts = tuple(part_of(_first_word(statement), found) for statement, found in zip(statements, each, strict=True))
    merged = replace(merged, parts=parts)
    if any(int(version) >= _SURE for version in _VERSIONS.findall(text)):
        merged = replace(merged, steps=tuple(_unsure(step) for step in merged.steps))
    if called:
        merged = replace(merged, calls=called | merged.calls)
    return None if merged == Effects(several=merged.several) else merged


def _unsure(step: Step) -> Step:
    return Step(DOUBT, step.name, "SET") if step.kind == SET else step


def _statements(text: str) -> Iterator[list[Token]]:
    """Split a text into statements. The body of a routine runs when the routine is called, and is left out with the
    rest.

    A compound statement includes all that follows it: its end is not searched for.
    """
    statement: list[Token] = []
    for token in tokens_of(text):
        if token != Token("mark", ";") or _is_compound(statement):
            statement.append(token)
            continue
        if _defines_routine(statement):
            break
        yield statement
        statement = []
    yield statement


def _defines_routine(statement: Sequence[Token]) -> bool:
    head = [token.text for token in statement[:12]]
    return head[:1] in (["create"], ["alter"]) and any(word in _ROUTINES for word in head)


def _is_compound(statement: Sequence[Token]) -> bool:
    return [token.text for token in statement[:3]] == ["begin", "not", "atomic"]


def _first_word(statement: list[Token]) -> str:
    """Return the word that determines what a statement does with data: SELECT for ``SET @x = (SELECT ...)``."""
    words = [word for word in _words(statement) if word] or [""]
    if words[:2] == ["set", "statement"]:
        return words[words.index("for") + 1] if "for" in words[:-1] else ""
    if _is_compound(statement):
        return "call"
    return "select" if words[0] == "set" and "select" in words else words[0]


def _effects_of(statement: list[Token]) -> Iterator[Effects]:
    while statement and statement[0].text == "(":
        statement = statement[1:]
    if not statement or statement[0].kind != "word":
        return
    words = _words(statement)
    if words[:2] == ["set", "statement"]:
        yield from _set_statement(statement, words)
        return
    if reader := _BY_FIRST_WORD.get(words[0]):
        yield reader(statement, words)
    elif words[0] in _COMMITS:
        yield _committed(statement, words)
    if words[0] in _TOLD:
        yield Effects(is_reported=True)
    if words[0] != "set" and not _defines_routine(statement):
        yield from _anywhere(statement, words)
    elif "get_lock" in words:
        yield Effects(leaves=(LOCKS,))
    if words[0] in ("alter", "rename"):  # a temporary table may have another name now
        yield Effects(blurs=(TEMPORARY,))


def _anywhere(statement: list[Token], words: list[str]) -> Iterator[Effects]:
    """Read assignments to user variables and function calls, which can occur in any statement."""
    for (before, token), following in zip(pairwise(statement), [*statement[2:], None], strict=False):
        assigned = token.kind == "variable" and following == Token("mark", ":=")
        if assigned or (token.kind == "variable" and before == Token("word", "into")):
            yield Effects(steps=(Step(DOUBT, f"@{token.text}", "SELECT"),))
    if "into" in words:
        after = statement[words.index("into") + 1 :]
        for index in range(2, len(after), 2):
            if after[index - 1] != Token("mark", ",") or after[index].kind != "variable":
                break
            yield Effects(steps=(Step(DOUBT, f"@{after[index].text}", "SELECT"),))
    if words[0] in _INTO_VARIABLES:
        streams = words[0] == "load" and "local" in words
        yield Effects(steps=_named(statement, words[0].upper()), streams=streams)
    if "get_lock" in words:
        yield Effects(leaves=(LOCKS,), makes=(Named(LOCKS, lock_of(statement)),))
    if words[1:2] == ["release_lock"]:
        yield Effects(ends=(Named(LOCKS, lock_of(statement)),))
    if words[0] in ("select", "do") and words[1:2] == ["release_all_locks"] and len(words) == 4:
        yield Effects(clears=(LOCKS,))


def _words(statement: Sequence[Token]) -> list[str]:
    return [token.text if token.kind == "word" else "" for token in statement]


def _set_statement(statement: list[Token], words: list[str]) -> Iterator[Effects]:
    """``SET STATEMENT a = 1 FOR ...``: the settings are back when the other statement is done."""
    end = words.index("for") if "for" in words else len(words)
    steps = set_steps([statement[0], *statement[2:end]])
    yield Effects(steps=tuple(Step(SET_LOCAL, step.name) for step in steps))
    yield from _effects_of(statement[end + 1 :])


def _set(statement: list[Token], words: list[str]) -> Effects:
    if words[1:2] == ["transaction"]:
        return Effects(leaves=(NEXT,), read_only="transaction" if words[-2:] == ["read", "only"] else "")
    if words[1:3] == ["resource", "group"]:
        return Effects(leaves=() if "for" in words else (RESOURCE_GROUP,))  # of another thread
    given = tuple(set_steps(statement))
    steps = tuple(step for step in given if step.name not in HIDDEN)
    hidden = tuple(str(step.name) for step in given if step.name in HIDDEN)
    leaves = (*((NEXT,) if is_of_next_transaction(statement) else ()), *hidden)
    access = [str(step.value) for step in steps if step.name == "read_only" and step.kind == SET]
    turned_on = any(step == Step(SET, "autocommit", "1") for step in steps)
    return Effects(
        steps=(*((Step(COMMIT),) if turned_on else ()), *steps),
        leaves=leaves,
        outcome_unknown_if_lost=turned_on,
        read_only="" if not access else "session" if access[-1] == "1" else "ended",
    )


def _committed(statement: list[Token], words: list[str]) -> Effects:
    if words[0] in ("create", "drop") and "temporary" in words[1:4]:
        return temporary(statement)
    if words[:2] == ["drop", "prepare"]:
        return deallocated(statement)
    locked = words[0] == "flush" and words[-3:] == ["with", "read", "lock"]
    ends = temporary(statement).ends if words[:2] == ["drop", "table"] else ()
    return Effects(
        steps=(Step(COMMIT),),
        outcome_unknown_if_lost=True,
        clears=(NEXT,),
        leaves=(LOCKED,) if locked else (),
        ends=ends,
    )


def _begin(statement: list[Token], words: list[str]) -> Effects:
    if words[0] == "start" and words[1:2] != ["transaction"]:
        return _committed(statement, words)  # START SLAVE
    if _is_compound(statement):
        return _unseen(statement, "BEGIN NOT ATOMIC", several=True)
    read_only = any(pair == ("read", "only") for pair in pairwise(words))
    return Effects(
        steps=(Step(COMMIT), Step(BEGIN)),
        outcome_unknown_if_lost=True,
        begins=True,
        read_only="transaction" if read_only else "",
    )


def _execute(statement: list[Token], words: list[str]) -> Effects:
    """``EXECUTE IMMEDIATE`` of a literal does what the statement in it does; others run what is not read here."""
    if words[1:2] == ["immediate"] and (found := _quoted_statement(statement[2:])) is not None:
        return found
    return _unseen([], "EXECUTE", several=False)


def _prepare(statement: list[Token], words: list[str]) -> Effects:
    """The settings that a prepared statement names are set when it is executed."""
    found = (_quoted_statement(statement[3:]) if words[2:3] == ["from"] else None) or Effects()
    names = (str(step.name) for step in found.steps if step.kind in (SET, DOUBT) and step.name)
    steps = tuple(Step(NAMED, name) for name in dict.fromkeys(names))
    return Effects(steps=steps, leaves=(PREPARED,), makes=(Named(PREPARED, (statement[1].text.lower(),)),))


def _quoted_statement(tokens: Sequence[Token]) -> Effects | None:
    """Return what the statement does that is the first of `tokens`, if that is a literal and nothing is added to it."""
    if not tokens or (len(tokens) > 1 and tokens[1] != Token("word", "using")):
        return None
    kind, text = tokens[0]
    if kind == "string":
        return scan(text) or Effects()
    if kind != "escaped" or _WITH_CHARACTER_SET.match(text):
        return None
    found = scan(re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)) or Effects()  # as far as backslashes mean that
    return replace(found, steps=tuple(_unsure(step) for step in found.steps))


def _unseen(statement: list[Token], because: str, several: bool) -> Effects:
    """What runs there is not read."""
    steps = (Step(DOUBT, "", because), *_named(statement, because))
    blurs = (TEMPORARY, LOCKS, *((PREPARED,) if several else ()))  # a prepared statement prepares no other
    return Effects(steps=steps, leaves=(USER_VARIABLES,), blurs=blurs, outcome_unknown_if_lost=True, several=several)


def _named(statement: list[Token], because: str) -> tuple[Step, ...]:
    """The user variables that are named may get values."""
    return tuple(Step(DOUBT, f"@{token.text}", because) for token in statement if token.kind == "variable")


def _use(statement: list[Token], words: list[str]) -> Effects:
    steps = (Step(SET, "database", statement[1].text),)
    return Effects(steps=steps, blurs=(TEMPORARY,)) if len(statement) == 2 else Effects()


_BY_FIRST_WORD: Final[dict[str, Callable[[list[Token], list[str]], Effects]]] = {
    "set": _set,
    "begin": _begin,
    "start": _begin,
    "commit": commit,
    "rollback": rollback,
    "savepoint": lambda statement, words: Effects(steps=(Step(SAVEPOINT, statement[-1].text.lower()),)),
    "release": lambda statement, words: Effects(steps=(Step(RELEASE, statement[-1].text.lower()),)),
    "xa": xa,
    "call": lambda statement, words: _unseen(statement, "CALL", several=True),  # COMMIT among it, perhaps
    "execute": _execute,
    "deallocate": lambda statement, words: deallocated(statement),
    "use": _use,
    "lock": lambda statement, words: Effects(steps=(Step(COMMIT),), outcome_unknown_if_lost=True, leaves=(LOCKED,)),
    "unlock": lambda statement, words: Effects(steps=(Step(COMMIT),), outcome_unknown_if_lost=True, clears=(LOCKED,)),
    "prepare": _prepare,
    "handler": lambda statement, words: Effects(leaves=(HANDLERS,) if "open" in words else ()),
}
