"""The package `aio` of the AWS Advanced Python Driver: what `aws` does, for connections of asyncio's drivers."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from aws_advanced_python_wrapper.aio import plugin_manager, plugin_service, session_state
from aws_advanced_python_wrapper.aio.driver_dialect.aiomysql import AsyncAiomysqlDriverDialect
from aws_advanced_python_wrapper.aio.driver_dialect.base import AsyncDriverDialect
from aws_advanced_python_wrapper.aio.driver_dialect.psycopg import AsyncPsycopgDriverDialect
from aws_advanced_python_wrapper.pep249_methods import DbApiMethod

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.layers.aws import (
    ASKS,
    asked,
    give_up,
    is_carried,
    known_logical,
    logical_of,
    opened,
    replacing,
    unless_carried,
)
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches, around
from instrumented_wrapper.self_test import missing

logger = logging.getLogger("instrumented_wrapper")
Method = Callable[..., Any]
_Service = plugin_service.AsyncPluginServiceImpl
_Manager = plugin_manager.AsyncPluginManager
_Handlers = session_state.AsyncSessionStateTransferHandlers
_PARTS: Final[dict[Any, list[str]]] = {
    _Service: [
        "set_current_connection",
        "_apply_switch_session_state",
        "._current_connection",
        "._current_host_info",
        "current_connection",
        "session_state_service",
        "props",
        "plugin_manager",
        "update_database_dialect",
        *ASKS,
    ],
    _Manager: ["execute", "._plugin_service", "._plugins"],
    session_state.AsyncSessionStateServiceImpl: ["apply_pristine_session_state", "._session_state"],
    _Handlers: ["get_reset_session_state_on_close_func", "get_transfer_session_state_on_switch_func"],
}


def install(patches: Patches, options: Options, flows: Flows) -> str:
    """Patch the plugin service; return a note for the user."""
    for kind in (AsyncDriverDialect, AsyncPsycopgDriverDialect, AsyncAiomysqlDriverDialect):
        if "execute_connect" in vars(kind):
            patches.close_over(kind, "execute_connect", around(opened))  # the monitors connect past the manager
    for name in ("connect", "force_connect"):
        patches.close_over(_Manager, name, around(opened))
    if lacking := ", ".join(missing(_PARTS)):
        logger.warning("aws_advanced_python_wrapper.aio lacks %s: sessions over it are only observed", lacking)
        return f"only observed: it lacks {lacking}"
    patches.close_over(_Service, "set_current_connection", replacing(partial(logical_of, options, flows, _Handlers)))
    patches.close_over(_Service, "_apply_switch_session_state", _taking)
    for name in ("update_database_dialect", *ASKS):
        patches.close_over(_Service, name, around(asked))
    patches.close_over(session_state.AsyncSessionStateServiceImpl, "apply_pristine_session_state", unless_carried)
    patches.close_over(_Manager, "execute", partial(_executing, flows))
    return "patched"


def _taking(original: Method) -> Method:
    """``_apply_switch_session_state``: it also makes the connection the current one."""

    async def _apply_switch_session_state(self: Any, prev: Any, connection: Any, host_info: Any) -> None:
        if is_carried(self):
            self._current_connection, self._current_host_info = connection, host_info
        else:
            await original(self, prev, connection, host_info)

    return functools.wraps(original)(_apply_switch_session_state)


def _executing(flows: Flows, original: Method) -> Method:
    """``execute``: a loss that no plugin has repaired is reported; a close resets first where the driver cannot."""

    @functools.wraps(original)
    async def execute(self: Any, target: object, method: Any, *args: object, **kwargs: object) -> Any:
        service = self._plugin_service
        try:
            if method is DbApiMethod.CONNECTION_CLOSE and (logical := known_logical(service)) is not None:
                await flows.run_async(logical.reset_before_close(service.current_connection))
            return await original(self, target, method, *args, **kwargs)
        except BaseException:
            give_up(service)
            raise

    return execute
