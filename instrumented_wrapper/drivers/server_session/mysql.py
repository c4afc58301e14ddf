"""Read and set the settings of MySQL and MariaDB sessions: flows over a `Channel`.

A flow yields each call of the channel that may wait. The texts are in ``databases/mysql/questions.py``, the order of
steps is the lifecycle's. If the server reports changes with each response (``session_track_system_variables``), no
further query is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from instrumented_wrapper.databases import mysql
from instrumented_wrapper.databases.mysql import questions, tracking
from instrumented_wrapper.databases.mysql.comparing import is_same
from instrumented_wrapper.databases.mysql.settings import COMPLETION, TIMESTAMP, chains
from instrumented_wrapper.databases.mysql.state import UNNAMED, USER_VARIABLES
from instrumented_wrapper.drift import expected_settings
from instrumented_wrapper.drivers import Assigned, Flow, Refused
from instrumented_wrapper.drivers.server_session import Values
from instrumented_wrapper.drivers.server_session.reports import Reports, runs_code
from instrumented_wrapper.plans import Assignment, Difference, ServerAnswer
from instrumented_wrapper.savepoints import ANY
from instrumented_wrapper.statement import BEGIN, COMMIT, DOUBT, ROLLBACK, SET, UNSEEN, Effects, Step

_UNKNOWN_VARIABLE, _OTHER_SCOPE, _SET_GLOBALLY = 1193, 1238, 1621
_NOT_READABLE: Final = (_UNKNOWN_VARIABLE, _OTHER_SCOPE)
_READ_ONLY: Final = (_OTHER_SCOPE, _SET_GLOBALLY)  # no session can be given it, and so no app has
# Others cannot be set here: no right to, no default, no such character set or collation; no such resource group.
_CANNOT_BE_SET: Final = (_UNKNOWN_VARIABLE, *_READ_ONLY, 1227, 1230, 1115, 1273, 3651)
_COLLATION: Final = "collation_connection"


_COMMITS, _ROLLS_BACK = (Step(COMMIT),), (Step(ROLLBACK),)


class MySQLSettings(Reports):
    """`SettingsClient` with MySQL. What may wait returns a value where the driver blocks, else an awaitable."""

    def query_settings(self, names: Sequence[str]) -> Any:
        return self._channel.run(self._query_settings(names))

    def assign(self, assignments: Sequence[Assignment], clears: Sequence[str], back: bool) -> Any:
        """Clear state and give settings; return what they were before, unless they go back. May wait."""
        return self._channel.run(self._assign(assignments, clears, back))

    def resync(self) -> Any:
        return self._channel.run(self._resync())

    def _query_settings(self, names: Sequence[str]) -> Flow[Values]:
        return dict.fromkeys(names) | (yield from self._query(questions.query_settings, names))

    def _query(self, question: Any, names: Sequence[str]) -> Flow[Values]:
        if not names:
            return {}
        dialect = self._channel.dialect()
        again = [questions.query_settings([TIMESTAMP], dialect)] if TIMESTAMP in names else []
        try:
            (row,), *later = yield partial(self._channel.send, [question(names, dialect), *again])
        except self._channel.raises as error:
            if _code(error) not in _NOT_READABLE:
                raise
            if len(names) == 1:
                return {names[0]: None}
            singly: Values = {}
            for name in names:
                singly |= yield from self._query(question, (name,))
            return singly
        found = questions.answers(names, row)
        if later and found[TIMESTAMP] != questions.answers([TIMESTAMP], later[0][0])[TIMESTAMP]:
            found[TIMESTAMP] = "0"  # it goes on: nobody has set it
        return found

    def _assign(self, assignments: Sequence[Assignment], clears: Sequence[str], back: bool) -> Flow[Assigned]:
        answer = Assigned({}, frozenset())
        try:
            cleared, assignments = yield from self._clear(assignments, clears)
            if assignments:
                answer = yield from self._give(assignments, back)
        finally:
            self.keep_reported()
        if back:
            self._channel.restored([assignment.name for assignment in assignments])
        return answer._replace(done=answer.done | cleared)

    def _clear(
        self, assignments: Sequence[Assignment], clears: Sequence[str]
    ) -> Flow[tuple[frozenset[str], Sequence[Assignment]]]:
        """Clear state; return what was cleared, and what the session is to be given then.

        A session that is reset as a whole has lost what the app's own configuration of each new connection did.
        """
        texts = questions.clear(clears)
        no_database = any(a.name == "database" and not a.text for a in assignments)
        at_once = [name for name in clears if name not in questions.BY_TEXT_ONLY]
        if (at_once or no_database) and (yield partial(self._channel.reset, no_database)):
            known = self._channel.record
            named = {assignment.name for assignment in assignments}
            baseline = [a for a in known.on_server.baseline_assignments() if a.name not in named]
            rest = [a for a in (*assignments, *baseline) if a.name != "database" or a.text]
            gone = {name for name in known.residual.kinds if name not in questions.BY_TEXT_ONLY}
            for name in gone:
                known.residual.kinds.pop(name)
            cleared = {*at_once, *gone, *(["database"] if no_database else [])}
            texts = {name: text for name, text in texts.items() if name in questions.BY_TEXT_ONLY}
            assignments = rest
        else:
            cleared = set()
        if texts:
            yield partial(self._channel.send, list(texts.values()))
        return frozenset((*cleared, *texts)), assignments

    def _give(self, assignments: Sequence[Assignment], back: bool) -> Flow[Assigned]:
        """Give settings in one round trip; where one is refused, one by one."""
        names = tuple(assignment.name for assignment in assignments)
        self._channel.before_assign(assignments, back)
        texts = questions.assign(assignments, self._channel.dialect())
        asked = [] if back else [questions.query_settings(names, self._channel.dialect())]
        try:
            answers = yield partial(self._channel.send, [*asked, *texts])
        except self._channel.raises as error:
            if self._channel.is_lost(error):
                raise
            return (yield from self._give_singly(assignments, back))
        before = {} if back else questions.answers(names, answers[0][0])
        return Assigned(before, frozenset(name for several in texts.values() for name in several))

    def _give_singly(self, wanted: Sequence[Assignment], back: bool) -> Flow[Assigned]:
        """Apply settings one by one. One that cannot be set, or not here, does not prevent the others.

        Raises:
            Refused: the server rejected the value of one.
        """
        before = {} if back else (yield from self._query_settings([assignment.name for assignment in wanted]))
        done: set[str] = set()
        errors: dict[str, Exception] = {}
        for text, names in ((t, n) for a in wanted for t, n in questions.assign([a], self._channel.dialect()).items()):
            try:
                yield partial(self._channel.send, [text])
                done.update(names)
            except self._channel.raises as error:
                if _code(error) not in _CANNOT_BE_SET:
                    raise Refused(names[0], error) from None  # its text quotes the value
                errors[names[0]] = error
        own = frozenset(name for name, error in errors.items() if _code(error) in _READ_ONLY)
        self._own |= own
        refused = {name: error for name, error in errors.items() if name not in own}
        return Assigned(before, frozenset(done), own, refused)

    def _resync(self) -> Flow[Values]:
        record = self._channel.record
        known = record.on_server
        if self._more:
            yield from self._fetch_reports()
            if known.doubts.get(ANY) == UNNAMED:
                del known.doubts[ANY]
        self._take()
        at_first = yield from self._variables.list()
        before = known.shown
        asked = (*known.names_in_doubt(), *self._variables.names())
        names = tuple(name for name in dict.fromkeys(asked) if name not in (UNNAMED, USER_VARIABLES))
        unknown = tuple(name for name in names if not known.has_pristine(name))
        values = yield from self._query(questions.query_settings, names)
        given = {name: values.get(name) if value is None else value for name, value in at_first.items()}
        first = {name: value for name, value in (self._first | given).items() if name in unknown}
        rest = tuple(name for name in unknown if name not in first)
        defaults = first | (yield from self._query(questions.defaults, rest))
        record.apply_answer(ServerAnswer(values, defaults), None)
        self._variables.settle(before)
        record.refresh_changed()
        return {name: default for name, default in defaults.items() if known.knows(name)}

    def verify(self) -> Any:
        return self._channel.run(self._verify())

    def _verify(self) -> Flow[tuple[Difference, ...]]:
        record = self._channel.record
        expected = [one for one in expected_settings(record.on_server) if one.name not in self._own]
        actual = yield from self._query(questions.query_settings, tuple(one.name for one in expected))
        found = [one for one in expected if not is_same(one.name, one.text, actual[one.name])]
        if record.generation > 1:  # the baseline of a server that took over is its own
            names = tuple(one.name for one in found if one.at_baseline)
            defaults = yield from self._query(questions.defaults, names)
            found = [one for one in found if not (one.name in defaults and defaults[one.name] == actual[one.name])]
        shown = mysql.shown
        return tuple(Difference(n, shown(n, text), shown(n, actual[n])) for n, text, _ in found)

    def with_functions(self, effects: Effects) -> Effects | None:
        """Add what has to be read: texts in another collation, and everything if anything may have been set.

        If the server reports changes, nothing has to be read.
        """
        effects = self._chained(self._in_collation(effects))
        known = self._channel.record.on_server
        chosen, _ = known.of(tracking.WHICH, tracking.ALL)
        if self._channel.tracks() and chosen == tracking.ALL:
            return self._reported_later(effects)
        if effects.only_sets:
            return effects
        if effects.calls and USER_VARIABLES not in effects.leaves:
            steps = (*effects.steps, *(Step(DOUBT, name, UNSEEN) for name in self._variables.set_by_app()))
            effects = replace(effects, leaves=(*effects.leaves, USER_VARIABLES), steps=steps)
        names = dict.fromkeys((*questions.ALWAYS_ASKED, *known.names, *known.named_later))
        return self._with_doubts(effects, [Step(DOUBT, name, UNSEEN) for name in names])

    def refused(self) -> None:
        """An error has no room for a report of what code on the server has set before it failed."""
        record = self._channel.record
        if not (self._channel.tracks() and any(map(runs_code, record.in_flight))):
            return
        known = record.on_server
        for name in (*questions.ALWAYS_ASKED, *known.names, *known.named_later):
            known.doubts.setdefault(name, UNSEEN)
        self._variables.may_have_changed(explained=False)
        record.refresh_changed()

    def _reported_later(self, effects: Effects) -> Effects | None:
        """The server reports what is set, but with the rows of a query."""
        code = runs_code(effects)
        self.called = self.called or (code and self._adds_nothing_to_rows())
        if effects.calls and effects == Effects(calls=effects.calls):
            return effects if self.called or self._variables.set_by_app() else None
        if USER_VARIABLES in effects.leaves:
            effects = replace(effects, leaves=tuple(name for name in effects.leaves if name != USER_VARIABLES))
        if effects.only_sets:
            return effects
        names = sorted(name for name in self._channel.record.on_server.named_later if name[:1] == "@")
        return self._with_doubts(effects, [Step(DOUBT, name, "EXECUTE") for name in names])

    @staticmethod
    def _with_doubts(effects: Effects, steps: Sequence[Step]) -> Effects:
        """Put `steps` in the place of a doubt about any setting."""
        kept = tuple(step for step in effects.steps if step.name or step.kind != DOUBT)
        return effects if kept == effects.steps else replace(effects, steps=(*kept, *steps))

    def chains(self) -> bool:
        """Return True if the app has set ``completion_type`` to CHAIN."""
        known = self._channel.record.on_server
        return known.knows(COMPLETION) and chains(known.of(COMPLETION)[0])

    def _chained(self, effects: Effects) -> Effects:
        """Add the transaction that begins with an end of one."""
        if effects.steps[-1:] not in (_COMMITS, _ROLLS_BACK) or not _is_end(effects) or not self.chains():
            return effects
        return replace(effects, steps=(*effects.steps, Step(BEGIN)))

    def _in_collation(self, effects: Effects) -> Effects:
        """Mark user variables with a text as uncertain if the connection's collation is not that of a new one."""
        texts = [s for s in effects.steps if s.kind == SET and str(s.name)[:1] == "@" and type(s.value) is str]
        if not texts:
            return effects
        known = self._channel.record.on_server
        value, pristine = known.of(_COLLATION)
        others = {str(step.name) for step in effects.steps}
        if value == pristine and _COLLATION not in {*known.doubts, *others} and not known.is_configured(_COLLATION):
            return effects
        steps = (Step(DOUBT, s.name, "collation") if s in texts else s for s in effects.steps)
        return replace(effects, steps=tuple(steps))


def _is_end(effects: Effects) -> bool:
    return effects.parts[-1:] != () and effects.parts[-1].word in ("commit", "rollback")


def _code(error: BaseException) -> Any:
    """Return the number of an error of the server."""
    return getattr(error, "errno", None) or next(iter(error.args), None)
