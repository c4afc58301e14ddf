"""Report what a session leaves to the next user of its connection: an event for each return, a warning for each kind.

Knows no driver, no SQL and no OpenTelemetry. A change is reported once, at the return that follows it.
"""

from __future__ import annotations

import logging
from typing import Final

from instrumented_wrapper.drivers import Driver, Flow
from instrumented_wrapper.events import Leak, observe
from instrumented_wrapper.lifecycle import where
from instrumented_wrapper.resets import to_reset
from instrumented_wrapper.session import Session

_WARNED: Final = 1000  # kinds: an app may have any number of names of its own
_LEFT: Final = (
    "a connection of %s goes back to %s with changed session state, which its next user inherits: %s. "
    "reset_on_return=on resets it; SET LOCAL, or a setting made when the connection is opened, needs no reset"
)
logger = logging.getLogger("instrumented_wrapper")


class Leaks:
    """Reports of one run of `instrument()`: each kind (driver, pool, setting) is warned of once."""

    def __init__(self) -> None:
        self._warned: set[tuple[str, str, str]] = set()

    def report(self, driver: Driver, connection: object, session: Session, pool: str) -> Flow[None]:
        """Report what was changed since the last return and is not pristine. Sends something only in doubt."""
        changed = yield from to_reset(driver, connection, session)
        names = session.unreported.take(changed, session.on_server.doubts, session.to_clear())
        if not names:
            return
        with observe(
            Leak(**where(driver, connection, session), settings=names, pool=pool, origins=session.origins(names))
        ):
            self._warn(driver.name, pool, names)

    def _warn(self, driver: str, pool: str, names: tuple[str, ...]) -> None:
        new = [name for name in names if (driver, pool, name) not in self._warned]
        if new and len(self._warned) < _WARNED:
            self._warned.update((driver, pool, name) for name in new)
            logger.warning(_LEFT, driver, pool, ", ".join(new))
