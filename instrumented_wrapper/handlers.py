"""The app's own reset and transfer functions: process-wide, one of each.

The lifecycle decides when they are called.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from instrumented_wrapper.snapshot import SettingState

Handler = Callable[[Mapping[str, SettingState], Any], bool | Awaitable[bool | None] | None]


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


def reset_handler() -> Handler | None:
    """Return the app's reset function, if any."""
    return SessionStateTransferHandlers._reset


def transfer_handler() -> Handler | None:
    """Return the app's transfer function, if any."""
    return SessionStateTransferHandlers._transfer
