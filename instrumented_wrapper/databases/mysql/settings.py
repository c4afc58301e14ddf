"""``SET`` and its spellings, read exactly: which setting gets which text. What cannot be read exactly is a doubt.

Names: system variables by their own, user variables with their ``@``, and those that every database has by ours
(`autocommit`, `read_only`, `isolation_level`, `database`, `role`). Rules: the manuals' pages "SET Syntax for Variable
Assignment", "SET TRANSACTION", "SET NAMES", "SET ROLE".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from instrumented_wrapper.databases.mysql.tokens import Token
from instrumented_wrapper.databases.mysql.values import Number
from instrumented_wrapper.statement import DOUBT, SET, Step

# Ours -> what a server calls it.
NAMES: Final = {
    "tx_isolation": "isolation_level",
    "transaction_isolation": "isolation_level",
    "tx_read_only": "read_only",
    "transaction_read_only": "read_only",
    "identity": "last_insert_id",
}
# Reported by servers, and never set by an app: these are read-only. MySQL 9 reports its `statement_id` each time.
OWN: Final = frozenset(
    "error_count external_user gtid_owned in_transaction last_gtid proxy_user statement_id warning_count".split()
)
# What is set there means another thing in another session, or is of one statement: it is reset, and never carried.
NOT_CARRIED: Final = frozenset(
    """gtid_next gtid_seq_no immediate_server_version insert_id last_insert_id original_commit_timestamp
    original_server_version pseudo_thread_id wsrep_gtid_seq_no""".split()
)
# They cannot be read: neither what they were nor what they are.
HIDDEN: Final = frozenset({"rand_seed1", "rand_seed2"})
COMPLETION: Final = "completion_type"  # what COMMIT and ROLLBACK do besides
SAID: Final = "said"  # the name of a commit or rollback whose text says whether it chains
TIMESTAMP: Final = "timestamp"  # where nobody has set it, it is the present time; what is reported of it is old
_RUNNING: Final = "0"
# They have no global value (errno 1238; MySQL 9.7, MariaDB 10.11): what each session begins with, where that is known.
SESSION_ONLY: Final[dict[str, str | None]] = {
    **dict.fromkeys(NOT_CARRIED),
    **dict.fromkeys(
        """default_master_connection pseudo_replica_mode pseudo_slave_mode require_row_format resultset_metadata
        show_create_table_skip_secondary_engine skip_parallel_replication skip_replication sql_log_bin
        system_versioning_asof transaction_allow_batching use_secondary_engine""".split()
    ),
    "insert_id": "0",
    "last_insert_id": "0",
    TIMESTAMP: _RUNNING,
}
NO_ROLE: Final = "NONE"
ANEW: Final = "DEFAULT"  # what a server shows of a variable that is set to its default by this word only
_SWITCHES: Final = {"on": "1", "true": "1", "off": "0", "false": "0"}
_ELSEWHERE: Final = ("global", "persist", "persist_only")
_CHARACTER_SETS: Final = ("character_set_client", "character_set_results", "character_set_connection")
_OTHERS: Final = (["transaction"], ["password"], ["default"], ["resource"], ["statement"])  # no variables
# Setting the one sets the other, which is not reported.
TOGETHER: Final = {
    "character_set_connection": "collation_connection",
    "collation_connection": "character_set_connection",
}
_TARGETS: Final = ("word", "system", "name", "string")  # a string there is a name under ANSI_QUOTES
NULLABLE: Final = "character_set_results"  # what is NULL there is reported, and kept, as nothing
_COLLATION: Final = "collation_connection"


def chains(completion_type: str | None) -> bool:
    """Return True if a COMMIT or ROLLBACK without further words begins the next transaction."""
    return completion_type is not None and completion_type.upper() in ("1", "CHAIN")


def switched(text: str) -> str:
    """Return the value of a switch as 1 or 0, for a server has several words for it; others as they are."""
    return _SWITCHES.get(text.lower(), text)


def canonical(name: str, text: str | None) -> tuple[str, str | None]:
    """Return a system variable as a setting of ours."""
    known = NAMES.get(name.lower(), name.lower())
    if text is None:
        return known, "" if known == NULLABLE else None
    return known, text.upper().replace(" ", "-") if known == "isolation_level" else switched(text)


def set_steps(statement: Sequence[Token]) -> Iterator[Step]:
    """Yield what a ``SET`` does to the session, the statement's first word included."""
    rest = statement[1:]
    words = [token.text if token.kind == "word" else "" for token in rest]
    scoped = words[:1] in (["session"], ["local"]) and words[1:2] == ["transaction"]
    if scoped:
        yield from _characteristics(words[2:])
    elif words[:1] == ["role"]:
        yield from _role(rest[1:])
    elif words[:1] not in _OTHERS and words[:2] != ["global", "transaction"]:
        yield from _assignments(rest)


def _characteristics(words: Sequence[str]) -> Iterator[Step]:
    text = " ".join(words)
    for level in ("read uncommitted", "read committed", "repeatable read", "serializable"):
        if f"isolation level {level}" in text:
            yield Step(SET, "isolation_level", level.upper().replace(" ", "-"))
    if "read only" in text:
        yield Step(SET, "read_only", "1")
    elif "read write" in text:
        yield Step(SET, "read_only", "0")


def _encoding(part: Sequence[Token]) -> Iterator[Step]:
    """Read ``NAMES`` and ``CHARACTER SET``, which can occur among assignments."""
    words = [token.text if token.kind == "word" else "" for token in part[:2]]
    if words[:1] == ["names"]:
        yield from _names(part[1:])
    elif words in (["character", "set"], ["char", "set"]) or words[:1] == ["charset"]:
        yield from _character_set(part[1:] if words[0] == "charset" else part[2:])


def _names(given: Sequence[Token]) -> Iterator[Step]:
    charset = _word_of(given[0]) if given else None
    if charset is None or charset == "default":
        yield from (Step(DOUBT, name, "SET NAMES") for name in (*_CHARACTER_SETS, _COLLATION))
        return
    yield from (Step(SET, name, charset) for name in _CHARACTER_SETS)
    collation = _word_of(given[2]) if len(given) > 2 and given[1].text == "collate" else None
    yield Step(DOUBT, _COLLATION, "SET NAMES") if collation is None else Step(SET, _COLLATION, collation)


def _character_set(given: Sequence[Token]) -> Iterator[Step]:
    charset = _word_of(given[0]) if given else None
    for name in _CHARACTER_SETS[:2]:
        exact = charset is not None and charset != "default"
        yield Step(SET, name, charset) if exact else Step(DOUBT, name, "SET CHARACTER SET")
    yield from (Step(DOUBT, name, "SET CHARACTER SET") for name in (_CHARACTER_SETS[2], _COLLATION))


def _word_of(token: Token) -> str | None:
    return token.text if token.kind in ("word", "string", "name") else None


def _role(given: Sequence[Token]) -> Iterator[Step]:
    plain = len(given) == 1 and given[0].kind in ("word", "string", "name")
    if not plain or given[0] in (Token("word", "default"), Token("word", "all")):
        yield Step(DOUBT, "role", "SET ROLE")
    else:
        yield Step(SET, "role", NO_ROLE if given[0] == Token("word", "none") else given[0].text)


def _assignments(tokens: Sequence[Token]) -> Iterator[Step]:
    scope = "session"
    for part in _split(tokens):
        if part and part[0].kind == "word" and part[0].text in ("session", "local", *_ELSEWHERE) and len(part) > 2:
            scope, part = part[0].text, part[1:]
        yield from _encoding(part)
        if step := _assignment(part, scope):
            yield step
            if (other := TOGETHER.get(str(step.name))) is not None:
                yield Step(DOUBT, other, "SET")


def _split(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """Split at the commas that are in no parentheses."""
    depth, start = 0, 0
    for place, token in enumerate(tokens):
        if token.kind == "mark" and token.text in "()":
            depth += 1 if token.text == "(" else -1
        elif token == Token("mark", ",") and depth <= 0:
            yield tokens[start:place]
            start = place + 1
    yield tokens[start:]


def _assignment(part: Sequence[Token], scope: str) -> Step | None:
    if len(part) < 2:
        return None
    target, value = part[0], part[2:]
    if target.kind == "variable":
        return _given(f"@{target.text}", value)
    name = target.text
    if target.kind == "system":
        scope, _, name = name.removeprefix("@@").rpartition(".")
        if not scope and name in NAMES:
            return None  # of the next transaction only
        scope = scope or "session"
    if scope in _ELSEWHERE or target.kind not in _TARGETS or part[1].text not in ("=", ":="):
        return None
    name = NAMES.get(name.lower(), name.lower())
    return None if name in OWN else _given(name, value)


def is_of_next_transaction(statement: Sequence[Token]) -> bool:
    """Return True if a ``SET`` affects only the next transaction: by a word, or ``@@tx_isolation`` without scope."""
    targets = (token for token, sign in pairwise(statement) if sign.text in ("=", ":="))
    named = any(token.kind == "system" and token.text.removeprefix("@@") in NAMES for token in targets)
    return named or statement[1:2] == [Token("word", "transaction")]


def _given(name: str, value: Sequence[Token]) -> Step:
    """Return the step that gives a setting a value, where that is a literal."""
    text = _RUNNING if name == TIMESTAMP and value[:1] == [Token("word", "default")] else _literal(name, value)
    is_null = name.startswith("@") and len(value) == 1 and value[0] == Token("word", "null")
    if text is None and not is_null:
        return Step(DOUBT, name, "SET")
    return Step(SET, *canonical(name, text)) if not name.startswith("@") else Step(SET, name, text)


def _literal(name: str, value: Sequence[Token]) -> str | None:
    if len(value) == 2 and value[0].text in ("-", "+") and value[1].kind == "number":
        return Number(value[0].text.removeprefix("+") + value[1].text)
    if len(value) != 1:
        return None
    (token,) = value
    if token.kind == "number":
        return Number(token.text)
    if token.kind == "string":  # what other characters mean depends on the character set of the session
        return token.text if token.text.isascii() else None
    is_name = token.kind == "word" and token.text not in ("default", "null") and not name.startswith("@")
    return token.text if is_name else None
