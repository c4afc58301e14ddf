"""DBUtils' steady connections, which replace themselves, and ``PersistentDB``, which has one for each thread.

``setsession`` is the baseline. DBUtils runs a statement again where it takes an error for the end of the connection: a
connection that was moved has not ended.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from dbutils.steady_db import SteadyDBConnection

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.registry import configuring
from instrumented_wrapper.errors import FailoverError, FailoverFailedError
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches, around
from instrumented_wrapper.pools.request_end import end_use

Method = Callable[..., Any]
PARTS: Final = {
    SteadyDBConnection: "_create _close _fatal_check close ._con ._closed ._closeable".split()
}  # from 3.2 on


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch steady connections."""
    patches.close_over(SteadyDBConnection, "_create", _creating)
    patches.close_over(SteadyDBConnection, "close", functools.partial(_closing, flows))
    patches.close_over(SteadyDBConnection, "_fatal_check", _judging)


@around
def _creating(connection: object) -> AbstractContextManager[None]:
    """``_create``: it also executes ``setsession``."""
    return configuring()


def _judging(original: Method) -> Method:
    """``_fatal_check``: a connection that was moved is usable, and what may have run is not run again."""

    @functools.wraps(original)
    def _fatal_check(self: Any, error: BaseException) -> Any:
        moved = isinstance(error, FailoverError) and not isinstance(error, FailoverFailedError)
        return not moved and original(self, error)

    return _fatal_check


def _closing(flows: Flows, original: Method) -> Method:
    """``close`` of a steady connection; a persistent one stays open."""

    @functools.wraps(original)
    def close(self: Any) -> None:
        original(self)
        if not (self._closeable or self._closed):
            end_use(flows, self._con, self._close)

    return close
