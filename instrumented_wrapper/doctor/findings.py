"""Findings of the doctor as data, one for each check, and their exit code. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Level: TypeAlias = Literal["ok", "warning", "broken"]
LEVELS: Final[tuple[Level, ...]] = ("ok", "warning", "broken")  # the place of each is its exit code


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        level: ``ok``, ``warning`` or ``broken``.
        check: the name of the check, for programs.
        about: what was checked: a variable, a package, a database, a host.
        message: the result and what to do.
    """

    level: Level
    check: str
    about: str
    message: str


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 if all checks pass, 1 if there are warnings, 2 if something is broken."""
    return max((LEVELS.index(finding.level) for finding in findings), default=0)
