"""The order of steps around calls of the choke point, as flows that sync and async connections share.

`steps` decides; the frequent path, which needs none of this, is in `waiting`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg

from instrumented_wrapper.drivers import Driver, Flow, Flows
from instrumented_wrapper.drivers.engine import repair
from instrumented_wrapper.drivers.engine.flow import RERAISE
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.psycopg import steps
from instrumented_wrapper.drivers.psycopg.limits import rollback_alone, until
from instrumented_wrapper.drivers.psycopg.loss_facts import owner_of
from instrumented_wrapper.drivers.psycopg.records import Record
from instrumented_wrapper.failover import Loss


class StepFlow:
    """The steps around calls of the choke point, for sync or async connections."""

    def __init__(self, driver: Driver, flows: Flows, wait: Callable[[Any, Any], Any]) -> None:
        self._driver, self._flows, self._wait = driver, flows, wait

    def prepared(
        self, connection: object, record: Record, gen: object, step: str, status: TransactionStatus
    ) -> Flow[Any]:
        """Check the connection before a step is sent, and repair it; return the step, fitted to the session."""
        with record.failing():
            if status == TransactionStatus.ACTIVE:
                steps.refuse(connection, record, gen, step, status)
                return gen
            if loss := steps.before(connection, record, gen, step, status):
                yield from self._repair(connection, record, loss)
            gen = _fitted(connection, record, gen, step, switched=loss is not None)
            if record.resync_next:
                yield from self.resync(connection, record)
        return gen if record.deadline is None else until(connection, gen, record.deadline)

    def failed(self, connection: object, record: Record, step: str, error: psycopg.Error) -> Flow[Any]:
        """Repair a loss, or settle a refused statement.

        Returns what the app gets instead of psycopg's error, or `RERAISE`.

        Raises:
            FailoverError: the app gets it instead.
        """
        started = time.monotonic()
        rest = yield from self._settled_failure(connection, record, step, error, None)
        while rest is not None and rest is not RERAISE:  # it has certainly not run
            try:
                return (yield partial(self._wait, connection, rest))
            except psycopg.Error as later:  # the new server may be lost or demoted as well
                rest = yield from self._settled_failure(connection, record, step, later, started)
                if rest is RERAISE:
                    raise
        return rest

    def _settled_failure(
        self, connection: object, record: Record, step: str, error: psycopg.Error, since: float | None
    ) -> Flow[Any]:
        """Return what has to be sent to the server that took over; None: nothing; `RERAISE`: the error is the app's.

        `since`: when the first loss of the same step was found (monotonic seconds).
        """
        with record.failing():
            if loss := steps.after(self._driver, self._flows, connection, record, step, error):
                yield from self._repair(connection, record, replace(loss, since=since))
                if loss.transaction == "unknown":  # and nothing was raised: it was committed
                    return None
                return steps.once_more(step, error)
            yield from self.resync(connection, record)
            record.finish(error)
            return RERAISE

    def answered(self, connection: object, record: Record, step: str) -> Flow[None]:
        """Settle a step that was answered, and repair the loss that it hid."""
        if loss := steps.answered(connection, record, step):
            yield from self._repair(connection, record, loss)
        elif record.needs_resync or record.resync_next:
            yield from self.resync(connection, record)

    def resync(self, connection: object, record: Record) -> Flow[None]:
        """Query the server for what is in doubt, where that disturbs nothing."""
        if question := steps.resync_now(self._driver, self._flows, connection, record):
            yield partial(self._wait, connection, question)

    def _repair(self, connection: object, record: Record, loss: Loss) -> Flow[None]:
        """Replace the physical connection; raise the error that the app gets, if there is one."""
        with record.resumed():
            replaced = partial(_replaced, connection, record, loss.transaction)
            yield from repair.replace(self._flows, self._driver, connection, record, loss, replaced)


def _replaced(connection: Any, record: Record, transaction: str) -> None:
    """Invalidate what belongs to the old session; `transaction` is the outcome of its transaction."""
    if transaction == "unknown":
        connection._tpc = None  # whatever became of it, it is not this session's any more
    if (status := connection.pgconn.transaction_status) != TransactionStatus.UNKNOWN:
        record.transaction_status = status
    record.pipeline_error = record.last_error if steps.is_stale(connection) else None


def _fitted(connection: Any, record: Record, gen: Any, step: str, switched: bool) -> Any:
    """Fit a step to a switch just now, or to a pipeline block that is stale."""
    owner = owner_of(gen)
    if switched and owner is not None and hasattr(owner, "pgconn"):
        owner.pgconn = connection.pgconn  # made for the old physical connection, not begun yet
    if step == "_rollback_gen" and steps.is_stale(connection):
        gen.close()
        return rollback_alone(connection)
    return gen
