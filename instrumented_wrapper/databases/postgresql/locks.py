"""Read which advisory lock a statement takes or releases, where its text names it and does nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from instrumented_wrapper.databases.postgresql.settings import placeholder
from instrumented_wrapper.databases.postgresql.tokens import Token
from instrumented_wrapper.statement import Placeholder

_SAME: Final = frozenset({"hashtext", "hashtextextended"})  # what gives the same key for the same text

_OPEN, _CLOSE = Token("mark", "("), Token("mark", ")")


def lock_of(statement: Sequence[Token]) -> tuple[str | Placeholder, ...]:
    """Return a key that identifies the lock of ``SELECT pg_advisory_...(key)``; empty if that is uncertain."""
    rest = list(statement)
    if [token.text for token in rest[:3]] == ["select", "pg_catalog", "."]:
        del rest[1:3]
    plain = [token.text for token in rest[:1]] == ["select"] and rest[2:3] == [_OPEN] and rest[-1] == _CLOSE
    opens = [place for place, token in enumerate(rest) if token == _OPEN]
    if not plain or any(rest[place - 1].text not in _SAME for place in opens[1:]) or not _is_whole(rest[3:-1]):
        return ()
    mode = "shared" if rest[1].text.endswith("_shared") else "exclusive"
    return (mode, *_key(rest[3:-1]))


def _is_whole(tokens: Sequence[Token]) -> bool:
    """Return True if no parenthesis is closed that was opened before `tokens`."""
    depth = 0
    for token in tokens:
        depth += (token == _OPEN) - (token == _CLOSE)
        if depth < 0:
            return False
    return True


def _key(tokens: Sequence[Token]) -> tuple[str | Placeholder, ...]:
    positions = iter(range(len(tokens)))
    return tuple(
        placeholder(token.text, next(positions)) if token.kind == "parameter" else f"{token.kind} {token.text}"
        for token in tokens
    )
