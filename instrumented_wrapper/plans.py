"""What a session plans and learns about its settings, as data. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Change(NamedTuple):
    """One step of a plan: bring `setting` from `before` to `after`."""

    setting: str
    before: Any
    after: Any


class Assignment(NamedTuple):
    """What the server is to be given: the text of a setting, None for its own default."""

    name: str
    text: str | None


class Expected(NamedTuple):
    """The value that a setting on the server is expected to have; `at_baseline`: the app has not changed it."""

    name: str
    text: str | None
    at_baseline: bool


class Difference(NamedTuple):
    """A setting whose value is another one than the tracked one; `is_tracked`: the session knows the setting."""

    name: str
    tracked: Any
    actual: Any
    is_tracked: bool = True


class ServerAnswer(NamedTuple):
    """A server's answer: present values by name, and what the settings would be without any SQL."""

    values: Mapping[str, str | None]
    defaults: Mapping[str, str | None]
