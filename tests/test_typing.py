"""The public API as a user's type checker sees it: mypy --strict over an app that uses all of it, well and badly."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

import instrumented_wrapper

WELL = '''
"""An app."""

from collections.abc import Awaitable, Mapping
from typing import Any

import instrumented_wrapper
from instrumented_wrapper import (
    ConfigurationError,
    FailoverError,
    FailoverFailedError,
    FailoverSuccessError,
    SessionState,
    SessionStateTransferHandlers,
    SettingState,
    TransactionResolutionUnknownError,
    instrument,
    mark_pristine,
    mark_pristine_async,
    reset_session,
    reset_session_async,
    session_state,
    switch,
    switch_async,
    uninstrument,
    verify_session,
    verify_session_async,
)
from instrumented_wrapper.states import SessionStateTransferHandlers as Handlers
from opentelemetry.metrics import get_meter_provider
from opentelemetry.trace import get_tracer_provider


def start() -> None:
    instrument()
    instrument("psycopg")
    instrument(["psycopg", "sqlite3"], failover="on", failover_hosts=["a:1"], traces=False)
    instrument(tracer_provider=get_tracer_provider(), meter_provider=get_meter_provider(), failover_timeout=3.0)
    uninstrument()


def use(connection: Any) -> str:
    state: Mapping[str, SettingState] = session_state(connection)
    whole: SessionState = session_state(connection)
    one: SettingState = state["read_only"]
    pristine: bool = one.is_pristine
    for name, setting in whole.items():
        print(name.upper(), setting.value, setting.pristine_value, len(whole), str(setting))
    reset_session(connection)
    mark_pristine(connection)
    switch(connection)
    switch(connection, "host")
    switch(connection, host="host", port=5432)
    different: dict[str, tuple[Any, Any]] = verify_session(connection)
    print(different)
    return f"{one} {pristine}"


async def use_async(connection: Any) -> None:
    await reset_session_async(connection)
    await mark_pristine_async(connection)
    await switch_async(connection, host="host", port=5432)
    different: dict[str, tuple[Any, Any]] = await verify_session_async(connection)
    print(different)


def meet(connection: Any) -> None:
    try:
        connection.execute("SELECT 1")
    except TransactionResolutionUnknownError as error:
        print(error.transaction.upper())
    except (FailoverSuccessError, FailoverFailedError) as error:
        again: bool = not error.may_have_run
        seconds: float = error.blocked_seconds
        names: tuple[str, ...] = error.not_restored
        if error.server is not None:
            host, port = error.server
            print(host.upper(), again, seconds, names, port)
    except FailoverError as error:
        raise RuntimeError(error.transaction) from error
    except ConfigurationError as error:
        value_error: ValueError = error
        print(error.name, error.value, error.accepted, value_error)


def handler(state: Mapping[str, SettingState], connection: Any) -> bool:
    return state["read_only"].is_pristine


def handler_without_answer(state: Mapping[str, SettingState], connection: Any) -> None:
    connection.rollback()


async def async_handler(state: Mapping[str, SettingState], connection: Any) -> bool:
    await connection.rollback()
    return True


async def async_handler_without_answer(state: Mapping[str, SettingState], connection: Any) -> None:
    await connection.rollback()


def register() -> None:
    for function in (handler, handler_without_answer, async_handler, async_handler_without_answer):
        print(function)
    SessionStateTransferHandlers.set_reset_session_state_on_close_func(handler)
    SessionStateTransferHandlers.set_reset_session_state_on_close_func(handler_without_answer)
    SessionStateTransferHandlers.set_reset_session_state_on_close_func(async_handler)
    Handlers.set_transfer_session_state_on_switch_func(async_handler_without_answer)
    Handlers.set_transfer_session_state_on_switch_func(lambda state, connection: True)
    Handlers.clear_reset_session_state_on_close_func()
    Handlers.reset_transfer_session_state_on_switch_func()


version: str = instrumented_wrapper.__version__
names: list[str] = instrumented_wrapper.__all__
'''

# Each line is wrong, and has the kind of error that a checker reports.
BADLY = '''
"""An app with mistakes."""

from typing import Any

import instrumented_wrapper as iw


def one_argument(state: Any) -> bool:
    return bool(state)


def use(connection: Any) -> None:
    iw.instrument(3)  # arg-type
    iw.instrument(tracer_provider="global")  # arg-type
    iw.session_state()  # call-arg
    iw.session_state(connection)["read_only"] = 1  # index
    iw.session_state(connection)["read_only"].value = 1  # misc
    iw.switch(connection, port="5432")  # arg-type
    iw.FailoverError("x").transaction = 3  # assignment
    iw.SessionStateTransferHandlers.set_reset_session_state_on_close_func("handler")  # arg-type
    iw.SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(one_argument)  # arg-type
    iw.no_such_name  # attr-defined
    number: int = iw.session_state(connection)  # assignment
    answer = iw.switch(connection)  # func-returns-value
    print(number, answer)
'''


@pytest.fixture(scope="module")
def check(pytestconfig):
    """Run mypy as a user would, in one cache for all."""
    api = pytest.importorskip("mypy.api", reason="mypy is not installed: `pip install .[check]`")
    cache = pytestconfig.cache.mkdir("mypy")

    def run(path: Path) -> list[str]:
        options = ["--strict", "--config-file=", f"--cache-dir={cache}", "--no-error-summary", "--hide-error-context"]
        out, err, _ = api.run([*options, str(path)])
        assert not err
        return [line for line in out.splitlines() if ": note: " not in line]

    return run


def test_good_use_has_no_error(check, tmp_path):
    app = tmp_path / "well.py"
    app.write_text(WELL.lstrip())
    assert check(app) == []


def test_mistakes_are_found(check, tmp_path):
    app = tmp_path / "badly.py"
    app.write_text(BADLY.lstrip())
    lines = app.read_text().splitlines()
    expected = {(number, line.rpartition("# ")[2]) for number, line in enumerate(lines, 1) if "  # " in line}
    found = [re.fullmatch(r".*badly\.py:(\d+): error: .*\[([\w-]+)\]", line) for line in check(app)]
    assert all(found)
    assert {(int(match[1]), match[2]) for match in found if match} == expected


def test_it_says_that_it_is_typed():
    assert files(instrumented_wrapper).joinpath("py.typed").is_file()


def test_every_public_name_is_there_and_tried():
    assert all(hasattr(instrumented_wrapper, name) for name in instrumented_wrapper.__all__)
    assert sorted(instrumented_wrapper.__all__) == list(instrumented_wrapper.__all__)
    assert [name for name in instrumented_wrapper.__all__ if name not in WELL] == []
