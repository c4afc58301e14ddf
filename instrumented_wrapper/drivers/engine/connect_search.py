"""A new connection that cannot reach its own host joins the search for the server, on ``failover_hosts``.

Without this option the search uses the connection's own hosts, if it names several.

The app's own connect function is tried on each host, so the app gets what it requested. Connections that search for the
same server at once share one search.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from instrumented_wrapper import runners
from instrumented_wrapper.drivers import Flow, Flows
from instrumented_wrapper.drivers.engine import race_tasks
from instrumented_wrapper.drivers.engine.race import Ended, Opening, race
from instrumented_wrapper.drivers.engine.race_threads import wait_while_wanted
from instrumented_wrapper.drivers.engine.search import PRIMARY, Contest, Target, Winner, find
from instrumented_wrapper.drivers.registry import checkout_deadline
from instrumented_wrapper.errors import Address
from instrumented_wrapper.events import Failover, FailoverEnd, ServerAddress, Signals, error_type, observe
from instrumented_wrapper.failover import NoServer, UnderWay
from instrumented_wrapper.operations import Site
from instrumented_wrapper.options import Options

_UNREACHABLE: Final = ("refused", "no_answer", "not_ready")  # outcomes; of others the app's own host has the last word


@dataclass(frozen=True, slots=True)
class Request:
    """A connection that the app requests.

    Attributes:
        site: the requested address.
        options: the options of the connection.
        login: the user and the database, without the password.
        role: the requested kind of server.
        own: the hosts that the app itself names; they are searched if there are several.
    """

    site: Site
    options: Options
    login: Hashable
    role: str = PRIMARY
    own: tuple[Address, ...] = ()

    @property
    def hosts(self) -> tuple[Address, ...]:
        """Return the hosts to look on, those that have just failed last; one without a port has the connection's."""
        given = tuple((host, port or self.site.port) for host, port in self.options.failover_hosts)
        return tuple(sorted(given, key=self.known.__contains__)) or (self.own if len(self.own) > 1 else ())

    @property
    def known(self) -> tuple[Address, ...]:
        """Return the hosts that the app's own way to connect leads to."""
        return self.own or ((self.site.address, self.site.port),)


class Connecting(Protocol):
    """The part of a `DriverAdapter` that a search needs."""

    name: str
    raises: tuple[type[Exception], ...]

    def answer(self, error: BaseException) -> tuple[str, str, bool]:
        """Return what an error of a connect means."""

    def checked(self, connection: object, role: str, asks: bool) -> Any:
        """Query whether the server serves anybody, and of which kind it is. May wait."""

    def shut(self, connection: object, for_good: bool) -> None:
        """End the connection."""


Attempt = Callable[[Address | None, float], Any]


def connected(
    adapter: Connecting, flows: Flows, options: Options, request: Callable[[], Request], attempt: Attempt
) -> Any:
    """Connect as requested, or to the server that took over if the app's own host cannot be reached.

    Args:
        adapter: the driver's adapter.
        flows: the flows to run.
        options: the options of the connection.
        request: returns the app's request.
        attempt: connects to a host within a number of seconds; None: as the app requested.

    Raises:
        Exception: the driver's own, about the app's host, if the search is off or finds nothing.
    """
    opening = _opening(adapter, attempt, runners.run)
    contest = Contest(
        lambda target, deadline: race(_Here(opening, deadline), opening, target, deadline), wait_while_wanted, True
    )
    return flows.run(_connected(adapter, options, request, attempt, contest))


async def connected_async(
    adapter: Connecting, flows: Flows, options: Options, request: Callable[[], Request], attempt: Attempt
) -> Any:
    """Do as `connected` does, where attempts are awaited."""
    contest = race_tasks.contest(_opening(adapter, attempt, runners.run_async))
    return await flows.run_async(_connected(adapter, options, request, attempt, contest))


def _connected(
    adapter: Connecting, options: Options, request: Callable[[], Request], attempt: Attempt, contest: Contest
) -> Flow[Any]:
    try:
        return (yield partial(attempt, None, 0.0))
    except adapter.raises as error:
        if options.failover == "off" or not _is_away(adapter, error) or not _joins(asked := request()):
            raise
        winner = yield from _joined(adapter, asked, contest, error_type(error))
        if winner is None:
            raise
        return winner[0]


def _opening(adapter: Connecting, attempt: Attempt, run: Callable[[Flow[Any]], Any]) -> Opening:
    def opened(address: Address, seconds: float, role: str) -> Flow[Any]:
        connection = yield partial(attempt, address, seconds)
        try:
            yield partial(adapter.checked, connection, role, True)
        except BaseException:
            adapter.shut(connection, True)
            raise
        return connection

    return Opening(
        lambda address, role, seconds: run(opened(address, seconds, role)),
        adapter.answer,
        lambda connection: adapter.shut(connection, True),
    )


def _is_away(adapter: Connecting, error: Exception) -> bool:
    """Return True if a host could not be reached.

    If a standby answered, a failover may be in progress; if all hosts answered, their answers are final. Client
    libraries name each host that was tried on a line of its own.
    """
    outcome = adapter.answer(error)[0]
    if outcome != "wrong_role":
        return outcome in _UNREACHABLE
    said = (line for line in str(error).splitlines() if line.strip())
    return any(adapter.answer(Exception(line))[0] in _UNREACHABLE for line in said)


def _joins(request: Request) -> bool:
    options = request.options
    several = options.failover == "on" or len({*request.hosts, *request.known}) > 1
    return bool(request.hosts) and several and _deadline(options) > time.monotonic()


def _joined(adapter: Connecting, request: Request, contest: Contest, code: str) -> Flow[Winner | None]:
    """Search for the server as an observed event; return None if none is found in time."""
    site, options = request.site, request.options
    target = Target(request.hosts, request.role, (adapter.name, "connect", request.login), lambda: True)
    at = ServerAddress(site.system, site.namespace, site.address, site.port)
    signals = Signals(options.traces, options.metrics, options.capture_values)
    with observe(Failover(adapter.name, at, signals, "connect", "none", may_have_run=False)) as observed:
        try:
            connection, found = yield from find(target, contest, _deadline(options))
        except NoServer as error:
            observed.outcome = FailoverEnd("failed", "connect", None, error.attempts, code, tuple(error.tried))
            return None
        after = ServerAddress(site.system, site.namespace, *found.address)
        observed.outcome = FailoverEnd(
            "success", "connect", after, found.attempts, tried=found.tried, led_by=found.led_by
        )
    return connection, found


def _deadline(options: Options) -> float:
    """Return until when the search may last: a pool that looks for a connection may have less time."""
    limit = time.monotonic() + options.failover_timeout
    pools = checkout_deadline.get()
    return limit if pools is None else min(limit, pools)


class _Here:
    """Attempts, one after the other, in the thread that waits: each of them fills the app's own object."""

    def __init__(self, opening: Opening, deadline: float) -> None:
        self._opening, self._deadline, self._due = opening, deadline, deque[tuple[UnderWay, str, float]]()

    def start(self, attempt: UnderWay, role: str, seconds: float) -> None:
        """Have it done by `next`."""
        self._due.append((attempt, role, seconds))

    def next(self, seconds: float) -> Ended | None:
        """Connect to the host that has waited longest."""
        if not self._due:
            time.sleep(seconds)
            return None
        attempt, role, limit = self._due.popleft()
        share = (self._deadline - time.monotonic()) / (1 + len(self._due))  # of what those before it have left
        limit = min(limit, max(0.1, share))
        try:
            return Ended(attempt, self._opening.open(attempt.address, role, limit), None)
        except Exception as error:  # noqa: BLE001 - the race judges it
            return Ended(attempt, None, error.with_traceback(None))

    def close(self) -> None:
        """Start nothing more."""
        self._due.clear()


def redirected(given: Mapping[str, Any], address: Address | None, seconds: float) -> dict[str, Any]:
    """Return the arguments of a connect to MySQL for another host, within so many seconds; None: as they are."""
    if address is None:
        return dict(given)
    host, port = address
    rest = {name: value for name, value in given.items() if name not in ("unix_socket", "host", "port")}
    where = {"host": "localhost", "unix_socket": host} if host.startswith("/") else {"host": host}
    limit = max(1, round(min(seconds, given.get("connect_timeout") or seconds)))
    return {**rest, **where, "port": port or 3306, "connect_timeout": limit}
