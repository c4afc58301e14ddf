"""SQLite: the effects of statements on a connection, and the queries about a connection.

Text in, data and text out; no driver. Settings are the PRAGMAs of a connection (not of the file, like ``journal_mode``)
that can be read and reset: https://sqlite.org/pragma.html. ``query_only`` is named `read_only`, as in every database.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final

from instrumented_wrapper.databases import Capabilities, summary
from instrumented_wrapper.databases.lexer import LexicalDialect, Piece
from instrumented_wrapper.databases.summary import cut
from instrumented_wrapper.operations import Words
from instrumented_wrapper.plans import Assignment
from instrumented_wrapper.statement import DOUBT, Effects, Step

__all__ = [
    "CAPABILITIES",
    "LISTED",
    "NOT_CARRIED",
    "OBSTACLES",
    "READING",
    "SYSTEM",
    "UNNAMED",
    "answer",
    "assign",
    "clearing",
    "configures",
    "covers",
    "cut",
    "is_listed",
    "is_security_state",
    "outlives_rollback",
    "query_setting",
    "reads_last",
    "scan",
    "shown",
    "survives_reset_all",
    "words_of",
]

SYSTEM: Final = "sqlite"
CAPABILITIES: Final = Capabilities(
    rollback_undoes_set=False,  # a PRAGMA outlives a rollback
    aborts_transactions=False,
    set_begins_transaction=False,
    asking_disturbs_diagnostics=True,
    commits_implicitly=False,
    runs_text_atomically=False,
    has_defaults=False,  # there is no way to say: as it was
)
NOT_CARRIED: Final = frozenset[str]()
UNNAMED: Final = ""  # each PRAGMA has a name
ATTACHED: Final = "attached databases"
TEMPORARY: Final = "temporary tables"
OBSTACLES: Final[Mapping[str, str]] = {TEMPORARY: "temporary_table"}
# of the connection, whatever database a text names; then those of one database, of which the main one is looked after
_OF_CONNECTION: Final = frozenset(
    """query_only foreign_keys recursive_triggers read_uncommitted ignore_check_constraints automatic_index
    cell_size_check checkpoint_fullfsync fullfsync legacy_alter_table reverse_unordered_selects trusted_schema
    writable_schema full_column_names short_column_names count_changes empty_result_callbacks
    busy_timeout temp_store analysis_limit threads wal_autocheckpoint""".split()
)
_OF_DATABASE: Final = frozenset(
    "cache_size synchronous secure_delete max_page_count mmap_size journal_size_limit locking_mode".split()
)
_OURS: Final = {"query_only": "read_only"}
_THEIRS: Final = {"read_only": "query_only"}
_SPELLED: Final = {("secure_delete", "2"): "fast"}  # where what is answered means something else if it is set
_CONFIGURED: Final = {  # by sqlite3_db_config(): the numbers are SQLite's
    1002: "foreign_keys",
    1011: "writable_schema",
    1012: "legacy_alter_table",
    1017: "trusted_schema",
}
_SKIPPED: Final = r"(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*+"
_QUOTED: Final = r"""'(?:[^']++|'')*+(?:'|\Z)|"(?:[^"]++|"")*+(?:"|\Z)|`(?:[^`]++|``)*+(?:`|\Z)|\[[^\]]*+(?:\]|\Z)"""
_MARKS: Final = ("pragma", "attach", "temp")  # a look for each of them takes less time than one for all
_MATTERS: Final = re.compile(r"pragma|attach|\btemp", re.I)
_STATEMENT: Final = rf"(?:[^;'\"`\[/-]++|{_QUOTED}|--[^\n]*+|/\*.*?(?:\*/|\Z)|[/-])*+"
_WHOLE: Final = re.compile(_STATEMENT, re.S)
_OTHERS: Final = re.compile(rf"(?:(?!{_SKIPPED}(?:pragma|attach|create|explain)\b){_STATEMENT};)*+", re.I | re.S)
_PRAGMA: Final = re.compile(
    rf"""{_SKIPPED}(?:explain{_SKIPPED}(?:query{_SKIPPED}plan{_SKIPPED})?)?pragma\b{_SKIPPED}
    (?:(?P<schema>{_QUOTED}|[^\W\d][\w$]*+){_SKIPPED}\.{_SKIPPED})?
    (?P<name>{_QUOTED}|[^\W\d][\w$]*+){_SKIPPED}(?P<sets>[=(]?)""",
    re.I | re.S | re.X,
)
_LEAVES: Final = re.compile(
    rf"""{_SKIPPED}(?:(?P<attach>attach)\b|create{_SKIPPED}(?:temp(?:orary)?\b
    |(?:virtual{_SKIPPED})?(?:table|view|trigger)\b{_SKIPPED}(?:if{_SKIPPED}not{_SKIPPED}exists\b{_SKIPPED})?
    ["'`\[]?temp["'`\]]?{_SKIPPED}\.))""",
    re.I | re.S | re.X,
)
_PIECES: Final = re.compile(
    r"""--[^\n]* | /\*.*?(?:\*/|\Z)
    | (?P<string>[xX]?'(?:[^']+|'')*+')
    | (?P<quoted>"(?:[^"]+|"")*+" | `(?:[^`]+|``)*+` | \[[^\]]*+\])
    | (?P<open>[xX]?['"`\[].*)
    | (?P<parameter>\?\d* | [:@$][A-Za-z_]\w*)
    | (?P<number>\d++(?:\.\d*+)?(?:[eE][+-]?\d++)?(?!\w) | \.\d++(?:[eE][+-]?\d++)?(?!\w))
    | (?P<digits>\d\w*+)
    | (?P<word>[^\W\d][\w$]*+)
    | (?P<mark>[^\s])""",
    re.X | re.S,
)


# What comes before a name. Elsewhere a text in double quotes may be a value: SQLite takes it for one where no column
# is called so.
_NAMING: Final = frozenset(
    """. pragma from into update table join index view trigger exists as references column to savepoint release database
    attach detach add drop rename""".split()
)


def _pieces_of(text: str) -> Iterator[Piece]:
    """Take a text apart; what may be a value in double quotes is either a name or a string."""
    found = [Piece(match.lastgroup, match[0], *match.span()) for match in _PIECES.finditer(text) if match.lastgroup]
    earlier, before, vacuum = "", ";", False
    for piece, after in zip_longest(found, found[1:]):
        if piece.raw[0] == '"' and piece.kind == "quoted":
            valued = (before == "from" and earlier == "distinct") or vacuum  # IS DISTINCT FROM "a value", INTO "a file"
            named = (before in _NAMING and not valued) or (after is not None and after.raw == ".")
            piece = piece if named else piece._replace(kind="either")
        yield piece
        earlier, before = before, piece.raw.lower()
        vacuum = (vacuum or (before == "vacuum" and earlier == ";")) and before != ";"


READING: Final = LexicalDialect(
    _pieces_of,
    lambda piece: piece.kind in ("string", "either") and f"\\{piece.raw[-1]}" in piece.raw,  # other databases' escapes
    writes=frozenset({"replace"}),
    alone=frozenset({"attach", "detach"}),
    named=frozenset({"pragma"}),
)


def words_of(text: str) -> Words:
    """Return the summary and the sanitized form of a text; for a PRAGMA its name, never its value."""
    return summary.words_of(text, READING)


def scan(text: str) -> Effects | None:
    """Return the possible effects of a text on the connection, or None if it has none.

    Only SQLite knows how it interprets the value of a PRAGMA. It runs in this process, so the wrapper reads the value
    back.
    """
    if not (any(map(text.lower().__contains__, _MARKS)) and _MATTERS.search(text)):
        return None
    starts = tuple(_starts(text))
    names = dict.fromkeys(name for start in starts if (name := _set_by(text, start)))
    leaves = dict.fromkeys(state for start in starts if (state := _left_by(text, start)))
    if not (names or leaves):
        return None
    steps = tuple(Step(DOUBT, name, "PRAGMA") for name in names)
    return Effects(steps=steps, leaves=tuple(leaves), several=bool(text[_end_of(_WHOLE, text, 0) :].strip("; \n")))


def _starts(text: str) -> Iterator[int]:
    """Yield where statements begin that may matter. A dump may have a million others."""
    position = 0
    while (start := _end_of(_OTHERS, text, position)) < len(text):
        yield start
        position = _end_of(_WHOLE, text, start) + 1


def _end_of(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    return len(text) if found is None else found.end()


def _set_by(text: str, position: int) -> str | None:
    """Return the setting that the statement at `position` may set."""
    match = _PRAGMA.match(text, position)
    if match is None or not match["sets"]:
        return None
    name, schema = _unquoted(match["name"]).lower(), _unquoted(match["schema"] or "main").lower()
    is_tracked = name in _OF_CONNECTION or (name in _OF_DATABASE and schema == "main")
    return _OURS.get(name, name) if is_tracked else None


def _left_by(text: str, position: int) -> str | None:
    match = _LEAVES.match(text, position)
    return None if match is None else ATTACHED if match["attach"] else TEMPORARY


def _unquoted(name: str) -> str:
    return name[1:-1] if name[0] in "'\"`[" else name


def configures(number: int) -> Effects | None:
    """Return what ``sqlite3_db_config`` does to the connection."""
    name = _CONFIGURED.get(number)
    return None if name is None else Effects(steps=(Step(DOUBT, name, "setconfig"),))


def query_setting(name: str) -> str:
    """Return the query for one setting."""
    return f"PRAGMA {_THEIRS.get(name, name)}"


def answer(value: object) -> str | None:
    """Return the value of a setting out of the row that was answered."""
    return None if value is None else str(value)


def assign(assignments: Sequence[Assignment]) -> list[tuple[str, str]]:
    """Return settings and the statements that apply them; `read_only` comes last."""
    given = sorted(assignments, key=lambda assignment: assignment.name == "read_only")
    return [(name, _assigned(name, text)) for name, text in given if text is not None]


def _assigned(name: str, text: str) -> str:
    return f"PRAGMA {_THEIRS.get(name, name)} = {_SPELLED.get((name, text), text)}"


def covers(cleared: str, name: str) -> bool:
    """Return True if clearing `cleared` also clears the state `name`; ``*`` clears everything."""
    return cleared in ("*", name)


# What a session has besides settings: how it is listed (what it is, its name), and how one of it is taken away.
LISTED: Final = {
    TEMPORARY: """SELECT CASE WHEN sql LIKE 'CREATE VIRTUAL%' THEN 'virtual' ELSE type END, name
        FROM temp.sqlite_master WHERE type <> 'index' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'""",
    ATTACHED: "SELECT 'database', name FROM pragma_database_list WHERE seq > 1",
}
_ORDER: Final = ("trigger", "view", "virtual", "table", "database")


def clearing(found: Iterable[tuple[str, str]]) -> list[str]:
    """Return the statements that take away what is listed: first what depends on other things."""
    return [_cleared(kind, name) for kind, name in sorted(found, key=lambda one: _ORDER.index(one[0]))]


def _cleared(kind: str, name: str) -> str:
    quoted = '"' + name.replace('"', '""') + '"'
    if kind == "database":
        return f"DETACH {quoted}"
    return f"DROP {'TABLE' if kind == 'virtual' else kind.upper()} IF EXISTS temp.{quoted}"


def is_security_state(name: str) -> bool:
    """No connection is switched, so that nothing can be lost."""
    return False


def outlives_rollback(name: str) -> bool:
    """Return True if a rollback does not bring back what was ended of the state `name`: all is transactional."""
    return False


def is_listed(name: str) -> bool:
    """Return False: there is no server with a list."""
    return False


def reads_last(text: str) -> bool:
    """Return False: a PRAGMA does not change the result of ``changes()``."""
    return False


def survives_reset_all(name: str) -> bool:
    """There is no RESET ALL."""
    return False


def shown(name: str, text: str | None) -> Any:
    """Return the value of a setting as the app is shown it."""
    return text == "1" if name == "read_only" and text is not None else text
