"""What the sessions of MySQL and MariaDB are asked about their settings, and how they are set: on a line that blocks.

The text is the database's (``databases/mysql/questions.py``), the order of steps the lifecycle's. Where the driver lets
the server report what has changed, with each answer (``session_track_system_variables``), nothing else is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from instrumented_wrapper.databases.mysql import questions, tracking
from instrumented_wrapper.databases.mysql.settings import TOGETHER
from instrumented_wrapper.drivers import Refused
from instrumented_wrapper.drivers.talking import Rows, Values
from instrumented_wrapper.server_settings import ANY, Assignment, Told
from instrumented_wrapper.statement import DOUBT, SET_LOCAL, UNSEEN, Effects, Step

__all__ = ["UNNAMED", "Line", "Speaking"]

UNKNOWN_VARIABLE: Final = 1193
UNNAMED: Final = "session state"  # user variables, temporary tables, prepared statements: the server says only "some"


class Line(Protocol):
    """A connection, as far as it is talked with.

    Attributes:
        raises: what the driver raises; the first argument, or its `errno`, is the server's number.
    """

    raises: tuple[type[Exception], ...]

    @property
    def record(self) -> Any:
        """Its session."""

    def dialect(self) -> questions.Dialect:
        """Return what the server calls things."""

    def send(self, texts: Sequence[str]) -> list[Rows]:
        """Send texts, one statement each, in one round trip where the driver can; return the rows of each."""

    def known(self, name: str) -> str | None:
        """Return a setting that the client knows without asking: ``autocommit``, ``database``."""

    def giving(self, assignments: Sequence[Assignment]) -> None:
        """The server is about to be given settings, of which the driver may keep some itself."""

    def tracks(self) -> bool:
        """Tell whether the server reports, with its answers, all that changes."""

    def listen(self) -> None:
        """Have the server report what it has not reported yet."""

    def went_back(self, settings: Sequence[str]) -> None:
        """Settings are what connecting gave them: so is what the driver keeps of them."""

    def is_lost(self, error: BaseException) -> bool:
        """Tell whether an error says that the physical connection has ended."""

    def reset(self) -> bool:
        """Reset the whole session (COM_RESET_CONNECTION) and redo what connecting did; False: that cannot be done."""


class Speaking:
    """`talking.Talk` with MySQL."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._first: dict[str, str | None] = {}  # reported while the connection was made
        self._pending: dict[str, str | None] = {}  # reported by an answer that is not settled yet
        self._unnamed = self._more = False  # something without a name was reported; something will be

    def moved(self) -> None:
        """The physical connection is another one now."""
        self._pending.clear()
        self._more = False
        self._line.record.reported = self._reported

    def _reported(self, name: str) -> str | None:
        """What was reported before may be old: of ``SET @@x = 1``, without a scope, nothing is reported."""
        told = self._pending.get(name)
        return told if told is not None else self._line.known(name)

    def reported(self, names: Sequence[str]) -> dict[str, str]:
        """Return what the client knows without asking."""
        told = {name: self._reported(name) for name in names}
        return {name: value for name, value in told.items() if value is not None}

    def heard(self, changes: Iterable[tuple[str, str | None]], unnamed: bool) -> None:
        """The server has reported with an answer what has changed; `unnamed`: more, of which it tells no name."""
        if self._line.record.configuring:
            self._first.update(changes)
            return
        noted = self._line.record.noted
        steps = [step for effects in noted for step in effects.steps] if noted else []
        of_one = {step.name for step in steps if step.kind == SET_LOCAL}  # SET STATEMENT: they are back by now
        for name, value in changes:
            if name not in of_one:
                self._pending[name] = value
        explained = any(effects.leaves or effects.sets for effects in noted)
        self._unnamed = self._unnamed or (unnamed and not explained)
        self._line.record.unsure = True  # the frequent path looks

    def will_hear(self) -> None:
        """The answer to a query, which has no room for it, says that something has changed: a later one tells what."""
        self._more = True
        record = self._line.record
        if record.recording and not record.configuring:
            record.on_server.doubts[ANY] = UNNAMED
            record.asks = True
            record.refresh()

    def keep_reported(self) -> None:
        """What was reported belongs to the baseline."""
        if self._more:
            self._hear_all()
        self._pending.clear()
        self._unnamed = False

    def _hear_all(self) -> None:
        self._more = False
        self._line.listen()

    def notice(self) -> None:
        """Take what was reported with the answers; the text of the statement need not have said it."""
        if self._line.record.recording and not self._line.record.configuring:
            self._take()
        self._pending.clear()
        self._unnamed = False

    def lost(self) -> None:
        """What is reported is taken after each answer."""

    def _take(self) -> None:
        record = self._line.record
        pending, self._pending = self._pending, {}
        unnamed, self._unnamed = self._unnamed, False
        for name, value in pending.items():
            if (first := self._first.get(name)) is not None and value is not None:
                record.on_server.noticed(name, first, value)
            else:
                record.on_server.reported(name, value)
            if (other := TOGETHER.get(name)) is not None and other not in pending:
                record.on_server.doubts[other] = name
        if unnamed:
            record.left[UNNAMED] = None
        if pending or unnamed:
            record.refresh_changed()

    def present(self, names: Sequence[str]) -> Values:
        """Ask for values of settings; those that the server does not know are None."""
        return dict.fromkeys(names) | self._asked(questions.present, names)

    def _asked(self, question: Any, names: Sequence[str]) -> Values:
        if not names:
            return {}
        dialect = self._line.dialect()
        try:
            ((row,),) = self._line.send([question(names, dialect)])
        except self._line.raises as error:
            if UNKNOWN_VARIABLE not in (*error.args[:1], getattr(error, "errno", 0)):
                raise
            if len(names) == 1:
                return {names[0]: None}
            return {name: value for name in names for value in self._asked(question, (name,)).values()}
        return questions.answers(names, row)

    def assign(self, assignments: Sequence[Assignment], clears: Sequence[str], back: bool) -> Values | None:
        """Clear state and give settings; return what they were before, unless they go back."""
        if clears and not self._line.reset():
            self._line.send(questions.clear(clears))
        if not assignments:
            return {}
        names = tuple(assignment.name for assignment in assignments)
        wanted = [a for a in assignments if not (a.name == "database" and self._line.known("database") == a.text)]
        self._line.giving(wanted)
        before = [] if back else [questions.present(names, self._line.dialect())]
        try:
            answers = self._line.send([*before, *questions.assign(wanted, self._line.dialect())])
        except self._line.raises as error:
            if self._line.is_lost(error):
                raise
            raise Refused(self._which(wanted), error) from error
        finally:
            self.keep_reported()
        if back:
            self._line.went_back(names)
            return {}
        return questions.answers(names, answers[0][0])

    def _which(self, assignments: Sequence[Assignment]) -> str:
        """Find out which setting was refused, one by one: the connection is not the app's, or is thrown away."""
        for assignment in assignments:
            try:
                self._line.send(questions.assign([assignment], self._line.dialect()))
            except self._line.raises:
                return assignment.name
        return ", ".join(assignment.name for assignment in assignments)

    def ask(self) -> Values:
        """Ask for all that is in doubt, and tell the session."""
        record = self._line.record
        known = record.on_server
        if self._more:
            self._hear_all()
            if known.doubts.get(ANY) == UNNAMED:
                del known.doubts[ANY]
        self._take()
        names = known.names_in_doubt()
        unknown = tuple(name for name in names if not known.has_pristine(name))
        first = {name: self._first[name] for name in unknown if name in self._first}
        values = self._asked(questions.present, names)
        defaults = first | self._asked(questions.defaults, tuple(name for name in unknown if name not in first))
        record.left.update((name, None) for name in names if name not in values)  # too long to be carried
        record.told(Told(values, defaults), None)
        return {name: default for name, default in defaults.items() if known.knows(name)}

    def understood(self, effects: Effects) -> Effects | None:
        """Where anything may have been set, say what is looked at; nothing where the server reports it."""
        if not any(step.kind == DOUBT and not step.name for step in effects.steps):
            return effects
        steps = [step for step in effects.steps if step.name or step.kind != DOUBT]
        chosen, _ = self._line.record.on_server.shown.get(tracking.WHICH, (tracking.ALL, None))
        if not self._line.tracks() or chosen != tracking.ALL:
            names = dict.fromkeys((*questions.ALWAYS_ASKED, *self._line.record.on_server.names))
            steps += [Step(DOUBT, name, UNSEEN) for name in names]
        return replace(effects, steps=tuple(steps))
