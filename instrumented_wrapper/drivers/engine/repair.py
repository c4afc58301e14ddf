"""What is done about a loss and about a doubt, for all drivers: flows over the lifecycle's."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from instrumented_wrapper.drivers import Driver, Flow, Flows
from instrumented_wrapper.drivers.engine import decisions
from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.registry import checkout_deadline
from instrumented_wrapper.drivers.server_session import commits
from instrumented_wrapper.errors import remembered
from instrumented_wrapper.failover import Loss


def replace(
    flows: Flows,
    driver: Driver,
    connection: object,
    record: TrackedConnection,
    loss: Loss,
    replaced: Callable[[], None],
) -> Flow[None]:
    """Replace the physical connection, as long as the option allows, or a pool that waits for it.

    Args:
        flows: the lifecycle's.
        driver: of the connection.
        connection: the app's object.
        record: of that connection.
        loss: what the loss means.
        replaced: called when that was done, whatever the app gets.

    Raises:
        FailoverError: what the app has to get, if there is something; kept for calls that go on with what is stale.
    """
    record.settings_client.lost(loss.transaction)
    moment = checkout_deadline.get()
    seconds = None if moment is None else max(0.0, moment - time.monotonic())
    if loss.transaction == "unknown" and (position := position_sent(record)) is not None:
        resolve = partial(commits.resolve, driver, connection, position)
        loss = dataclasses.replace(loss, resolve=resolve, begins=position.begins)
    try:
        news = yield from flows.replace_lost(driver, connection, record, loss, seconds)
        replaced()
    finally:
        record.refresh()
    if news is not None:
        record.last_error = remembered(news)
        try:
            raise news from loss.cause
        finally:
            del news  # or this frame would keep it, and it this frame


def position_sent(record: TrackedConnection) -> Any:
    """Return where the transaction was whose COMMIT was sent and not answered, where that alone was sent."""
    return record.in_flight[0].position if len(record.in_flight) == 1 else None


def to_repair(
    flows: Flows, driver: Driver, connection: object, record: TrackedConnection, loss: Loss | None
) -> Loss | None:
    """Return a loss to repair. Any other is observed, once, and the driver's own error passes."""
    if loss is not None and record.switchable:
        return loss
    if loss is not None and decisions.may_observe_loss(record):
        flows.observe_loss(driver, connection, record, loss)
    return None


def is_demoted(adapter: DriverAdapter, connection: object, record: Record, error: BaseException) -> Flow[bool]:
    """Query whether the server was demoted, where `error` may mean that; one that ends the session instead was."""
    try:
        return bool((yield partial(adapter.demoted, connection, record, error)))
    except Exception as later:
        if not adapter.is_lost(connection, later):
            raise
        return True


def resync(
    flows: Flows, driver: Driver, connection: object, record: TrackedConnection, errors: tuple[type[Exception], ...]
) -> Flow[None]:
    """Query what is uncertain; if that fails with `errors` it stays uncertain, and is reported at a loss."""
    try:
        yield from flows.settle_doubts(driver, connection, record)
    except errors:  # the server is not asked again after each statement, only when more is in doubt
        record.needs_resync = False
