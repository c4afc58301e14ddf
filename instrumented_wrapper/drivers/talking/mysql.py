"""What the sessions of MySQL and MariaDB are asked about their settings, and how they are set: on a line that blocks.

The text is the database's (``databases/mysql/questions.py``), the order of steps the lifecycle's. Where the driver lets
the server report what has changed, with each answer (``session_track_system_variables``), nothing else is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from instrumented_wrapper.databases.mysql import questions, tracking
from instrumented_wrapper.databases.mysql.settings import HIDDEN, TIMESTAMP, TOGETHER
from instrumented_wrapper.drivers import Assigned, Refused
from instrumented_wrapper.drivers.talking import Rows, Values
from instrumented_wrapper.server_settings import ANY, Assignment, Told
from instrumented_wrapper.statement import DOUBT, SET, SET_LOCAL, UNSEEN, Effects, Step

__all__ = ["UNNAMED", "Line", "Speaking"]

_UNKNOWN_VARIABLE, _OTHER_SCOPE, _SET_GLOBALLY = 1193, 1238, 1621
_NOT_READABLE: Final = (_UNKNOWN_VARIABLE, _OTHER_SCOPE)
_READ_ONLY: Final = (_OTHER_SCOPE, _SET_GLOBALLY)  # no session can be given it, and so no app has
# Others cannot be set here: no right to, no default, no such character set or collation; no such resource group.
_CANNOT_BE_SET: Final = (_UNKNOWN_VARIABLE, *_READ_ONLY, 1227, 1230, 1115, 1273, 3651)
_COLLATION: Final = "collation_connection"
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
        """Return a setting that the client knows without asking: ``autocommit``."""

    def giving(self, assignments: Sequence[Assignment], back: bool) -> None:
        """The server is about to be given settings, of which the driver may keep some itself."""

    def owes(self) -> bool:
        """Return True if the last answer had rows: MySQL reports with a later answer what they changed."""

    def tracks(self) -> bool:
        """Tell whether the server reports, with its answers, all that changes."""

    def listen(self) -> None:
        """Have the server report what it has not reported yet."""

    def went_back(self, settings: Sequence[str]) -> None:
        """Settings are what connecting gave them: so is what the driver keeps of them."""

    def is_lost(self, error: BaseException) -> bool:
        """Tell whether an error says that the physical connection has ended."""

    def reset(self, without_database: bool) -> bool:
        """Reset the whole session and redo what connecting did (COM_RESET_CONNECTION); False: that cannot be done.

        `without_database`: it has none afterwards, which only COM_CHANGE_USER does.
        """


class Speaking:
    """`talking.Talk` with MySQL."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._first: dict[str, str | None] = {}  # reported while the connection was made
        self._pending: dict[str, str | None] = {}  # reported by an answer that is not settled yet
        self.called = False  # a query calls a function that may set something
        self._unnamed = self._more = False  # something without a name was reported; something will be
        self._unsure: set[str] = set()  # was reported with a value that is not to be believed
        self._own: frozenset[str] = frozenset()  # no session can be given it

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
        named = {step.name for step in steps}
        for name, value in changes:
            if name == TIMESTAMP or name in HIDDEN:
                self._unsure |= {name} - named
            elif name not in of_one:
                self._pending[name] = value
        explained = any(effects.leaves or effects.sets or effects.is_told for effects in noted)
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

    def rows_changed(self) -> None:
        """Listen for what the end of rows reports as changed, unless the statement's own effects are known."""
        noted = self._line.record.noted
        if not noted or not all(effects.is_told and not effects.several for effects in noted):
            self.will_hear()

    def had_rows(self) -> None:
        """A query that called a function was answered: what that may have set is reported later."""
        self.called = False
        self.will_hear()

    def expect(self) -> None:
        """Something depends on all that was set: have what no answer had room for reported, if there may be some."""
        if self._line.owes() and self._adds_nothing_to_rows():
            self.will_hear()

    def _adds_nothing_to_rows(self) -> bool:
        """MariaDB says with the rows that something is to be reported; MySQL does not."""
        return self._line.tracks() and not self._line.dialect().mariadb

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
        unsure, self._unsure = self._unsure, set()
        record.left.update(dict.fromkeys(sorted(unsure & HIDDEN)))
        record.on_server.doubts.update(dict.fromkeys(unsure - HIDDEN, "reported"))
        for name, value in pending.items():
            if name in self._own:
                continue
            if (first := self._first.get(name)) is not None and value is not None:
                record.on_server.noticed(name, first, value)
            else:
                record.on_server.reported(name, value)
            if (other := TOGETHER.get(name)) is not None and other not in pending:
                record.on_server.doubts[other] = name
        if unnamed:
            record.left[UNNAMED] = None
        if pending or unnamed or unsure:
            record.refresh_changed()

    def present(self, names: Sequence[str]) -> Values:
        """Ask for values of settings; those that the server does not know are None."""
        return dict.fromkeys(names) | self._asked(questions.present, names)

    def _asked(self, question: Any, names: Sequence[str]) -> Values:
        if not names:
            return {}
        dialect = self._line.dialect()
        again = [questions.present([TIMESTAMP], dialect)] if TIMESTAMP in names else []
        try:
            (row,), *later = self._line.send([question(names, dialect), *again])
        except self._line.raises as error:
            if _code(error) not in _NOT_READABLE:
                raise
            if len(names) == 1:
                return {names[0]: None}
            return {name: value for name in names for value in self._asked(question, (name,)).values()}
        found = questions.answers(names, row)
        if later and found[TIMESTAMP] != questions.answers([TIMESTAMP], later[0][0])[TIMESTAMP]:
            found[TIMESTAMP] = "0"  # it goes on: nobody has set it
        return found

    def assign(self, assignments: Sequence[Assignment], clears: Sequence[str], back: bool) -> Assigned:
        """Clear state and give settings; return what they were before, unless they go back."""
        try:
            cleared, assignments = self._clear(assignments, clears)
            answer = self._give(assignments, back) if assignments else Assigned({}, frozenset())
        finally:
            self.keep_reported()
        if back:
            self._line.went_back([assignment.name for assignment in assignments])
        return answer._replace(done=answer.done | cleared)

    def _clear(
        self, assignments: Sequence[Assignment], clears: Sequence[str]
    ) -> tuple[frozenset[str], Sequence[Assignment]]:
        """Clear state; return what was cleared, and what the session is to be given then.

        A session that is reset as a whole has lost what the app's own configuration of each new connection did.
        """
        texts = questions.clear(clears)
        no_database = any(a.name == "database" and not a.text for a in assignments)
        at_once = [name for name in clears if name not in questions.BY_TEXT_ONLY]
        if (at_once or no_database) and self._line.reset(no_database):
            known = self._line.record
            named = {assignment.name for assignment in assignments}
            baseline = [a for a in known.on_server.baseline_assignments() if a.name not in named]
            rest = [a for a in (*assignments, *baseline) if a.name != "database" or a.text]
            gone = {name for name in known.left if name not in questions.BY_TEXT_ONLY}
            for name in gone:
                known.left.pop(name)
            cleared = {*at_once, *gone, *(["database"] if no_database else [])}
            texts = {name: text for name, text in texts.items() if name in questions.BY_TEXT_ONLY}
            assignments = rest
        else:
            cleared = set()
        if texts:
            self._line.send(list(texts.values()))
        return frozenset((*cleared, *texts)), assignments

    def _give(self, assignments: Sequence[Assignment], back: bool) -> Assigned:
        """Give settings in one round trip; where one is refused, one by one."""
        names = tuple(assignment.name for assignment in assignments)
        self._line.giving(assignments, back)
        texts = questions.assign(assignments, self._line.dialect())
        asked = [] if back else [questions.present(names, self._line.dialect())]
        try:
            answers = self._line.send([*asked, *texts])
        except self._line.raises as error:
            if self._line.is_lost(error):
                raise
            return self._give_singly(assignments, back)
        before = {} if back else questions.answers(names, answers[0][0])
        return Assigned(before, frozenset(name for several in texts.values() for name in several))

    def _give_singly(self, wanted: Sequence[Assignment], back: bool) -> Assigned:
        """Give settings one by one. What cannot be set by anybody, or not here, does not keep the others away.

        Raises:
            Refused: the server did not take the value of one.
        """
        before = {} if back else self.present([assignment.name for assignment in wanted])
        done: set[str] = set()
        errors: dict[str, Exception] = {}
        for text, names in ((t, n) for a in wanted for t, n in questions.assign([a], self._line.dialect()).items()):
            try:
                self._line.send([text])
                done.update(names)
            except self._line.raises as error:
                if _code(error) not in _CANNOT_BE_SET:
                    raise Refused(names[0], error) from None  # its text quotes the value
                errors[names[0]] = error
        own = frozenset(name for name, error in errors.items() if _code(error) in _READ_ONLY)
        self._own |= own
        refused = {name: error for name, error in errors.items() if name not in own}
        return Assigned(before, frozenset(done), own, refused)

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
        record.told(Told(values, defaults), None)
        return {name: default for name, default in defaults.items() if known.knows(name)}

    def understood(self, effects: Effects) -> Effects | None:
        """Say what is looked at: texts in another collation; and where anything may have been set, all that may matter.

        The server may report it, and then nothing is looked at.
        """
        effects = self._in_collation(effects)
        if not any(step.kind == DOUBT and not step.name for step in effects.steps):
            self.called = self.called or (bool(effects.calls) and self._adds_nothing_to_rows())
            only_calls = bool(effects.calls) and effects == Effects(calls=effects.calls)
            return None if only_calls and not self.called else effects
        steps = [step for step in effects.steps if step.name or step.kind != DOUBT]
        known = self._line.record.on_server
        chosen, _ = known.shown.get(tracking.WHICH, (tracking.ALL, None))
        names = sorted(name for name in known.named_later if name[:1] == "@")  # a server tells no names of these
        if not self._line.tracks() or chosen != tracking.ALL:
            names = [*questions.ALWAYS_ASKED, *known.names, *known.named_later]
        steps += [Step(DOUBT, name, UNSEEN) for name in dict.fromkeys(names)]
        return replace(effects, steps=tuple(steps))

    def _in_collation(self, effects: Effects) -> Effects:
        """A literal has the collation of the connection: where a new connection has another one, it is asked for."""
        texts = [s for s in effects.steps if s.kind == SET and str(s.name)[:1] == "@" and type(s.value) is str]
        if not texts:
            return effects
        known = self._line.record.on_server
        value, pristine = known.shown.get(_COLLATION, (None, None))
        others = {str(step.name) for step in effects.steps}
        if value == pristine and _COLLATION not in {*known.doubts, *others} and not known.is_configured(_COLLATION):
            return effects
        steps = (Step(DOUBT, s.name, "collation") if s in texts else s for s in effects.steps)
        return replace(effects, steps=tuple(steps))


def _code(error: BaseException) -> Any:
    """Return the number of an error of the server."""
    return getattr(error, "errno", None) or next(iter(error.args), None)
