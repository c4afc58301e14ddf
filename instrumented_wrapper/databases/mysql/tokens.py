"""Split SQL text into words, strings, numbers, names, variables and marks, by the quoting rules of MySQL.

Statements are not interpreted here. Executable comments (``/*! ... */``, ``/*M! ... */``) are read as their content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from instrumented_wrapper.databases.lexer import Piece

# A quote that is never closed goes to the end of the text, and nothing is read twice: the time is linear in the length.
_TOKENS: Final = r"""\#[^\n]* | --(?=[\s\x00-\x1f]|\Z)[^\n]*
    | (?P<executed>/\*M?!\d{0,6})
    | (?P<comment>/\*.*?(?:\*/|\Z))
    | (?P<closed>\*/)
    | (?P<string>(?:[nN]|_[A-Za-z0-9]+\s*+)?'(?:[^'\\]+|''|\\.)*+')
    | (?P<double>(?:_[A-Za-z0-9]+\s*+)?"(?:[^"\\]+|""|\\.)*+")
    | (?P<bits>[xXbB]'[0-9A-Fa-f]*+')
    | (?P<variable>@(?:`(?:[^`]+|``)*+` | '(?:[^'\\]+|''|\\.)*+' | "(?:[^"\\]+|""|\\.)*+"
        | [\w.$\u0080-\U0010ffff]++))
    | (?P<system>@@(?:(?:global|session|local|persist|persist_only)\s*+\.\s*+)?
        [`"]?[\w$]++[`"]?(?:\.[`"]?[\w$]++[`"]?)?)
    | (?P<quoted>`(?:[^`]+|``)*+`)
    | (?P<open>@?['"`].*)
    | (?P<parameter>%\(\w+\)s | %s | \?)
    | (?P<number>\d++(?:\.\d*+)?(?:[eE][+-]?\d++)?(?![\w$]) | \.\d++(?:[eE][+-]?\d++)?(?![\w$]))
    | (?P<digits>\d[\w$]*+)
    | (?P<word>[A-Za-z_$\u0080-\U0010ffff][\w$\u0080-\U0010ffff]*+)
    | (?P<mark>:=|<=>|&&|\|\||[^\s])
    """
# MySQL 9 has bodies in dollar quotes; to others a dollar is a letter.
_WITH_DOLLARS: Final = (
    r"""(?P<dollar>\$(?P<tag>[A-Za-z0-9_\u0080-\U0010ffff]*+)\$.*?\$(?P=tag)\$)
    | (?P<unclosed>\$[A-Za-z0-9_\u0080-\U0010ffff]*+\$.*) | """
    + _TOKENS
)


class Token(NamedTuple):
    """A piece of a statement.

    Attributes:
        kind: ``word`` (lower case), ``string`` (unquoted), ``escaped`` (a string whose meaning depends on more than
            its text: it has backslashes, or a character set before it), ``number``, ``name`` (a quoted one),
            ``variable`` (of the user, lower case, without its ``@``), ``system`` (a system variable, lower case, with
            its ``@@``), ``parameter`` or ``mark``.
        text: as the kind says.
    """

    kind: str
    text: str


_KINDS: Final = {"double": "string", "bits": "string", "system": "variable", "unclosed": "open"}


def tokens_of(text: str) -> Iterator[Token]:
    """Yield the tokens of `text` without comments and white space."""
    for kind, match in _matches(_TOKENS, text):
        yield _token(kind, match[0])


def pieces_of(text: str) -> Iterator[Piece]:
    """Yield the same, as it is written; and comments with an end of a comment that is executed in them."""
    for kind, match in _matches(_WITH_DOLLARS, text, comments=True):
        yield Piece(_KINDS.get(kind, kind), match[0], *match.span())


def _matches(tokens: str, text: str, comments: bool = False) -> Iterator[tuple[str, re.Match[str]]]:
    depth = 0
    for match in re.finditer(tokens, text, re.VERBOSE | re.DOTALL | re.IGNORECASE):
        kind = match.lastgroup
        if kind == "executed":
            depth += 1
        elif kind == "closed" and depth:
            depth -= 1
        elif comments and depth and kind is None and "*/" in match[0]:
            yield "comment", match
        elif kind is not None and kind not in ("comment", "closed"):
            yield kind, match


def _token(kind: str, raw: str) -> Token:
    if kind in ("word", "system"):
        return Token(kind, re.sub(r'[\s`"]', "", raw).lower())
    if kind == "quoted":
        return Token("name", raw[1:-1].replace("``", "`"))
    if kind == "variable":
        name = raw[1:]
        return Token(kind, (_unquoted(name).text if name[:1] in "`'\"" else name).lower())
    if kind in ("string", "double"):
        return _unquoted(raw) if raw[0] in "'\"" else Token("escaped", raw)
    return Token("mark" if kind in ("bits", "digits", "open") else kind, raw)


def _unquoted(raw: str) -> Token:
    quote = raw[0]
    text = raw[1:-1].replace(quote * 2, quote)
    return Token("escaped" if "\\" in text else "string", text)
