"""SQLite: what statements do to a connection, and what it is asked about itself.

Pure text: no driver. Settings are the PRAGMAs of a connection (not of the file, like ``journal_mode``) that can be read
and put back: https://sqlite.org/pragma.html. ``query_only`` has the name that every database's has: `read_only`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from instrumented_wrapper.databases import summary
from instrumented_wrapper.databases.pieces import Piece, Reading
from instrumented_wrapper.databases.summary import cut
from instrumented_wrapper.operations import Words
from instrumented_wrapper.server_settings import Assignment
from instrumented_wrapper.statement import BEGIN, COMMIT, DOUBT, ROLLBACK, SET, Effects, Step

__all__ = [
    "HAS_DEFAULTS",
    "SYSTEM",
    "TRANSACTIONAL",
    "answer",
    "assign",
    "covers",
    "cut",
    "is_listed",
    "present",
    "scan",
    "shown",
    "survives_reset_all",
    "words_of",
]

SYSTEM: Final = "sqlite"
TRANSACTIONAL = False  # a PRAGMA outlives a rollback
HAS_DEFAULTS = False  # there is no way to say: as it was
ATTACHED: Final = "attached databases"
TEMPORARY: Final = "temporary tables"
_SWITCHES: Final = frozenset(
    """query_only foreign_keys recursive_triggers read_uncommitted ignore_check_constraints automatic_index
    cell_size_check checkpoint_fullfsync fullfsync legacy_alter_table reverse_unordered_selects trusted_schema
    writable_schema""".split()
)
_NUMBERS: Final = frozenset("busy_timeout cache_size synchronous temp_store analysis_limit threads".split())
_TRACKED: Final = _SWITCHES | _NUMBERS
_OURS: Final = {"query_only": "read_only"}
_THEIRS: Final = {"read_only": "query_only"}
_BOOLEANS: Final = {"on": "1", "yes": "1", "true": "1", "off": "0", "no": "0", "false": "0"}
_WORDS: Final = {
    "synchronous": {"off": "0", "normal": "1", "full": "2", "extra": "3"},
    "temp_store": {"default": "0", "file": "1", "memory": "2"},
}
_SKIPPED: Final = r"(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*+"
_FIRST: Final = re.compile(
    rf"{_SKIPPED}(?P<word>pragma|attach|detach|begin|commit|end|rollback|create\s+temp(?:orary)?)\b", re.I | re.S
)
_PRAGMA: Final = re.compile(
    r"""\s*(?:[\w"\[\]`]+\s*\.\s*)?(?P<name>\w+)\s*(?:(?:=|\()\s*(?P<value>[+-]?[\w.]+|'[^']*'|"[^"]*"))?""", re.X
)
_PIECES: Final = re.compile(
    r"""--[^\n]* | /\*.*?(?:\*/|\Z)
    | (?P<string>[xX]?'(?:[^']+|'')*+(?:'|\Z))
    | (?P<quoted>"(?:[^"]+|"")*+(?:"|\Z) | `(?:[^`]+|``)*+(?:`|\Z) | \[[^\]]*(?:\]|\Z))
    | (?P<parameter>\?\d* | [:@$][A-Za-z_]\w*)
    | (?P<number>\d++(?:\.\d*+)?(?:[eE][+-]?\d++)?(?!\w) | \.\d++(?:[eE][+-]?\d++)?(?!\w))
    | (?P<digits>\d\w*+)
    | (?P<word>[^\W\d][\w$]*+)
    | (?P<mark>[^\s])""",
    re.X | re.S,
)


def _pieces_of(text: str) -> Iterator[Piece]:
    for match in _PIECES.finditer(text):
        if match.lastgroup is not None:
            yield Piece(match.lastgroup, match[0], *match.span())


_READING: Final = Reading(
    _pieces_of,
    lambda piece: False,
    writes=frozenset({"replace"}),
    alone=frozenset({"attach", "detach"}),
    named=frozenset({"pragma"}),
)


def words_of(text: str) -> Words:
    """Return what may be told of a text; of a PRAGMA its name, never its value."""
    found = summary.words_of(text, _READING)
    match = _FIRST.match(text)
    if match is None or match["word"].lower() != "pragma":
        return found
    named = _PRAGMA.match(text, match.end())
    return Words(found.summary, f"PRAGMA {named['name']}" + (" = ?" if named["value"] else "") if named else None)


def scan(text: str) -> Effects | None:
    """Return what a statement may do to the connection; None where it is nothing that matters."""
    if (match := _FIRST.match(text)) is None:
        return None
    word = match["word"].lower()
    if word == "pragma":
        return _pragma(text, match.end())
    if word == "begin":
        return Effects(steps=(Step(BEGIN),), begins=True)
    if word in ("commit", "end"):
        return Effects(steps=(Step(COMMIT),), in_doubt=True)
    if word == "rollback":
        return None if re.search(r"\bto\b", text, re.I) else Effects(steps=(Step(ROLLBACK),), rolls_back=True)
    return None if word == "detach" else Effects(leaves=(ATTACHED if word == "attach" else TEMPORARY,))


def _pragma(text: str, position: int) -> Effects | None:
    match = _PRAGMA.match(text, position)
    name = match["name"].lower() if match else ""
    if match is None or match["value"] is None or name not in _TRACKED:
        return None
    value = match["value"].strip("'\"").lower()
    known = _BOOLEANS if name in _SWITCHES else _WORDS.get(name, {})
    text_of_value = known.get(value, value)
    step = SET if re.fullmatch(r"[+-]?\d+", text_of_value) else DOUBT
    return Effects(steps=(Step(step, _OURS.get(name, name), text_of_value if step == SET else "PRAGMA"),))


def present(name: str) -> str:
    """Ask for one setting."""
    return f"PRAGMA {_THEIRS.get(name, name)}"


def answer(value: Any) -> str | None:
    """Return the value of a setting out of the row that was answered."""
    return None if value is None else str(value)


def assign(assignments: Sequence[Assignment]) -> list[str]:
    """Return the statements that give settings; who may not write comes last."""
    given = sorted(assignments, key=lambda assignment: assignment.name == "read_only")
    return [f"PRAGMA {_THEIRS.get(name, name)} = {text}" for name, text in given if text is not None]


def covers(cleared: str, name: str) -> bool:
    """Nothing but settings is put back: what is in a temporary table, only the app knows."""
    return False


def is_listed(name: str) -> bool:
    """There is nobody to ask."""
    return False


def survives_reset_all(name: str) -> bool:
    """There is no RESET ALL."""
    return False


def shown(name: str, text: str | None) -> Any:
    """Return the value of a setting as the app is shown it."""
    return text == "1" if name == "read_only" and text is not None else text
