"""The AWS Advanced Python Driver over each driver that it supports, at a pair that is repaired after what broke it."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from aws_advanced_python_wrapper.aio.session_state import AsyncSessionStateTransferHandlers
from aws_advanced_python_wrapper.states.session_state_service import SessionStateTransferHandlers

from tests.drivers.aws.app import KINDS, App

_RUNNING = {"postgresql": "running_cluster", "mariadb": "running_mariadb", "mysql": "running_mysql"}


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function, and close what its app opened before the loop ends."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or "app" not in pyfuncitem.funcargs:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(_closed_after(functools.partial(pyfuncitem.obj, **arguments), arguments["app"]))
    return True


async def _closed_after(test: Any, app: App) -> None:
    try:
        await test()
    finally:
        await app.close()


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> App:
    pair = request.getfixturevalue(_RUNNING[request.param.rpartition(" ")[2]])
    pair.restore()
    return App(request.param, pair, monkeypatch)


@pytest.fixture(autouse=True)
def no_handlers_of_the_driver() -> Iterator[None]:
    yield
    SessionStateTransferHandlers.clear_reset_session_state_on_close_func()
    SessionStateTransferHandlers.reset_transfer_session_state_on_switch_func()
    AsyncSessionStateTransferHandlers.clear_reset_session_state_on_close_func()
    AsyncSessionStateTransferHandlers.clear_transfer_session_state_on_switch_func()
