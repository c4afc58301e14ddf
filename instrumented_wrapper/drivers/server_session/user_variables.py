"""User variables that no text of the app names: routines, triggers and prepared statements may set them.

MariaDB lists the variables of a session to anybody (``information_schema.USER_VARIABLES``), MySQL to accounts that may
read ``performance_schema.user_variables_by_thread``. What is listed is read and carried. Elsewhere a switch lists them
in ``.not_restored``, unless it is certain that none was set.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from instrumented_wrapper.databases import mysql
from instrumented_wrapper.databases.mysql import questions
from instrumented_wrapper.databases.mysql.state import UNNAMED, USER_VARIABLES
from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.statement import DOUBT, SET, UNSEEN, Step

if TYPE_CHECKING:
    from instrumented_wrapper.drivers.mysql_channel import Channel

Shown = Mapping[str, tuple[str | None, str | None]]


class UserVariables:
    """Which user variables one session has."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._listable = True  # as far as is known
        self._listed: tuple[str, ...] = ()
        self._found: set[str] = set()  # set by what no text names
        self._explains = False  # a change without a name was reported that these may explain

    def have_changed(self) -> None:
        """The server has reported a change without a name: these, temporary tables or prepared statements."""
        record = self._channel.record
        self._explains = self._explains or (self._listable and UNNAMED not in record.residual.kinds)
        record.residual.add((UNNAMED,))
        if self._listable:
            record.on_server.doubts[UNNAMED] = UNSEEN
        self.doubt_those_of_app()

    def may_have_changed(self, explained: bool) -> None:
        """Some may have been set; `explained`: what the server has reported has a reason without that."""
        record = self._channel.record
        if not explained:
            record.residual.add((USER_VARIABLES,))
        if self._listable:
            record.on_server.doubts[USER_VARIABLES] = UNSEEN
        self.doubt_those_of_app()

    def set_by_app(self) -> tuple[str, ...]:
        """Return the names of those that the app has set: it relies on their values."""
        return tuple(name for name in self._channel.record.refusal.relied_on() if name.startswith("@"))

    def doubt_those_of_app(self) -> None:
        """Have those read again that the app has set; what is lost before that is security state."""
        doubts = self._channel.record.on_server.doubts
        for name in self.set_by_app():
            doubts.setdefault(name, UNSEEN)

    def is_in_doubt(self) -> bool:
        """Return True if an answered statement may have set user variables, and the server can be queried."""
        record = self._channel.record
        return (
            self._listable
            and USER_VARIABLES in record.residual.kinds
            and USER_VARIABLES not in record.residual.baseline
        )

    def list(self) -> Flow[dict[str, str | None]]:
        """Query their names if any may have been set.

        Returns the values that unknown ones had after connecting; None if that was not a literal.
        """
        record, self._listed = self._channel.record, ()
        wanted = self._explains or self.is_in_doubt() or USER_VARIABLES in record.on_server.doubts
        if not (wanted and self._listable):
            return {}
        try:
            rows, at_first = yield partial(self._channel.send, questions.user_variables(self._channel.dialect()))
        except self._channel.raises as error:
            if self._channel.is_lost(error):
                raise
            self._listable = self._explains = False
            return {}
        if USER_VARIABLES not in record.residual.baseline:
            record.residual.kinds.pop(USER_VARIABLES, None)
        self._listed = tuple(f"@{questions.text_of(name)}".lower() for (name,) in rows)
        return self._given_at_first(questions.text_of(at_first[0][0]))

    def _given_at_first(self, init_connect: str) -> dict[str, str | None]:
        """Return the values that the server's and the app's text for each new connection give: no text of ours did."""
        keywords = self._channel.record.arguments.keywords
        effects = [mysql.scan(text) for text in (init_connect, str(keywords.get("init_command") or ""))]
        steps: list[Step] = [step for found in effects if found is not None for step in found.steps]
        known = self._channel.record.on_server
        own = {str(s.name): s for s in steps if s.kind in (SET, DOUBT) and not known.has_pristine(str(s.name))}
        return {
            name: step.value if step.kind == SET and isinstance(step.value, str) else None
            for name, step in own.items()
            if name in self._listed
        }

    def names(self) -> tuple[str, ...]:
        """Return the names that the server has listed."""
        return self._listed

    def settle(self, before: Shown) -> None:
        """Record their values: one that differs from `before` explains a report without a name."""
        after = self._channel.record.on_server.shown
        self._found |= {name for name in self._listed if after.get(name, (None,))[0] != before.get(name, (None,))[0]}
        if self._explains and self._found & {*self._listed}:
            self._channel.record.residual.kinds.pop(UNNAMED, None)
        self._explains = False
