"""Decode what MySQL and MariaDB report by themselves (``session_track_system_variables``).

A report names system variables and the database. For user variables, temporary tables and prepared statements it says
only that something has changed. What a query sets while it returns rows is reported with a later response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from instrumented_wrapper.databases.mysql import tracking
from instrumented_wrapper.databases.mysql.settings import HIDDEN, TIMESTAMP, TOGETHER
from instrumented_wrapper.databases.mysql.state import UNNAMED
from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.drivers.server_session.user_variables import UserVariables
from instrumented_wrapper.savepoints import ANY
from instrumented_wrapper.statement import SET_LOCAL, Effects

if TYPE_CHECKING:
    from instrumented_wrapper.drivers.mysql_channel import Channel

_CODE: Final = ("call", "execute")  # what they run is not read


class Reports:
    """What the server of one session has reported, and what it has still to report."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._first: dict[str, str | None] = {}  # reported while the connection was made
        self._pending: dict[str, str | None] = {}  # reported by an answer that is not settled yet
        self.called = False  # a query calls a function that may set something
        self._unnamed = self._more = False  # something without a name was reported; something will be
        self._unsure: set[str] = set()  # was reported with a value that is not to be believed
        self._own: frozenset[str] = frozenset()  # no session can be given it
        self._of_rows: Sequence[Effects] = ()  # effects of the statement whose rows were the last
        self._fetching = False  # what is reported now was asked for
        self._is_baseline = False  # what is still to be reported belongs to the baseline
        self._perhaps: bool | None = None  # user variables may have been set; True: nothing else explains the report
        self._variables = UserVariables(channel)

    def moved(self) -> None:
        self._pending.clear()
        self._more = self._is_baseline = False
        self._channel.record.reported = self._reported

    def _reported(self, name: str) -> str | None:
        """What was reported before may be old: of ``SET @@x = 1``, without a scope, nothing is reported."""
        told = self._pending.get(name)
        return told if told is not None else self._channel.known(name)

    def reported(self, names: Sequence[str]) -> dict[str, str]:
        """Return a value that the client knows without a query."""
        told = {name: self._reported(name) for name in names}
        return {name: value for name, value in told.items() if value is not None}

    def receive(self, changes: tracking.Changes) -> None:
        """The server has reported with an answer what has changed."""
        if self._channel.record.configuring:
            self._first.update(changes.settings)
            return
        noted = self._reported_about()
        steps = [step for effects in noted for step in effects.steps] if noted else []
        of_one = {step.name for step in steps if step.kind == SET_LOCAL}  # SET STATEMENT: they are back by now
        named = {step.name for step in steps}
        for name, value in changes.settings:
            if name == TIMESTAMP or name in HIDDEN:
                self._unsure |= {name} - named
            elif name not in of_one:
                self._pending[name] = value
        self._receive_unnamed(changes, noted, named)
        self._channel.record.needs_resync = True  # the frequent path looks

    def _reported_about(self) -> Sequence[Effects]:
        """Return the effects of the statement that a report is about: perhaps an earlier one that had rows."""
        late = self._more or self._fetching
        self.received_all()
        return self._of_rows if late else self._channel.record.in_flight

    def received_all(self) -> None:
        """The server has answered with room for all that it has to report."""
        more, self._more = self._more, False
        if more and self._channel.record.on_server.doubts.get(ANY) == UNNAMED:
            del self._channel.record.on_server.doubts[ANY]

    def _receive_unnamed(self, changes: tracking.Changes, noted: Sequence[Effects], named: set[Any]) -> None:
        """Distinguish a change without a name from one that the statement explains, or that our own tracking caused."""
        if len(noted) == 1 and noted[0].only_sets and not noted[0].several:
            return
        explained = any(effects.leaves or effects.sets or effects.is_reported for effects in noted)
        unread = not explained or any(map(runs_code, noted))
        of_code = {name for name, _ in changes.settings if not name.startswith("session_track")} - named
        ours = self._fetching and changes.others and self._channel.dialect().mariadb  # the SET that listens is one, too
        if changes.unnamed and not explained and not ours:
            self._unnamed = True
        elif unread and of_code:
            self._perhaps = True
        elif changes.unnamed and unread:
            self._perhaps = self._perhaps or False

    def expect_report(self) -> None:
        """Expect a report: the response to a query has no room for it, and says only that there is one."""
        record = self._channel.record
        self._more, self._of_rows = True, tuple(record.in_flight)
        if record.recording and not record.configuring:
            self._schedule_resync()

    def _schedule_resync(self) -> None:
        record = self._channel.record
        record.on_server.doubts[ANY] = UNNAMED
        record.resync_next = True
        record.refresh()

    def rows_changed(self) -> None:
        """Expect a report if the end of rows announces a change, unless the statement's own effects are known."""
        noted = self._channel.record.in_flight
        if not noted or not all(effects.is_reported and not effects.several for effects in noted):
            self.expect_report()

    def had_rows(self) -> None:
        """A query that called a function, or a procedure, was answered: what that may have set is reported later."""
        self.called = False
        self.expect_report()

    def doubt_unreported(self) -> None:
        """Something depends on all that was set: have what no answer had room for reported, if there may be some."""
        if self._channel.reports_later() and self._adds_nothing_to_rows():
            self.expect_report()

    def _adds_nothing_to_rows(self) -> bool:
        """Return True if the response with the rows announces a report: MariaDB's does, MySQL's does not."""
        return self._channel.tracks() and not self._channel.dialect().mariadb

    def keep_reported(self) -> None:
        if self._more and self._channel.blocks:
            self._channel.run(self._fetch_reports())
        elif self._more:  # nothing waits here: the next statement asks first
            self._is_baseline = True
            self._schedule_resync()
        self._forget_pending()

    def _forget_pending(self) -> None:
        self._pending.clear()
        self._unnamed, self._perhaps = False, None

    def _fetch_reports(self) -> Flow[None]:
        self._more, self._fetching = False, True
        try:
            yield self._channel.fetch_reports
        finally:
            self._fetching = False
        is_baseline, self._is_baseline = self._is_baseline, False
        if is_baseline:
            self._forget_pending()

    def may_report(self, effects: Effects) -> bool:
        """What was reported with an answer is taken after it."""
        return True

    def apply_reports(self) -> None:
        """Apply what was reported with the responses, even if the statement's text does not mention it."""
        heard = self.called or self._pending or self._unnamed or self._unsure or self._perhaps is not None
        if not heard and not self._variables.is_in_doubt():
            return  # at little cost: each return to a pool comes here
        self.called = self.called and self._channel.reports_later()
        if self._channel.record.recording and not self._channel.record.configuring:
            self._take()
        self._forget_pending()

    def lost(self, transaction: str) -> None:
        """Mark what code on the server may have set as uncertain: it is reported with a response, and there is none."""
        if any(map(runs_code, self._channel.record.in_flight)):
            self._variables.doubt_those_of_app()

    def _take(self) -> None:
        record = self._channel.record
        pending, self._pending = self._pending, {}
        unnamed, perhaps = self._unnamed, self._perhaps
        if perhaps is None and self._variables.is_in_doubt():
            perhaps = True
        unsure, self._unsure = self._unsure, set()
        record.residual.add(sorted(unsure & HIDDEN))
        record.on_server.doubts.update(dict.fromkeys(unsure - HIDDEN, "reported"))
        news = [name for name in pending if name not in self._own and not self._is_known(name, pending[name])]
        for name in news:
            value, first = pending[name], self._first.get(name)
            if first is not None and value is not None:
                record.on_server.apply_report(name, first, value)
            else:
                record.on_server.reported(name, value)
            if (other := TOGETHER.get(name)) is not None and other not in pending:
                record.on_server.doubts[other] = name
        if unnamed:
            self._variables.have_changed()
        if perhaps is not None:
            self._variables.may_have_changed(explained=not perhaps)
        self._forget_pending()
        if news or unnamed or unsure or perhaps is not None:
            record.refresh_changed()

    def _is_known(self, name: str, value: str | None) -> bool:
        """Return True if the statement's text contains everything that the server reports."""
        known, pristine = self._channel.record.on_server.of(name)
        return known == value != pristine and pristine is not None and name not in TOGETHER


def runs_code(effects: Effects) -> bool:
    """Return True if a statement runs code on the server that its text does not show."""
    return bool(effects.calls) or any(part.word in _CODE or part.calls for part in effects.parts)
