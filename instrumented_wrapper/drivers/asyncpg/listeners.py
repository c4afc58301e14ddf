"""Channels of ``Connection.add_listener()``: asyncpg keeps them, a switch listens again, a reset may end them.

They are no state that a switch loses, so the record of the session does not list them as such. With
``reset_scope=session`` a reset ends them like those of a LISTEN by SQL, on the server and in asyncpg.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from instrumented_wrapper.databases.postgresql.state import LISTEN
from instrumented_wrapper.drivers.engine.async_record import AsyncRecord
from instrumented_wrapper.drivers.registry import KEY

Method = Callable[..., Any]


class ListeningRecord(AsyncRecord):
    """The session behind one connection of asyncpg.

    Attributes:
        of_baseline: listeners were added before the app got the connection: no reset ends them.
    """

    of_baseline = False

    def to_clear(self) -> tuple[str, ...]:
        """Return the names of what a reset has to clear, `LISTEN` if the app has added a listener."""
        found = super().to_clear()
        if self.options.reset_scope != "session" or LISTEN in found or self.of_baseline:
            return found
        return (*found, LISTEN) if self._listens() else found

    def refresh_changed(self) -> None:
        """Do as any session does; listeners are a change where a reset ends them."""
        super().refresh_changed()
        self.changed = self.changed or bool(self.to_clear())

    def _listens(self) -> bool:
        connection = self.connection()
        return connection is not None and bool(connection._listeners)


def listening(original: Method) -> Method:
    """Wrap ``add_listener`` or ``remove_listener``: what the session has to clear is another now."""

    @functools.wraps(original)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = await original(self, *args, **kwargs)
        record = getattr(self, KEY, None)
        if isinstance(record, ListeningRecord):
            record.of_baseline = record.of_baseline or record.configuring or record.held
            record.refresh_changed()
        return result

    return method
