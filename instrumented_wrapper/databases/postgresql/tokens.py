"""Split SQL text into words, strings, numbers, names, parameters and marks, by the quoting rules of PostgreSQL.

Statements are not interpreted here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from instrumented_wrapper.databases.lexer import Piece

# A quote that is never closed goes to the end of the text, and nothing is read twice: the time is linear in the length.
_TOKENS: Final = r"""--[^\r\n]*
    | (?P<comment>/\*)
    | (?P<string>[eE]'(?:[^'\\]+|''|\\.)*+' | (?:[bBxXnN]|[uU]&)?'(?:[^']+|'')*+')
    | (?P<dollar>\$(?P<tag>(?:[A-Za-z_\u0080-\U0010ffff][\w\u0080-\U0010ffff]*+)?)\$.*?\$(?P=tag)\$)
    | (?P<quoted>(?:[uU]&)?"(?:[^"]+|"")*+")
    | (?P<open>(?:(?:[eEbBxXnN]|[uU]&)?['"] | \$(?:[A-Za-z_\u0080-\U0010ffff][\w\u0080-\U0010ffff]*+)?\$).*)
    | (?P<parameter>\$\d+ | %\(\w+\)[sbt] | %[sbt](?!\w))
    | (?P<number>\d++(?:\.\d*+)?(?:[eE][+-]?\d++)?(?![\w.]) | \.\d++(?:[eE][+-]?\d++)?(?![\w.]))
    | (?P<digits>\d\w*+(?:\.\d\w*+)*+)
    | (?P<word>[A-Za-z_\u0080-\U0010ffff][\w$\u0080-\U0010ffff]*+)
    | (?P<mark>::|[^\s])
    """
_LONGEST_NAME: Final = 63  # bytes (NAMEDATALEN)
_COMMENT_EDGES: Final = re.compile(r"/\*|\*/")


class Token(NamedTuple):
    """A piece of a statement.

    Attributes:
        kind: ``word`` (lower case), ``string`` (unquoted), ``escaped`` (a string with backslashes, whose meaning is
            not read), ``number``, ``name`` (a quoted one), ``parameter`` or ``mark``.
        text: as the kind says.
    """

    kind: str
    text: str


def tokens_of(text: str) -> Iterator[Token]:
    """Yield the tokens of `text` without comments and white space."""
    for kind, match in _matches(text):
        yield _token(kind, match)


def pieces_of(text: str) -> Iterator[Piece]:
    """Yield the same, as it is written."""
    for kind, match in _matches(text):
        yield Piece(kind, match[0], *match.span())


def _matches(text: str) -> Iterator[tuple[str, re.Match[str]]]:
    position = 0
    tokens = re.compile(_TOKENS, re.VERBOSE | re.DOTALL)  # 5 ms, once: not while importing
    while match := tokens.search(text, position):
        kind, position = match.lastgroup, match.end()
        if kind == "comment":
            position = _end_of_comment(text, position)
        elif kind is not None:
            yield kind, match


def folded(name: str) -> str:
    """Return an identifier as PostgreSQL folds it: letters of ASCII only."""
    return name.lower() if name.isascii() else "".join(c.lower() if c.isascii() else c for c in name)


def cut(name: str) -> str:
    """Truncate an identifier as PostgreSQL does."""
    if len(name) * 4 <= _LONGEST_NAME:
        return name
    return name.encode(errors="surrogateescape")[:_LONGEST_NAME].decode(errors="ignore")


def _end_of_comment(text: str, position: int) -> int:
    """Return where a block comment ends; they nest in PostgreSQL."""
    depth = 1
    for edge in _COMMENT_EDGES.finditer(text, position):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)


def _token(kind: str, match: re.Match[str]) -> Token:
    value = match[0]
    if kind == "word":
        return Token("word", cut(folded(value)))
    if kind == "quoted":
        return Token("name", cut(value[value.index('"') + 1 : -1].replace('""', '"')))
    if kind == "dollar":
        mark = f"${match['tag']}$"
        return Token("string", value.removeprefix(mark).removesuffix(mark))
    if kind == "string":
        text = value[value.index("'") + 1 : -1].replace("''", "'")
        return Token("escaped" if "\\" in text else "string", text)
    return Token("mark" if kind in ("digits", "open") else kind, value)
