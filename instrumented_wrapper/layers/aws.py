"""The AWS Advanced Python Driver: its plugin service replaces the driver's connection, and the session follows.

The driver finds the server (its failover plugins, its read/write splitting); this package looks after the session.
Its own transfer of autocommit and read_only is left out where the whole session was carried over.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final
from weakref import ref

from aws_advanced_python_wrapper.plugin_service import PluginManager, PluginServiceImpl
from aws_advanced_python_wrapper.states import session_state_service

from instrumented_wrapper.drivers import Flow, Flows
from instrumented_wrapper.handlers import Handler
from instrumented_wrapper.layers.logical import LogicalConnection, asking, opening
from instrumented_wrapper.options import CONNECT, SEED_KEYWORDS, Options, take_keywords
from instrumented_wrapper.patching import Patches, around
from instrumented_wrapper.runners import as_flow
from instrumented_wrapper.self_test import missing

logger = logging.getLogger("instrumented_wrapper")
Method = Callable[..., Any]
_KEY: Final = "_instrumented_wrapper"
_FAILOVER: Final = "Failover"  # is in the names of the classes of all its failover plugins
_State = session_state_service.SessionStateServiceImpl
_Handlers = session_state_service.SessionStateTransferHandlers
ASKS: Final = ("get_host_role", "identify_connection", "fill_aliases")
_PARTS: Final[dict[Any, list[str]]] = {
    PluginServiceImpl: [
        "set_current_connection",
        "current_connection",
        "session_state_service",
        "props",
        "._container",
        "update_dialect",
        *ASKS,
    ],
    PluginManager: ["execute", "._container", "._plugins"],
    _State: ["apply_current_session_state", "apply_pristine_session_state", "._session_state"],
    _Handlers: ["get_reset_session_state_on_close_func", "get_transfer_session_state_on_switch_func"],
}


def install(patches: Patches, options: Options, flows: Flows) -> str:
    """Patch the plugin service; return a note for the user."""
    for name in ("connect", "force_connect"):
        patches.close_over(PluginManager, name, around(opened))
    if lacking := ", ".join(missing(_PARTS)):
        logger.warning("aws_advanced_python_wrapper lacks %s: sessions over it are only observed", lacking)
        return f"only observed: it lacks {lacking}"
    logical = partial(logical_of, options, flows, _Handlers)
    patches.close_over(PluginServiceImpl, "set_current_connection", replacing(logical))
    for name in ("update_dialect", *ASKS):
        patches.close_over(PluginServiceImpl, name, around(asked))
    for name in ("apply_current_session_state", "apply_pristine_session_state"):
        patches.close_over(_State, name, unless_carried)
    patches.close_over(PluginManager, "execute", _executing)
    return "patched"


def opened(*args: object, **kwargs: object) -> AbstractContextManager[None]:
    """Return the context in which the driver opens a connection."""
    return opening()


def asked(service: Any, connection: object = None, *args: object, **kwargs: object) -> AbstractContextManager[None]:
    """Return the context in which a plugin service queries a connection, its current one by default."""
    return asking(service.current_connection if connection is None else connection)


def logical_of(options: Options, flows: Flows, handlers: Any, service: Any) -> LogicalConnection:
    """Return the logical connection of a plugin service; each service belongs to one connection of the app."""
    known = known_logical(service)
    if known is None:
        given = dict(service.props)
        ours = take_keywords({name: given[name] for name in (*SEED_KEYWORDS, "instrumented_wrapper") if name in given})
        chosen = options.with_keywords(ours, CONNECT) if ours else options
        state = ref(service.session_state_service)
        known = LogicalConnection(
            chosen,
            flows,
            lambda: _called_with(state, handlers.get_reset_session_state_on_close_func()),
            lambda: _called_with(state, handlers.get_transfer_session_state_on_switch_func()),
            any(_FAILOVER in type(plugin).__name__ for plugin in plugins_of(service)),
        )
        setattr(service, _KEY, known)
    return known


def _called_with(state: ref[Any], func: Callable[..., Any] | None) -> Handler | None:
    """Call a handler of the driver's own class with the driver's own session state."""
    if func is None:
        return None
    return lambda session_state, connection: func(getattr(state(), "_session_state", None), connection)


def replacing(logical_of_service: Callable[[Any], LogicalConnection]) -> Callable[[Method], Method]:
    """``set_current_connection``: the session is carried over first, so that it can still be refused."""

    def steps(original: Method, self: Any, connection: Any, host_info: Any) -> Flow[Any]:
        logical = logical_of_service(self)
        yield from logical.arrive(self.current_connection, connection)
        try:
            return (yield partial(original, self, connection, host_info))
        finally:
            logical.arriving = False

    return as_flow(steps)


def plugins_of(service: Any) -> list[Any]:
    """Return the plugins of a plugin service, of either package."""
    container = getattr(service, "_container", None)
    return list((service if container is None else container).plugin_manager._plugins)


def known_logical(service: Any) -> LogicalConnection | None:
    """Return the logical connection of a plugin service, or None if its connection was made while uninstrumented."""
    known: LogicalConnection | None = vars(service).get(_KEY)
    return known


def is_carried(service: Any) -> bool:
    """Return True while a plugin service replaces its connection, and the session was carried over."""
    logical = known_logical(service)
    return logical is not None and logical.arriving


def unless_carried(original: Method) -> Method:
    """``apply_current_session_state`` and its twin: a close resets the old connection."""

    def steps(original: Method, self: Any, connection: Any) -> Flow[Any]:
        if is_carried(self._plugin_service):
            return None
        return (yield partial(original, self, connection))

    return as_flow(steps)(original)


def _executing(original: Method) -> Method:
    """``execute``: a loss that no plugin has repaired is reported."""

    @functools.wraps(original)
    def execute(self: Any, *args: object, **kwargs: object) -> Any:
        try:
            return original(self, *args, **kwargs)
        except BaseException:
            give_up(self._container.plugin_service)
            raise

    return execute


def give_up(service: Any) -> None:
    """Report a loss that no plugin has repaired."""
    if (logical := known_logical(service)) is not None:
        logical.give_up(service.current_connection)
