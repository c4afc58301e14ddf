"""Which server a lost connection looks for, and the search itself, shared by the connections that are lost together.

`connecting` races the hosts; this decides for what, and who leads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import psycopg

from instrumented_wrapper import events
from instrumented_wrapper.drivers.psycopg import connecting
from instrumented_wrapper.drivers.psycopg.connecting import Target
from instrumented_wrapper.drivers.psycopg.records import SHARED, Record
from instrumented_wrapper.drivers.watching import wait_while_wanted
from instrumented_wrapper.errors import Address
from instrumented_wrapper.failover import (
    A_WHILE,
    FOLLOW_TIMEOUT,
    ClosedMeanwhile,
    Found,
    Loss,
    NoServer,
)
from instrumented_wrapper.single_flight import Interrupted

__all__ = ["pause_async", "search", "search_async", "target_of"]

Result = TypeVar("Result")


def target_of(connection: Any, record: Record, parameters: Any, loss: Loss) -> Target:
    """Return what a lost connection looks for."""
    hosts = loss.hosts or record.options.failover_hosts or connecting.hosts_of(parameters)
    wanted = _wanted(connection, record, parameters, loss)
    return Target(parameters, hosts, wanted, lambda: not record.closed_by_app, loss.asks)


def _wanted(connection: Any, record: Record, parameters: Any, loss: Loss) -> str:
    """Return the kind of server: what the app asked for, else a primary where the old one was not a standby."""
    if loss.trigger == "demoted":
        return "primary"
    if asked := connecting.asked_for(parameters):
        return asked
    if loss.trigger == "requested" and loss.hosts:
        return "any"
    return "standby" if _was_standby(connection, record) else "primary"


def _was_standby(connection: Any, record: Record) -> bool:
    try:
        return bool(connection.pgconn.parameter_status(b"in_hot_standby") == b"on")
    except psycopg.OperationalError:  # psycopg has closed it, after an interruption
        return bool(record.standby)


def search(target: Target, deadline: float) -> tuple[Any, Found]:
    """Find a server. One that prefers a standby takes any server if no standby answers soon.

    Raises:
        NoServer: none took over until `deadline` (monotonic seconds).
        ClosedMeanwhile: the app has closed its connection.
    """
    if target.wanted != "prefer-standby":
        return _search_one(target, deadline)
    try:
        return _search_one(replace(target, wanted="standby"), _soon(deadline))
    except NoServer as error:
        _look_again(error, deadline)
        return _search_one(replace(target, wanted="any"), deadline)


async def search_async(target: Target, deadline: float) -> tuple[Any, Found]:
    """Do as `_search` does, while the event loop goes on."""
    if target.wanted != "prefer-standby":
        return await _search_one_async(target, deadline)
    try:
        return await _search_one_async(replace(target, wanted="standby"), _soon(deadline))
    except NoServer as error:
        _look_again(error, deadline)
        return await _search_one_async(replace(target, wanted="any"), deadline)


def _search_one(target: Target, deadline: float) -> tuple[Any, Found]:
    """Lead the search for such a target, or wait for whoever leads it and then connect to what was found."""
    while (leader := SHARED.join(target.key, events.origin())) is not None:
        if SHARED.is_led_here(leader):  # by a task of an event loop that waits for us: it would never end
            return connecting.race(target, deadline)
        try:
            address = wait_while_wanted(leader, deadline, target.is_wanted)
            with SHARED.following(address) as turn:
                wait_while_wanted(turn, deadline, target.is_wanted)
                pgconn, found = connecting.race(_only(target, address), _soon(deadline))
            return pgconn, found._replace(led_by=leader.mark)
        except (Interrupted, NoServer, TimeoutError) as error:
            leader = None  # it has the error, which keeps this frame
            _look_again(error, deadline)
    with SHARED.leading(target.key) as tell:
        pgconn, found = connecting.race(target, deadline)
        tell(found.address)
    return pgconn, found


async def _search_one_async(target: Target, deadline: float) -> tuple[Any, Found]:
    """Do as `_search_one` does, while the event loop goes on."""
    while (leader := SHARED.join(target.key, events.origin())) is not None:
        try:
            address = await _told(leader, deadline, target.is_wanted)
            with SHARED.following(address, blocks=False) as turn:
                await _told(turn, deadline, target.is_wanted)
                pgconn, found = await connecting.race_async(_only(target, address), _soon(deadline))
            return pgconn, found._replace(led_by=leader.mark)
        except (Interrupted, NoServer, TimeoutError) as error:
            leader = None  # it has the error, which keeps this frame
            _look_again(error, deadline)
    with SHARED.leading(target.key) as tell:
        pgconn, found = await connecting.race_async(target, deadline)
        tell(found.address)
    return pgconn, found


async def _told(future: Future[Result], deadline: float, is_wanted: Callable[[], bool]) -> Result:
    """Do as `wait_while_wanted` does. Whoever waits may be cancelled; what is waited for goes on."""
    waiting = asyncio.wrap_future(future)
    waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to ask
    while is_wanted():
        left = deadline - time.monotonic()
        await asyncio.wait([waiting], timeout=max(0.0, min(left, A_WHILE)))
        if waiting.done():
            return waiting.result()
        if left <= 0:
            raise TimeoutError
    raise ClosedMeanwhile


async def pause_async(seconds: float, is_wanted: Callable[[], bool]) -> None:
    """Do as `pause_while_wanted` does, while the event loop goes on."""
    with suppress(TimeoutError):
        await _told(Future[None](), time.monotonic() + seconds, is_wanted)


def _only(target: Target, address: Address) -> Target:
    return replace(target, hosts=(address,))


def _soon(deadline: float) -> float:
    """Return when to stop asking the one server that another connection found: it may be gone again."""
    return min(deadline, time.monotonic() + FOLLOW_TIMEOUT)


def _look_again(error: Exception, deadline: float) -> None:
    """Whoever led found nothing or was interrupted: look again, perhaps as the leader, if that may help."""
    known = error if isinstance(error, NoServer) else NoServer(0)
    if known.permanent or time.monotonic() >= deadline:
        raise NoServer(known.attempts, known.permanent, known.answers, known.tried) from None
