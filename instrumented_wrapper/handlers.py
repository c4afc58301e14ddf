"""The app's own reset and transfer functions: process-wide, one of each.

The lifecycle decides when they are called.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from instrumented_wrapper.snapshot import SettingState

Handler = Callable[[Mapping[str, SettingState], Any], bool | Awaitable[bool | None] | None]


class Logical(Protocol):
    """The app's connection in a package over a driver, which replaces the driver's connections beneath it."""

    @property
    def repairs_losses(self) -> bool:
        """Return True if the package replaces a connection that is lost."""

    def is_current(self, session: Any) -> bool:
        """Return True if the app uses the connection of a session now; the package may keep others."""

    def keep(self, session: Any) -> None:
        """Keep what a session has: its connection is about to be reset and closed, by the app or by the package."""

    def lose(self, driver: Any, connection: object, session: Any, loss: Any) -> None:
        """Keep what is known of a loss: the package is about to see it."""

    def reset_handler(self) -> Handler | None:
        """Return the package's own reset function, if any."""

    def transfer_handler(self) -> Handler | None:
        """Return the package's own transfer function, if any."""


class SessionStateTransferHandlers:
    """Where an app puts its own logic for a reset and for a transfer.

    A handler is ``func(session_state, connection) -> bool``. True: it did the work, the built-in logic is skipped.
    Anything false: the built-in logic runs after it. On async connections an awaitable result is awaited. Setting one
    replaces the last.
    """

    _reset: Handler | None = None
    _transfer: Handler | None = None

    @staticmethod
    def set_reset_session_state_on_close_func(func: Handler) -> None:
        """Call `func` before each close and each return to a pool, with the connection that is about to go."""
        SessionStateTransferHandlers._reset = _callable(func)

    @staticmethod
    def clear_reset_session_state_on_close_func() -> None:
        """Call nothing on a reset any more."""
        SessionStateTransferHandlers._reset = None

    @staticmethod
    def set_transfer_session_state_on_switch_func(func: Handler) -> None:
        """Call `func` at each switch, with the new connection, before the app can see it."""
        SessionStateTransferHandlers._transfer = _callable(func)

    @staticmethod
    def reset_transfer_session_state_on_switch_func() -> None:
        """Call nothing on a transfer any more."""
        SessionStateTransferHandlers._transfer = None


def _callable(func: Handler) -> Handler:
    wanted = "a handler is called as func(session_state, connection)"
    if not callable(func):
        raise TypeError(f"{wanted}: {type(func).__name__} is not callable")
    try:
        inspect.signature(func).bind(None, None)
    except ValueError:  # written in C, without a signature
        return func
    except TypeError as error:
        raise TypeError(f"{wanted}: {error}") from None
    return func


def reset_handler(logical: Logical | None = None) -> Handler | None:
    """Return the app's reset function, if any; that of a package over the driver is called after it."""
    return _one_of(SessionStateTransferHandlers._reset, None if logical is None else logical.reset_handler())


def transfer_handler(logical: Logical | None = None) -> Handler | None:
    """Return the app's transfer function, if any; that of a package over the driver is called after it."""
    return _one_of(SessionStateTransferHandlers._transfer, None if logical is None else logical.transfer_handler())


def _one_of(first: Handler | None, second: Handler | None) -> Handler | None:
    """Return a function that calls the second where the first has not handled it."""
    if first is None or second is None:
        return first or second

    def both(session_state: Mapping[str, SettingState], connection: Any) -> Any:
        handled = first(session_state, connection)
        if inspect.isawaitable(handled):
            return _then(handled, second, session_state, connection)
        return handled or second(session_state, connection)

    return both


async def _then(first: Awaitable[bool | None], second: Handler, *given: Any) -> bool | None:
    if handled := await first:
        return handled
    result = second(*given)
    return await result if inspect.isawaitable(result) else result
