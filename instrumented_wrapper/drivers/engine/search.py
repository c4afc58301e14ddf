"""Find a server for a lost connection: of which kind, on which hosts, and together with the connections lost with it.

These decisions hold for all drivers. `failover.Search` decides when to try which host; `race_threads`, `race_tasks` or
a driver's own client library connect.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from instrumented_wrapper import events
from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.errors import Address
from instrumented_wrapper.events import ServerAddress
from instrumented_wrapper.failover import FOLLOW_TIMEOUT, Found, Loss, NoServer
from instrumented_wrapper.options import Options
from instrumented_wrapper.single_flight import Flight, Interrupted, SingleFlight

ANY: Final = "any"
PRIMARY: Final = "primary"
STANDBY: Final = "standby"
PREFER_STANDBY: Final = "prefer-standby"
_ANY_HOST: Final = ("", None)
FLIGHTS: Final = SingleFlight()

Wait: TypeAlias = Callable[[Future[Any], float, Callable[[], bool]], Any]
Winner: TypeAlias = tuple[Any, Found]  # a driver's new connection, and the server that it leads to


@dataclass(frozen=True, slots=True)
class Target:
    """What a lost connection searches for.

    Attributes:
        hosts: the servers to try.
        role: ``primary``, ``standby`` or ``any``, or another value of libpq's ``target_session_attrs``.
        login: what a refused login depends on, without the password: only equal ones share a search.
        is_wanted: returns False as soon as the app has closed its connection.
    """

    hosts: tuple[Address, ...]
    role: str
    login: Hashable = field(repr=False)
    is_wanted: Callable[[], bool] = field(repr=False, compare=False)
    first: Address | None = None


class Contest(NamedTuple):
    """How a driver connects to several hosts at once, and waits for another connection that does.

    Attributes:
        race: connects to the hosts of a `Target` until a moment (monotonic seconds).
        wait: waits for a future until a moment, while it is wanted. May wait.
        blocks: waiting blocks the thread, so it must not wait for a task of an event loop there.
    """

    race: Callable[[Target, float], Flow[Winner]]
    wait: Wait
    blocks: bool


def target_of(
    record: TrackedConnection,
    loss: Loss,
    own: tuple[Address, ...],
    requested_role: str,
    was_standby: bool,
    login: Hashable,
    before: ServerAddress,
) -> Target:
    """Return what the connection of `record` searches for.

    Args:
        record: the record of the lost connection.
        loss: the meaning of the loss.
        own: the hosts of the connection.
        requested_role: the kind of server that the app requests, in libpq's words; empty if it requests none.
        was_standby: the lost server was a standby.
        login: what a refused login depends on, without the password.
    """
    role, hosts = _role_wanted(loss, requested_role, was_standby), _hosts_to_ask(loss, record.options, own)
    first = _same_host(hosts, before) if loss.trigger == "connection_lost" else None
    return Target(hosts, role, login, lambda: not record.closed_by_app, first)


def _same_host(hosts: tuple[Address, ...], before: ServerAddress) -> Address | None:
    """Return the host that is the lost server; None where it is none of them."""
    return next((host for host in hosts if host[0] == before.address and host[1] in (None, before.port)), None)


def _hosts_to_ask(loss: Loss, options: Options, own: tuple[Address, ...]) -> tuple[Address, ...]:
    """Return the hosts to search: the app's option, else `own`, the hosts of its connection.

    A host without a port gets the one that all `own` hosts share. If none is known, the client library chooses.
    """
    ports = {port for _, port in own}
    common = ports.pop() if len(ports) == 1 else None
    asked = tuple((host, port or common) for host, port in loss.hosts or options.failover_hosts)
    return asked or own or (_ANY_HOST,)


def _role_wanted(loss: Loss, requested_role: str, was_standby: bool) -> str:
    """Return the kind of server to search for: the requested one, else the kind that the lost server had."""
    if loss.trigger == "demoted":
        return PRIMARY
    if requested_role:
        return requested_role
    if loss.trigger == "requested" and loss.hosts:
        return ANY
    return STANDBY if was_standby else PRIMARY


def is_chosen(role: str, was_chosen: bool) -> bool:
    """Return True if a server that was found for `role` is one that the app chose, even if it is a standby."""
    return role == ANY or (role == STANDBY and was_chosen)


def find(target: Target, contest: Contest, deadline: float) -> Flow[Winner]:
    """Find a server until `deadline` (monotonic seconds).

    A connection that prefers a standby takes any server if no standby answers soon.

    Raises:
        NoServer: none took over in time, or one refused the login for good.
        ClosedMeanwhile: the app has closed its connection.
    """
    if target.role != PREFER_STANDBY:
        return (yield from _find_together(target, contest, deadline))
    try:
        return (yield from _find_together(replace(target, role=STANDBY), contest, _soon(deadline)))
    except NoServer as error:
        _raise_if_final(error, deadline)
    return (yield from _find_together(replace(target, role=ANY), contest, deadline))


def _find_together(target: Target, contest: Contest, deadline: float) -> Flow[Winner]:
    """Lead the search for `target`, or wait for its leader and connect to the server that it found."""
    key = target.hosts, target.role, target.login
    while (flight := FLIGHTS.join(key, events.origin())) is not None:
        in_vain = True
        try:
            if contest.blocks and FLIGHTS.is_led_here(flight):  # by a task that waits for this thread: for ever
                return (yield from _race(target, contest, deadline))
            winner = yield from _follow(flight, target, contest, deadline)
            in_vain = False
        except (Interrupted, NoServer, TimeoutError) as error:
            _raise_if_final(error, deadline)
        else:
            return winner
        finally:
            FLIGHTS.leave(key, flight, in_vain)
    with FLIGHTS.leading(key) as land:
        connection, found = yield from _race(target, contest, deadline)
        land(found.address)
    return connection, found


def _follow(flight: Flight, target: Target, contest: Contest, deadline: float) -> Flow[Winner]:
    address = yield partial(contest.wait, flight, deadline, target.is_wanted)
    with FLIGHTS.following(address, contest.blocks) as permit:
        yield partial(contest.wait, permit, deadline, target.is_wanted)
        only = replace(target, hosts=(address,), first=None)
        connection, found = yield from _race(only, contest, _soon(deadline))
    return connection, found._replace(led_by=flight.mark)


def _race(target: Target, contest: Contest, deadline: float) -> Flow[Winner]:
    connection, found = yield from contest.race(target, deadline)
    return connection, found._replace(role=target.role)


def _soon(deadline: float) -> float:
    """Return when to give up a server that may be gone again, or a kind that need not exist."""
    return min(deadline, time.monotonic() + FOLLOW_TIMEOUT)


def _raise_if_final(error: Exception, deadline: float) -> None:
    """Return if another search may help, perhaps as its leader.

    Raises:
        NoServer: it cannot help; a copy, because `error` keeps the frames of its raiser.
    """
    known = error if isinstance(error, NoServer) else NoServer(0)
    if known.permanent or time.monotonic() >= deadline:
        raise NoServer(known.attempts, known.permanent, known.answers, known.tried) from None


def pause(wait: Wait, seconds: float, is_wanted: Callable[[], bool]) -> Flow[None]:
    """Wait before the next attempt at a server.

    Raises:
        ClosedMeanwhile: the app has closed its connection.
    """
    with suppress(TimeoutError):
        yield partial(wait, Future(), time.monotonic() + seconds, is_wanted)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=FLIGHTS.forget)
