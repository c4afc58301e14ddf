"""The order of steps around a call of the app that is not plain: before it, after it failed, after it was answered.

A flow yields each call that may wait for the server, so that sync and async drivers have the same steps.

The frequent path is in `sync_calls` and `sync_endings`, what a loss means in `loss_rules`, a switch in
``switching.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Final

from instrumented_wrapper import statement
from instrumented_wrapper.drivers import Driver, Flow, Flows
from instrumented_wrapper.drivers.engine import decisions, guards, loss_rules, repair
from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.loss_facts import OF_REQUEST, ends, facts_after, facts_before
from instrumented_wrapper.drivers.engine.partial_execution import has_run_in_part
from instrumented_wrapper.drivers.engine.request import Request, SentCall, TransactionStatus
from instrumented_wrapper.drivers.server_session import commits
from instrumented_wrapper.errors import FailoverError, again
from instrumented_wrapper.failover import Loss
from instrumented_wrapper.statement import Effects

_PREPARE: Final = statement.Step(statement.COMMIT, statement.OUTLIVES)
_NOTHING: Final = Effects()
RERAISE: Final = object()  # instead of a result: the error that was raised is the app's
_REPEAT: Final = object()  # instead of a result: the call has not run, and is sent to the server that took over


class StatementFlow:
    """The steps around the calls of one driver.

    Attributes:
        run: carries a flow out; returns its value where the driver blocks, else an awaitable.
    """

    def __init__(
        self, adapter: DriverAdapter, driver: Driver, flows: Flows, run: Callable[[Flow[Any]], Any] | None = None
    ) -> None:
        self._adapter, self._driver, self._flows = adapter, driver, flows
        self._database = adapter.room.CAPABILITIES
        self.run: Callable[[Flow[Any]], Any] = run or flows.run

    def carry_out(
        self,
        connection: object,
        record: Record,
        call: Request,
        effects: Effects | None,
        run: Callable[[], Any],
        reads_last: bool = False,
        since: float | None = None,
    ) -> Flow[Any]:
        """Run a call of the app with everything that may come before and after it.

        `reads_last`: the call reads diagnostics of the last statement, so no query is sent in between.
        `since`: when the first loss of this call was found (monotonic seconds), if it is sent again after one.
        """
        done, record.end_unclear = effects or OF_REQUEST.get(call), True
        record.transaction_status = self._adapter.transaction_status(connection, record)
        left_one = record.lost is not None
        if record.needs_slow_path:
            guards.raise_due(decisions.due_error(record, call, done))
        first = generation = record.generation
        if loss := (yield from guards.found_dead(self._adapter, connection, record, call, done)):
            yield from self._repair(connection, record, replace(loss, since=since), generation)
        if record.needs_slow_path:
            yield from guards.refuse(self._adapter, connection, record, call, done)
        if record.resync_next and call is Request.STATEMENT and not reads_last:
            yield from self._resync_first(connection, record)
        if (
            done is not None
            and done.sets
            and not reads_last
            and record.transaction_status in (TransactionStatus.IDLE, TransactionStatus.INTRANS)
        ):
            yield from self._read_first(connection, record, call, done)
        if done is not None and decisions.reads_position(record, done):
            done = yield from self._position_first(connection, record, call, done)
        generation = record.generation
        streams = done is not None and done.streams
        try:
            if done is not None and done is not _NOTHING:
                decisions.note(record, decisions.attributed(record, done))
            record.active_caller = record.app_caller()
            with record.streaming(self._adapter.socket(connection)) if streams else nullcontext():
                result = yield run
        except BaseException as error:
            record.active_caller = False
            sent = SentCall(connection, record, call, done, run, generation, since)
            lost = left_one or record.generation != first
            instead = yield from self._failed_elsewhere(sent, error, lost)
            if instead is RERAISE:
                instead = yield from self.failed(sent, error)
            if instead is RERAISE:
                raise
            return instead
        record.active_caller = False
        if self.answered(connection, record):
            yield from self.resync(connection, record)
        if record.generation != first and ends(call, done):
            self._adapter.ended(connection, record)
        return result

    # --- before --------------------------------------------------------------------------------------------------

    def _read_first(self, connection: object, record: Record, call: Request, effects: Effects) -> Flow[None]:
        """Read the pristine values of what is about to change. A value that cannot be read now is read later."""
        if not (names := decisions.unread(record, effects.steps)):
            return
        generation, caller_before = record.generation, record.active_caller
        record.active_caller = record.caller()
        try:
            yield from self._flows.note_changes(self._driver, connection, record, names)
        except ValueError:  # something between us and the server answers otherwise than the server does
            return
        except self._adapter.raises as error:
            if not (record.switchable and self._adapter.is_lost(connection, error)):
                return
            if loss := loss_rules.found_before_sending(facts_before(record, call, effects)):
                yield from self._repair(connection, record, replace(loss, cause=error), generation)
        finally:
            record.active_caller = caller_before

    def _position_first(self, connection: object, record: Record, call: Request, effects: Effects) -> Flow[Effects]:
        """Read where the transaction is, by which the outcome of its COMMIT can be found out; return this with it."""
        if self._adapter.transaction_status(connection, record) != TransactionStatus.INTRANS:
            return effects
        generation, caller_before = record.generation, record.active_caller
        record.active_caller = record.caller()
        try:
            position = yield from commits.read_position(
                self._driver, connection, record, decisions.begins_next(effects)
            )
        except self._adapter.raises as error:
            if not self._adapter.is_lost(connection, error):
                raise  # interrupted or too late: the transaction has failed, and a COMMIT would hide that
            if loss := loss_rules.found_before_sending(facts_before(record, call, effects)):
                yield from self._repair(connection, record, replace(loss, cause=error), generation)
            return effects
        finally:
            record.active_caller = caller_before
        return replace(effects, position=position)

    # --- after ---------------------------------------------------------------------------------------------------

    def answered(self, connection: object, record: Record) -> bool:
        """Record a call that succeeded. Return True if the server has to be queried now, by `resync`."""
        record.last_response_at = time.monotonic()
        noted, client = record.in_flight, record.settings_client
        record.used = record.used or not self._only_sets(noted)
        if noted:
            more_to_come = noted[-1].several and self._adapter.is_streaming(connection)
            self._settle(connection, record, certain=not more_to_come)
        if not noted or any(map(client.may_report, noted)):
            client.apply_reports()
        resyncs = record.needs_resync and self._resyncs_now(connection, record)
        if record.lost is not None:
            decisions.note_status(record, self._adapter.transaction_status(connection, record))
        return resyncs

    def _only_sets(self, noted: Sequence[Effects]) -> bool:
        """Return True if only a SET was answered that is in no transaction and begins none."""
        kinds = {step.kind for effects in noted for step in effects.steps}
        return kinds == {statement.SET} and not self._database.set_begins_transaction

    def _settle(self, connection: object, record: Record, certain: bool) -> None:
        self._follow(record)
        decisions.settle(record, self._adapter.transaction_status(connection, record), certain)
        record.templates = None

    @staticmethod
    def _follow(record: Record) -> None:
        """Track by the app's own statements whether a transaction is open, for drivers that do not expose it."""
        for effects in record.in_flight:
            if effects.only_sets:
                continue
            if effects.begins or effects.outcome_unknown_if_lost or effects.rolls_back:
                record.is_prepared = effects.steps[-1:] == (_PREPARE,)
            for step in effects.steps:
                if step.kind == statement.BEGIN:
                    record.begun = True
                elif step.kind in (statement.COMMIT, statement.ROLLBACK):
                    record.begun = record.used = False

    def _resyncs_now(self, connection: object, record: Record) -> bool:
        """Return True if the server is queried now, without disturbing; otherwise before the next statement."""
        if not decisions.may_resync(record):
            record.needs_resync = False
        elif self._database.asking_disturbs_diagnostics:
            record.needs_resync, record.resync_next = False, True
            record.refresh()
        else:
            return self._adapter.transaction_status(connection, record) == TransactionStatus.IDLE
        return False

    def _resync_first(self, connection: object, record: Record) -> Flow[None]:
        """Query the server before the next statement, unless rows remain to be read."""
        if not self._adapter.is_streaming(connection):
            record.resync_next = False
            record.refresh()
            yield from self.resync(connection, record)

    def resync(self, connection: object, record: Record) -> Flow[None]:
        """Query what is uncertain; if that fails it stays uncertain, and is reported at a loss."""
        caller_before, record.active_caller = record.active_caller, record.caller()
        try:
            yield from repair.resync(self._flows, self._driver, connection, record, (self._adapter.error, ValueError))
        finally:
            record.active_caller = caller_before

    def failed(self, sent: SentCall, error: BaseException) -> Flow[Any]:
        """It raised: a loss, a demotion, or a refusal that is the app's affair.

        Returns what the app gets instead, or `RERAISE`: an error that is raised here would be kept by this very frame,
        and the connection with it, until a garbage collection.
        """
        started = time.monotonic()
        instead = yield from self._settled_failure(sent, error)
        if instead is not _REPEAT or sent.since is not None:  # `_repeated` is what called
            return instead
        return (yield from self._repeated(sent._replace(since=started)))

    def _repeated(self, sent: SentCall) -> Flow[Any]:
        """Send a call that has not run to the server that took over, which may be lost or demoted as well.

        All repetitions together have the time of one failover.
        """
        connection, record, call, effects, run, _, since = sent
        result: Any = _REPEAT
        while result is _REPEAT:
            result = yield from self.carry_out(connection, record, call, effects, run, since=since)
        return result

    def _settled_failure(self, sent: SentCall, error: BaseException) -> Flow[Any]:
        connection, record, call, effects, _, generation, since = sent
        adapter, record.used = self._adapter, True
        ours = isinstance(error, FailoverError) or not isinstance(error, (*adapter.raises, OSError))
        if ours:  # or the app was interrupted: nobody knows how far it came
            self._settle(connection, record, certain=False)
            guards.lost_step(adapter, connection, record, error)
            return RERAISE
        facts = facts_after(adapter, connection, record, call, effects, in_part=has_run_in_part(error))
        if adapter.may_have_ended(error):
            yield partial(adapter.is_alive, connection)
        if adapter.is_lost(connection, error):
            loss = None if self._adapter.is_closed(connection) else loss_rules.found_while_under_way(facts, error)
            if (loss := repair.to_repair(self._flows, self._driver, connection, record, loss)) is None:
                if record.failed is not None and not isinstance(error, adapter.error):  # no error that the app expects
                    raise again(record.failed) from error
                return RERAISE
            if ends(call, effects):
                adapter.ended(connection, record)
            yield from self._repair(connection, record, replace(loss, since=since), generation)
            return _REPEAT if call is Request.ROLLBACK and record.chains else None  # it begins the next one, too
        if guards.lost_step(adapter, connection, record, error):
            self._settle(connection, record, certain=False)
            return RERAISE
        doubtful = facts.outcome_unknown_if_lost and facts.in_transaction and self._database.commits_implicitly
        if doubtful and not adapter.is_streaming(connection):
            yield partial(adapter.is_alive, connection)  # it may have committed before it failed: this answer tells
        demoted = record.switchable and (yield from repair.is_demoted(adapter, connection, record, error))
        yield from self._refused(connection, record)
        if not demoted:
            return RERAISE
        loss = loss_rules.found_demoted(facts, error, in_doubt=adapter.leaves_in_doubt(error))
        yield from self._repair(connection, record, replace(loss, since=since), generation)
        return _REPEAT

    def _failed_elsewhere(self, sent: SentCall, error: BaseException, lost: bool) -> Flow[Any]:
        """End a two-phase transaction that another session has begun; `lost`: that one was lost with it.

        Returns `RERAISE` where the error is about something else.
        """
        adapter, (connection, record, _, effects, run, _, _) = self._adapter, sent
        why = adapter.two_phase_refusal(connection, effects, error) if record.generation > 1 else ""
        if why == "gone" and lost:  # it is rolled back already
            return (yield from self._refused(connection, record))
        if why != "autocommit" or adapter.transaction_status(connection, record) != TransactionStatus.IDLE:
            return RERAISE
        generation, record.active_caller = record.generation, record.caller()
        try:
            yield partial(adapter.finish, connection, "SET autocommit=1")
            result = yield run
            yield partial(adapter.finish, connection, "SET autocommit=0")
        except BaseException as later:
            try:
                yield from self._end_autocommit(connection, later)
            finally:
                record.active_caller = False  # also where that fails: else no later call would be the app's
            if lost and adapter.two_phase_refusal(connection, effects, later) == "gone":
                return (yield from self._refused(connection, record))
            if (instead := (yield from self.failed(sent._replace(generation=generation), later))) is RERAISE:
                raise
            return instead
        record.active_caller = False
        record.settings_client.keep_reported()
        if self.answered(connection, record):
            yield from self.resync(connection, record)
        return result

    def _end_autocommit(self, connection: object, error: BaseException) -> Flow[None]:
        """Leave autocommit after `error`, which passes. Where that cannot be done, end the physical connection.

        After an interruption the answer may be half read: the next statement would get it instead of its own.
        """
        adapter = self._adapter
        try:
            if not isinstance(error, (*adapter.raises, OSError)):
                adapter.shut(connection, for_good=False)
            elif not adapter.is_lost(connection, error):
                yield partial(adapter.finish, connection, "SET autocommit=0")
        except BaseException as later:
            adapter.shut(connection, for_good=False)
            if not isinstance(later, (*adapter.raises, OSError)):
                raise

    def _refused(self, connection: object, record: Record) -> Flow[None]:
        idle = self._adapter.transaction_status(connection, record) == TransactionStatus.IDLE
        self._follow(record)
        record.settings_client.refused()
        record.refused(idle=idle)
        if record.needs_resync and self._resyncs_now(connection, record):
            yield from self.resync(connection, record)

    def _repair(self, connection: object, record: Record, loss: Loss, generation: int) -> Flow[None]:
        """Replace the physical connection; raise the error that the app must get."""
        with record.use_lock:
            if record.generation != generation and record.last_error is not None:
                raise again(record.last_error) from loss.cause  # another thread has lost it too, and has replaced it
            caller_before, record.active_caller = record.active_caller, record.caller()
            replaced = partial(self._replaced, connection, record)
            try:
                yield from repair.replace(self._flows, self._driver, connection, record, loss, replaced)
            finally:
                record.active_caller = caller_before

    def _replaced(self, connection: object, record: Record) -> None:
        record.transaction_status = self._adapter.transaction_status(connection, record)
