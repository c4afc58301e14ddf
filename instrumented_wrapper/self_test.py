"""The self-test: list the private parts of a driver that the wrapper relies on and that are missing.

Runs once per driver, when it is patched.

Knows no driver. A part is an attribute of a class or a module; an attribute that only instances have, which the code
of their class uses; or a local variable of a function, which the wrapper reads from its frames.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any


def missing(parts: Mapping[Any, Sequence[str]]) -> list[str]:
    """Return the parts that are missing, as ``Owner.name``.

    Args:
        parts: for each class, module or function the names that it must have. ``".a"`` is an attribute that only
            instances of a class have, ``"a|b"`` needs one of both.
    """
    return [f"{_name(owner)}.{name}" for owner, names in parts.items() for name in _absent(owner, names)]


def _absent(owner: object, names: Iterable[str]) -> list[str]:
    known = _names_in_code(owner)
    return [name.strip(".") for name in names if not any(_has(owner, one, known) for one in name.split("|"))]


def _has(owner: object, name: str, known: set[str]) -> bool:
    if name.startswith("."):
        return hasattr(owner, name[1:]) or name[1:] in known
    return hasattr(owner, name) or (isinstance(owner, FunctionType) and name in known)


def _names_in_code(owner: object) -> set[str]:
    classes = owner.__mro__ if isinstance(owner, type) else ()
    members = [member for kind in classes for member in vars(kind).values()] or [owner]
    return {name for member in members for code in _codes_of(member) for name in _names_of(code)}


def _codes_of(member: object) -> Iterator[CodeType]:
    accessors: tuple[Any, ...] = (member.fget, member.fset) if isinstance(member, property) else (member,)
    for accessor in accessors:
        function = inspect.unwrap(getattr(accessor, "__func__", accessor))
        if isinstance(code := getattr(function, "__code__", None), CodeType):
            yield code


def _names_of(code: CodeType) -> Iterator[str]:
    yield from (*code.co_names, *code.co_varnames, *code.co_cellvars)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_of(constant)


def _name(owner: object) -> str:
    return str(getattr(owner, "__qualname__", getattr(owner, "__name__", type(owner).__name__)))
