"""Cache the effects of statements by their text: one bounded memo for all drivers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from instrumented_wrapper.operations import bounded_put

Text = TypeVar("Text", bound=str | bytes)
Value = TypeVar("Value")
UNSEEN: Final = object()  # in place of a value: the text is not known yet
_MOST, _LONG, _MOST_LONG = 4096, 4096, 64  # texts that are remembered; characters; longer texts that are remembered


class StatementCache(Generic[Text, Value]):
    """Cache the results of `read` by text.

    Attributes:
        known: results of short texts. The frequent path reads this directly, and never writes it.
    """

    __slots__ = ("_known_of_long", "_read", "known")

    def __init__(self, read: Callable[[Text], Value]) -> None:
        self.known: dict[Text, Value] = {}
        self._known_of_long: dict[Text, Value] = {}
        self._read = read

    def value_of(self, text: Text) -> Value:
        """Return the value of a text, read once per text; of long ones only a few are remembered."""
        known, most = (self.known, _MOST) if len(text) <= _LONG else (self._known_of_long, _MOST_LONG)
        try:
            return known[text]
        except KeyError:  # read below, so that an error there has no other one behind it
            pass
        return bounded_put(known, text, self._read(text), most)
