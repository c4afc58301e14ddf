"""The public functions: choose drivers, patch them now or on import, start telemetry; inspect a session, reset, switch.

This module may import every other one, and none imports it. It never imports a driver.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import wrapt

from instrumented_wrapper import carrying, events, leaks, lifecycle, options, resets, runners, supported, switching
from instrumented_wrapper.drivers import Driver, Flow
from instrumented_wrapper.drivers.registry import drop_all, know
from instrumented_wrapper.errors import Address
from instrumented_wrapper.operations import Operations
from instrumented_wrapper.options import Options
from instrumented_wrapper.owners import driver_of, known_session, thread_of, tracked_session, unwrapped
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.self_test import missing
from instrumented_wrapper.session import Session
from instrumented_wrapper.snapshot import SessionState

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from instrumented_wrapper.telemetry import PoolMetrics, SessionMetrics

logger = logging.getLogger("instrumented_wrapper")


class Flows:
    """The lifecycle, as the drivers' seams are handed it, and who is told of the app's operations."""

    def __init__(self, operations: Operations, pools: PoolMetrics) -> None:
        self.operations, self.pools = operations, pools
        self.report_leak = leaks.Leaks().report

    run = staticmethod(runners.run)
    run_async = staticmethod(runners.run_async)
    run_within = staticmethod(runners.run_within)
    note_change = staticmethod(lifecycle.note_change)
    note_changes = staticmethod(lifecycle.note_changes)
    settle_doubts = staticmethod(lifecycle.settle_doubts)
    reset = staticmethod(resets.reset)
    reset_by_pool = staticmethod(resets.reset_by_pool)
    to_reset = staticmethod(resets.to_reset)
    replace_lost = staticmethod(switching.replace_lost)
    observe_loss = staticmethod(switching.observe_loss)
    lost_session = staticmethod(carrying.lost_session)
    ask_before = staticmethod(carrying.ask_before)
    carry_over = staticmethod(carrying.carry_over)
    observe_unrepaired = staticmethod(carrying.observe_unrepaired)


@dataclass
class _State:
    """What is patched now."""

    active: bool = False
    options: Options = field(default_factory=Options)
    patches: dict[str, Patches] = field(default_factory=dict)
    done: dict[str, str] = field(default_factory=dict)
    listeners: list[events.Listener] = field(default_factory=list)
    flows: Flows | None = None
    sessions: SessionMetrics | None = None


_state = _State()
_lock = threading.RLock()
_hooked: set[str] = set()


def instrument(
    drivers: Iterable[str] | str | None = None,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    **given: object,
) -> None:
    """Patch every supported driver (or those named), in place; also those that are imported later.

    Args:
        drivers: names out of `supported.driver_names()`; all by default.
        tracer_provider: for spans; the global one by default.
        meter_provider: for metrics; the global one by default.
        **given: options over the environment's, see the README.

    Raises:
        ConfigurationError: an option or an environment variable cannot be used; nothing is patched.
    """
    given |= {} if drivers is None else {"drivers": drivers}
    with _lock:
        if _state.active:
            providers = {"tracer_provider": tracer_provider, "meter_provider": meter_provider}
            ignored = ", ".join([*(name for name, value in providers.items() if value is not None), *given]) or "none"
            logger.warning("instrument() was called again: nothing is patched twice; options ignored: %s", ignored)
            return
        if not _is_enabled():
            logger.info("%sENABLED is false: nothing is patched", options.PREFIX)
            return
        chosen = options.from_environment(os.environ).with_keywords(given, "instrument()")
        _start(chosen, tracer_provider, meter_provider)


def _is_enabled() -> bool:
    name = f"{options.PREFIX}ENABLED"
    return options.from_environment({name: os.environ.get(name, "")}).enabled


def _start(chosen: Options, tracer_provider: Any, meter_provider: Any) -> None:
    from instrumented_wrapper import telemetry, version
    from instrumented_wrapper.drivers.engine.survival import survey

    _state.active, _state.options = True, chosen
    _state.listeners = telemetry.listeners(version.VERSION, tracer_provider, meter_provider)
    _state.sessions = telemetry.session_metrics(version.VERSION, meter_provider)
    _state.sessions.count(survey)
    _state.flows = Flows(*telemetry.operations(version.VERSION, tracer_provider, meter_provider))
    for listener in _state.listeners:
        events.subscribe(listener)
    events.locate_with(telemetry.locator if chosen.traces else None)
    for module, entry in supported.entries().items():
        if entry.driver in ("", *chosen.drivers):
            _patch_when_imported(module)


def _patch_when_imported(module: str) -> None:
    if module not in _hooked:
        _hooked.add(module)
        wrapt.register_post_import_hook(partial(_imported, module), module)
    elif module in sys.modules:
        _imported(module, sys.modules[module])


def _imported(name: str, module: object) -> None:
    """Patch a module that was imported. This must not raise: the import belongs to the app."""
    entry = supported.entries()[name]
    with _lock:
        if not _state.active or name in _state.patches or entry.driver not in ("", *_state.options.drivers):
            return
        patches = _state.patches[name] = Patches()
        try:
            _state.done[name] = _patch(entry, module, patches)
        except Exception as error:  # noqa: BLE001 - the app's import goes on, whatever we cannot do
            patches.undo()
            _state.done[name] = f"left alone: {type(error).__name__}"
            logger.warning("%s could not be patched and is left alone: %s: %s", name, type(error).__name__, error)


def _patch(entry: supported.Entry, module: Any, patches: Patches) -> str:
    """Have the room of an entry patch its module, and return what was done."""
    chosen = _state.options
    if module.__name__ != entry.module:  # as PyMySQL's install_as_MySQLdb() does
        return f"left alone: {module.__name__} stands in its place"
    if isinstance(entry, supported.DriverEntry):
        if version := entry.too_old(module):
            oldest = ".".join(map(str, entry.oldest))
            text = "%s %s is not supported, %s or newer is: it is left alone"
            logger.warning(text, entry.project, version, oldest)
            return f"left alone: older than {oldest}"
        chosen = chosen if entry.has_server else replace(chosen, failover="off")
    if module.__name__ in supported.driver_rooms():
        know(import_module(entry.room).DRIVER)
    room = import_module(entry.room)
    if lacking := ", ".join(missing(getattr(room, "PARTS", {}))):
        logger.warning("%s lacks %s: it is left alone", entry.module, lacking)
        return f"left alone: it lacks {lacking}"
    return room.install(patches, chosen, _state.flows) or "patched"


def uninstrument() -> None:
    """Put back exactly what was there. Connections that are open go on working, unobserved."""
    with _lock:
        patched, listeners = _state.patches, _state.listeners
        _state.active = False
        _state.patches, _state.done, _state.listeners = {}, {}, []
        if _state.flows is not None:
            _state.flows.pools.forget()
        if _state.sessions is not None:
            _state.sessions.forget()
        for listener in listeners:
            events.unsubscribe(listener)
        events.locate_with(None)
        for patches in reversed(patched.values()):
            patches.undo()
        for name in patched:
            if (room := sys.modules.get(supported.driver_rooms().get(name, ""))) is not None:
                getattr(room, "uninstall", partial(drop_all, name))()


# --- asking a session -------------------------------------------------------------------------------------------


def session_state(connection: object) -> SessionState:
    """Return a snapshot of the settings that were fetched or changed; empty if there are none.

    Raises:
        TypeError: not a connection of a supported driver.
    """
    connection = unwrapped(connection)
    driver = driver_of(connection)
    session = driver.session_of(connection) if driver else None
    if driver is None or session is None:
        return SessionState({})
    driver.apply_reports(connection)
    return session.snapshot()


def reset_session(connection: object) -> bool:
    """Reset the settings that the app changed to their pristine values, now.

    Returns:
        False if the reset failed, which is logged: a pool should then discard the connection. True also if there is
        nothing to do: the connection was made while nothing was instrumented, or its driver is not supported.

    Raises:
        TypeError: not a sync connection of a supported driver.
    """
    flow = _reset(connection, asynchronous=False)
    return True if flow is None else runners.run(flow)


async def reset_session_async(connection: object) -> bool:
    """Do as `reset_session` does, on an async connection."""
    if (call := thread_of(connection)) is not None:
        return await call(reset_session, unwrapped(connection))  # type: ignore[no-any-return]
    flow = _reset(connection, asynchronous=True)
    return True if flow is None else await runners.run_async(flow)


def mark_pristine(connection: object) -> None:
    """Make the present state of the session its baseline.

    Has no effect on a connection that was made while nothing was instrumented, or of an unsupported driver.

    Raises:
        TypeError: not a sync connection of a supported driver.
    """
    _mark(connection, asynchronous=False)


async def mark_pristine_async(connection: object) -> None:
    """Do as `mark_pristine` does, on an async connection."""
    if (call := thread_of(connection)) is not None:
        await call(mark_pristine, unwrapped(connection))
        return
    _mark(connection, asynchronous=True)


def switch(connection: object, host: str | None = None, port: int | None = None) -> None:
    """Move `connection` to another server session, outside a transaction: configured first, then taken over.

    Args:
        connection: the app's connection; it stays the same object.
        host: where to go; by default the connection's own hosts are looked at.
        port: the port on that host, or on the present one.

    Raises:
        TypeError: not a sync connection of a supported driver.
        FailoverFailedError: nothing took over; the connection is as it was.
        FailoverSuccessError: it moved, but some state (`.not_restored`) could not be carried over.
    """
    driver, session = tracked_session(connection, asynchronous=False)
    connection = unwrapped(connection)
    driver.check_outside_transaction(connection, "switch()")
    runners.run(switching.before_switch(driver, connection, session))
    with driver.lock(connection):
        driver.check_outside_transaction(connection, "switch()")
        runners.run(_switch(driver, connection, session, host, port))


async def switch_async(connection: object, host: str | None = None, port: int | None = None) -> None:
    """Do as `switch` does, on an async connection."""
    if (call := thread_of(connection)) is not None:
        await call(switch, unwrapped(connection), host, port)
        return
    driver, session = tracked_session(connection, asynchronous=True)
    connection = unwrapped(connection)
    driver.check_outside_transaction(connection, "switch_async()")
    await runners.run_async(switching.before_switch(driver, connection, session))
    async with driver.lock(connection):
        driver.check_outside_transaction(connection, "switch_async()")
        await runners.run_async(_switch(driver, connection, session, host, port))


def _switch(driver: Driver, connection: object, session: Session, host: str | None, port: int | None) -> Flow[None]:
    named = host is not None or port is not None
    hosts: tuple[Address, ...] = ((host or driver.peer(connection).address, port),) if named else ()
    return switching.planned_switch(driver, connection, session, hosts)


def _reset(connection: object, asynchronous: bool) -> Flow[bool] | None:
    driver, session = known_session(connection, asynchronous)
    connection = unwrapped(connection)
    if driver is None or session is None:
        return None
    driver.check_outside_transaction(connection, "reset_session()")
    return resets.reset_on_request(driver, connection, session)


def _mark(connection: object, asynchronous: bool) -> None:
    driver, session = known_session(connection, asynchronous)
    connection = unwrapped(connection)
    if driver is not None and session is not None:
        session.mark_pristine(partial(driver.read, connection))


def report() -> _State:
    """Return what is patched now, for ``python -m instrumented_wrapper``."""
    return _state
