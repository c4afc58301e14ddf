"""What the doctor found, as data: one finding for each check, and the exit code that they add up to. Pure."""

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
        message: what was found and what to do.
    """

    level: Level
    check: str
    about: str
    message: str


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 where all is well, 1 for warnings, 2 where something is broken."""
    return max((LEVELS.index(finding.level) for finding in findings), default=0)
