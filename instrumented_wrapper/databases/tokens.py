"""SQL text into words, strings, names and marks, by PostgreSQL's rules of quoting. Knows no statement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["Token", "tokens_of"]

# What is not terminated goes to the end of the text, and nothing is read twice: the time is linear in the length.
_TOKENS: Final = r"""--[^\r\n]*
    | (?P<comment>/\*)
    | (?P<string>[eE]'(?:[^'\\]+|''|\\(?:.|\Z))*+(?:'|\Z) | '(?:[^']+|'')*+(?:'|\Z))
    | (?P<dollar>\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<quoted>"(?:[^"]+|"")*+(?:"|\Z))
    | (?P<word>[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)
    | (?P<mark>[^\s])
    """
_COMMENT_EDGES: Final = re.compile(r"/\*|\*/")


class Token(NamedTuple):
    """A word (lower case), a string (unquoted, in `text`), a quoted name or a mark."""

    kind: str
    text: str


def tokens_of(text: str) -> Iterator[Token]:
    """Yield the tokens of `text`; comments and white space are left out."""
    position = 0
    tokens = re.compile(_TOKENS, re.VERBOSE | re.DOTALL)  # 5 ms, once: not while importing
    while match := tokens.search(text, position):
        kind, position = match.lastgroup, match.end()
        if kind == "comment":
            position = _end_of_comment(text, position)
        elif kind is not None:
            yield _token(kind, match[0])


def _end_of_comment(text: str, position: int) -> int:
    """Return where a block comment ends; they nest in PostgreSQL."""
    depth = 1
    for edge in _COMMENT_EDGES.finditer(text, position):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)


def _token(kind: str, value: str) -> Token:
    if kind == "word":
        return Token("word", value.lower())
    if kind == "mark":
        return Token("mark", value)
    if kind == "quoted":
        return Token("name", value[1:].removesuffix('"'))
    return Token("string", value[value.index("'") + 1 :].removesuffix("'") if kind == "string" else "")
