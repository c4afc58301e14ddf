"""Remember what a statement's text says, for texts that are sent again and again: one bounded memo for all drivers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from instrumented_wrapper.operations import bounded_put

Text = TypeVar("Text", bound=str | bytes)
Value = TypeVar("Value")
UNSEEN: Final = object()  # in place of a value: the text is not known yet
_MOST, _LONG, _MOST_LONG = 4096, 4096, 64  # texts that are remembered; characters; longer texts that are remembered


class StatementCache(Generic[Text, Value]):
    """Remember what `read` returns for a text.

    Attributes:
        known: values of texts that are not long. The frequent path looks there by itself, and changes nothing.
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
