"""Read ``SELECT set_config(...)`` exactly where it is the whole statement; elsewhere its effect is uncertain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from instrumented_wrapper.databases.postgresql.settings import boolean, is_state, placeholder, setting_name
from instrumented_wrapper.databases.postgresql.tokens import Token
from instrumented_wrapper.statement import DOUBT, SET, SET_LOCAL, Placeholder, Step

SET_CONFIG: Final = "set_config"
_VIEW: Final = "pg_settings"
_MOST_ARGUMENT_TOKENS: Final = 200
_TYPES: Final = frozenset({"text", "varchar", "bool", "boolean", "name"})
_COMMA, _OPEN, _CLOSE = Token("mark", ","), Token("mark", "("), Token("mark", ")")


class _OtherwiseError(Exception):
    """It is not of the plain form."""


def config_steps(statement: Sequence[Token]) -> Iterator[Step]:
    """Return what the calls of ``set_config`` in a statement do."""
    if not any(_calls(statement, place) for place in range(len(statement))):
        return
    try:
        steps = _Select(statement).steps()
    except _OtherwiseError:
        steps = list(doubtful_calls(statement))
    yield from (step for step in steps if not isinstance(step.name, str) or is_state(step.name))


def _calls(statement: Sequence[Token], place: int) -> bool:
    token = statement[place]
    return (
        token.text == SET_CONFIG
        and token.kind in ("word", "name")
        and list(statement[place + 1 : place + 2]) == [_OPEN]
    )


def doubtful_calls(statement: Sequence[Token]) -> Iterator[Step]:
    """Yield a doubt for each call: it may run or not, once or often, with whatever arguments."""
    for place in range(len(statement)):
        if not _calls(statement, place):
            continue
        arguments = _arguments(statement[place + 2 : place + 2 + _MOST_ARGUMENT_TOKENS])
        if len(arguments) == 3 and [token.text for token in arguments[2]] == ["true"]:
            continue  # it ends with the transaction
        before = sum(token.kind == "parameter" and token.text[:1] == "%" for token in statement[:place])
        yield Step(DOUBT, _named(arguments[0], before), SET_CONFIG)


def view_steps(statement: Sequence[Token]) -> Iterator[Step]:
    """Yield a doubt for an ``UPDATE`` of ``pg_settings``: a rule of that view calls ``set_config`` for each row."""
    names = [token.text if token.kind in ("word", "name") else "" for token in statement]
    if not (_VIEW in names and "update" in names[: names.index(_VIEW)]):
        return
    end = names.index("where") if "where" in names else len(names)
    condition = statement[end + 1 :]
    if [token.text for token in condition[1:2]] == ["."]:  # the view's name, or its alias
        condition = condition[2:]
    plain = len(condition) == 3 and [token.text for token in condition[:2]] == ["name", "="]
    before = sum(token.kind == "parameter" and token.text[:1] == "%" for token in statement[:end])
    yield Step(DOUBT, _named(condition[2:], before) if plain else "", f"UPDATE {_VIEW}")


def _named(argument: Sequence[Token], position: int) -> str | Placeholder:
    if len(argument) == 1 and argument[0].kind == "parameter":
        return placeholder(argument[0].text, position)
    return setting_name(argument[0].text) if len(argument) == 1 and argument[0].kind == "string" else ""


def _arguments(tokens: Sequence[Token]) -> list[list[Token]]:
    arguments: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token == _CLOSE and depth == 0:
            break
        depth += (token == _OPEN) - (token == _CLOSE)
        if token == _COMMA and depth == 0:
            arguments.append([])
        else:
            arguments[-1].append(token)
    return arguments


class _Select:
    """A reader of ``SELECT`` with a list of columns and nothing else: calls of ``set_config`` and plain values."""

    def __init__(self, statement: Sequence[Token]) -> None:
        self._left = list(reversed(statement))
        self._parameters = 0

    def steps(self) -> list[Step]:
        """Return what it does.

        Raises:
            _OtherwiseError: there is more to it.
        """
        self._expect("select")
        steps = list(self._column())
        while self._left:
            self._expect(",")
            steps += self._column()
        return steps

    def _column(self) -> Iterator[Step]:
        if [token.text for token in self._left[-1:-3:-1]] == ["pg_catalog", "."]:
            del self._left[-2:]
        if _calls(self._left[:-3:-1], 0) if len(self._left) > 1 else False:
            del self._left[-2:]
            yield self._call()
        else:
            self._literal()
        if self._left and self._left[-1] != _COMMA:
            self._alias()

    def _call(self) -> Step:
        name = self._literal()
        self._expect(",")
        value = self._literal()
        self._expect(",")
        local = self._literal()
        self._expect(")")
        return _step(name, value, local)

    def _alias(self) -> None:
        if self._next() == Token("word", "as"):
            self._next()

    def _literal(self) -> Token:
        token = self._next()
        if token.kind == "word" and token.text not in ("true", "false", "null"):
            raise _OtherwiseError
        if token.kind == "mark":
            raise _OtherwiseError
        if token.kind == "parameter" and token.text.startswith("%"):
            token, self._parameters = Token("parameter", _at(token.text, self._parameters)), self._parameters + 1
        while self._left and self._left[-1] == Token("mark", "::"):
            self._next()
            if self._next().text not in _TYPES:
                raise _OtherwiseError
        return token

    def _next(self) -> Token:
        if not self._left:
            raise _OtherwiseError
        token = self._left.pop()
        if token.kind == "mark" and token.text not in (",", "(", ")", "::"):
            raise _OtherwiseError
        return token

    def _expect(self, text: str) -> None:
        if self._next().text != text:
            raise _OtherwiseError


def _at(text: str, position: int) -> str:
    """Spell a ``%s`` as the parameter at its position; one with a name stays."""
    return text if text.startswith("%(") else f"${position + 1}"


def _step(name: Token, value: Token, local: Token) -> Step:
    known: str | Placeholder = ""
    if name.kind == "parameter":
        known = placeholder(name.text, 0)
    elif name.kind == "string":
        known = setting_name(name.text)
    text = placeholder(value.text, 0) if value.kind == "parameter" else value.text
    if (
        not known
        or value.kind not in ("string", "parameter", "word")
        or local.kind not in ("word", "string", "parameter")
    ):
        return Step(DOUBT, known, SET_CONFIG)
    if local.kind == "parameter":
        return Step(SET, known, _or_default(value, text), placeholder(local.text, 0))
    return Step(SET_LOCAL if boolean(local.text) else SET, known, _or_default(value, text))


def _or_default(value: Token, text: str | Placeholder) -> str | Placeholder | None:
    return None if value == Token("word", "null") else text
