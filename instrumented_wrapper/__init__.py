"""Look after the session behind each database connection of an app, and record what happens to it with OpenTelemetry.

This module exports the public names; `instrument` patches the drivers.
"""

from instrumented_wrapper.errors import (
    ConfigurationError,
    FailoverError,
    FailoverFailedError,
    FailoverSuccessError,
    TransactionResolutionUnknownError,
)
from instrumented_wrapper.handlers import SessionStateTransferHandlers
from instrumented_wrapper.instrument import (
    instrument,
    mark_pristine,
    mark_pristine_async,
    reset_session,
    reset_session_async,
    session_state,
    switch,
    switch_async,
    uninstrument,
)
from instrumented_wrapper.snapshot import SessionState, SettingState
from instrumented_wrapper.verification import verify_session, verify_session_async
from instrumented_wrapper.version import VERSION as __version__

__all__ = [
    "ConfigurationError",
    "FailoverError",
    "FailoverFailedError",
    "FailoverSuccessError",
    "SessionState",
    "SessionStateTransferHandlers",
    "SettingState",
    "TransactionResolutionUnknownError",
    "__version__",
    "instrument",
    "mark_pristine",
    "mark_pristine_async",
    "reset_session",
    "reset_session_async",
    "session_state",
    "switch",
    "switch_async",
    "uninstrument",
    "verify_session",
    "verify_session_async",
]
