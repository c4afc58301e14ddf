"""Functions in a statement: which ones leave the session unchanged, and which settings the body of another may change.

An unknown function costs one query (`known_functions`). A function that is wrongly listed as harmless leaks a setting.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from instrumented_wrapper.databases.postgresql.config_calls import doubtful_calls
from instrumented_wrapper.databases.postgresql.settings import RESERVED
from instrumented_wrapper.databases.postgresql.tokens import Token, folded, tokens_of
from instrumented_wrapper.databases.word_lists import words_in

HARMLESS: Final = words_in(__package__, "harmless_functions.txt")
# Words that stand before a parenthesis without calling anything: reserved ones, names of types, and some of clauses.
_NOT_CALLED: Final = frozenset(
    "all and any array as asymmetric between by case cast check collate constraint cross default distinct do else end"
    " except exists for foreign from full group grouping having if ilike in inner intersect interval into is isnull"
    " join key lateral left like limit natural not notnull offset on only or order out outer overlay primary references"
    " returning right row select similar some symmetric table tablesample then to union unique user using values when"
    " where window with bernoulli conflict copy explain filter include materialized ordinality over system within"
    " bigint bit bool boolean bpchar bytea char character date dec decimal double float float4 float8 int int2 int4"
    " int8 integer json jsonb name numeric oid precision real smallint text time timestamp timestamptz timetz uuid"
    " varbit varchar varying xml".split()
)
# What may stand before the name of a table, a CTE or an alias that has a list of columns, and of a new function.
_BEFORE_COLUMNS: Final = frozenset(
    "into table as references only update with recursive copy exists of view function procedure aggregate"
    " statistics".split()
)
_OF_INDEX: Final = frozenset({"on", "using"})  # before the name of a table, or of an access method
_LISTING: Final = frozenset({"from", "join", "using", "only", ","})  # before the name of a table in a query
_NO_TABLE: Final = _NOT_CALLED | RESERVED | {"content", "document", "value"}  # no table is called so, unless quoted
_PARTITIONED: Final = [Token("mark", ")"), Token("word", "partition"), Token("word", "by")]
_QUERIES: Final = frozenset(
    "select with values insert update delete merge table explain copy declare create alter refresh set".split()
)
_WITHIN_WITH: Final = frozenset("( select with values insert update delete merge table".split())
# A name after a dot is known to nobody.
_CALLED: Final = re.compile(r"((?<![\w$])[\w$]++|\.[\w$]++|\")\s*+(?:(?:/\*.*?\*/|--[^\n]*\n)\s*)*\(", re.DOTALL)
_INTO: Final = re.compile(r"\s*insert\s+into\s+[\w$.\"]+(?:\s+as\s+\w+)?\s*\(", re.IGNORECASE)


def may_call(text: str) -> bool:
    """Return True if a text may call a function that is not listed as harmless. This check is cheap."""
    start = head.end() if (head := _INTO.match(text)) else 0
    return any(name.lower() not in _KNOWN for name in set(_CALLED.findall(text, start)) if not name.isdigit())


_KNOWN: Final = HARMLESS | _NOT_CALLED


def calls_of(statement: Sequence[Token]) -> frozenset[str]:
    """Return the names of the functions that a query calls, without those listed as harmless."""
    if not statement or statement[0].text not in _QUERIES:
        return frozenset()
    return frozenset(
        token.text
        for place, token in enumerate(statement[:-1])
        if token.kind in ("word", "name") and statement[place + 1].text == "(" and _is_called(statement, place)
    )


def _is_called(statement: Sequence[Token], place: int) -> bool:
    token, of_the_apps = statement[place], _is_of_the_apps(statement, place)
    plain = token.text in HARMLESS or (token.kind == "word" and token.text in _NOT_CALLED)
    if token.text == "set_config" or (plain and not of_the_apps):
        return False
    while place > 1 and statement[place - 1].text == ".":
        place -= 2
    if not place:
        return True
    before, is_create = statement[place - 1], statement[0].text == "create"
    if _is_alias(statement, place - 1) or before.text == "::" or _is_clause(statement, place):
        return False
    if before.kind != "word":
        return not _is_query_name(statement, place)
    return before.text not in _BEFORE_COLUMNS and not (before.text in _OF_INDEX and is_create)


def _is_clause(statement: Sequence[Token], place: int) -> bool:
    """Return True if a list in parentheses follows a word of a clause: no function is called."""
    token, before = statement[place], statement[place - 1]
    if token.text == "set":  # UPDATE t SET (a, b) = ...
        return before.kind == "name" or (before.kind == "word" and before.text not in _NO_TABLE)
    if token.text == "insert":  # MERGE ... THEN INSERT (a) VALUES ...
        return before.text == "then" and Token("word", "merge") in statement
    if token.text in ("hash", "list", "range"):
        return statement[0].text == "create" and statement[max(place - 3, 0) : place] == _PARTITIONED
    if token.text == "sets":
        return before.text == "grouping"
    if token.text == "operator":  # SELECT 1 OPERATOR(pg_catalog.+) 2
        last = next((a for a, b in pairwise(statement[place:]) if b.text == ")"), token)
        return last.kind == "mark" and last.text != "("
    return before.text == "using" and statement[place - 2].text == "exclude"


def _is_query_name(statement: Sequence[Token], place: int) -> bool:
    """Return True if a query of a WITH has the name at `place`, and columns: ``, name(a) AS (SELECT ...``."""
    if statement[place - 1].text != ",":
        return False
    end = place + 2
    while end < len(statement) and (statement[end].kind in ("word", "name") or statement[end].text == ","):
        end += 1
    after = [token.text for token in statement[end : end + 6] if token.text not in ("not", "materialized")]
    return after[:3] == [")", "as", "("] and not _WITHIN_WITH.isdisjoint(after[3:4])


def _is_alias(statement: Sequence[Token], place: int) -> bool:
    """Return True if the token at `place` ends what a FROM lists: a name that follows is its alias, with columns."""
    before = statement[place]
    if before.kind not in ("word", "name"):
        return before.text == ")" and _before_list(statement, place) not in ("on", "operator")
    if before.kind == "word" and before.text in _NO_TABLE:
        return False
    while place > 1 and statement[place - 1].text == ".":
        place -= 2
    return place > 0 and statement[place - 1].kind in ("word", "mark") and statement[place - 1].text in _LISTING


def _before_list(statement: Sequence[Token], place: int) -> str:
    """Return the word before the parentheses that end at `place`; a call may follow DISTINCT ON (), OPERATOR()."""
    depth = 0
    for start in range(place, 0, -1):
        depth += {")": 1, "(": -1}.get(statement[start].text, 0) if statement[start].kind == "mark" else 0
        if not depth:
            return statement[start - 1].text
    return ""


def _is_of_the_apps(statement: Sequence[Token], place: int) -> bool:
    """Return True if a name is in a schema that does not belong to PostgreSQL itself."""
    return place > 1 and statement[place - 1].text == "." and statement[place - 2].text != "pg_catalog"


class Verdict(NamedTuple):
    """What a function may do: change the session by itself; call others; set custom settings, named there or not."""

    sets: bool
    calls: frozenset[str]
    settings: frozenset[str]
    nameless: bool


_SETTING_IN_C: Final = frozenset({"set_limit", "dblink_exec"})
_WORDS: Final = frozenset(
    "set_config reset discard execute call do listen unlisten load deallocate prepare temp temporary pg_temp".split()
)
_MAY_SET: Final = re.compile(r"\s*set\b|.*\bset_config\b", re.IGNORECASE | re.DOTALL)
_EXECUTE: Final = Token("word", "execute")
_STARTS: Final = frozenset({"", ";", "begin", "then", "else", "loop", "as"})
_NAMED: Final = re.compile(
    r"(?:\bset(?:\s+(?:session|local))?|\breset|set_config\s*\(\s*'+)\s*\"?"
    r"([^\W\d][\w$]*(?:\.[^\W\d][\w$]*)+|role\b|search_path\b)",
    re.IGNORECASE,
)


def judge(name: str, language: str, body: str) -> Verdict:
    """Judge a function by its language and its body, as ``pg_proc`` has them."""
    if language in ("internal", "c"):
        return Verdict(name in _SETTING_IN_C or name == "set_config", frozenset(), frozenset(), False)
    if language not in ("sql", "plpgsql"):
        return Verdict(True, frozenset(), _settings_in(body), bool(_MAY_SET.search(body)))
    tokens = list(tokens_of(body))
    calls = (place for place, token in enumerate(tokens[:-1]) if tokens[place + 1].text == "(")
    called = frozenset(tokens[p].text for p in calls if tokens[p].kind in ("word", "name") and _is_called(tokens, p))
    sets = any(_sets(tokens, p) for p in range(len(tokens)))
    return Verdict(sets, called, _settings_in(body), sets and _sets_nameless(tokens))


def _sets(tokens: Sequence[Token], place: int) -> bool:
    token = tokens[place]
    if token.kind not in ("word", "name"):
        return False
    before = tokens[place - 1].text if place else ""
    if token.text == "do":
        return before in _STARTS
    return token.text in _WORDS or "advisory_lock" in token.text or (token.text == "set" and before in _STARTS)


def _settings_in(body: str) -> frozenset[str]:
    """Return the security state that a body names where it may set it; the server lists all but custom settings."""
    return frozenset(folded(name) for name in _NAMED.findall(body))


def _sets_nameless(tokens: Sequence[Token]) -> bool:
    """Return True if a body may change a setting whose name is computed at run time."""
    if any(not isinstance(step.name, str) or not step.name for step in doubtful_calls(tokens)):
        return True
    return any(_runs_unseen(tokens[place + 1 :]) for place, token in enumerate(tokens) if token == _EXECUTE)


def _runs_unseen(what: Sequence[Token]) -> bool:
    """Return True if the text after EXECUTE, or its format string, may change a setting without containing its name."""
    if [token.text for token in what[:2]] == ["format", "("]:
        what = what[2:]
    if not what or what[0].kind not in ("string", "escaped"):
        return True
    return bool(_MAY_SET.match(what[0].text)) and not _NAMED.search(what[0].text)
