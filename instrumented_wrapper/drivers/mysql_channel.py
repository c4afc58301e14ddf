"""A connection of MySQL or MariaDB as `server_session` uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import ref

from instrumented_wrapper.databases.mysql import questions
from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.plans import Assignment

if TYPE_CHECKING:
    from instrumented_wrapper.drivers.for_mysql import ForMySQL


class Channel:
    """One connection, whose driver's adapter carries everything out: see the methods of `ForMySQL`.

    Attributes:
        raises: what the driver raises; the first argument, or its `errno`, is the server's number.
        run: carries a flow out: returns its value where the driver blocks, else an awaitable.
        blocks: the driver's calls block, and are not awaited.
    """

    def __init__(self, adapter: ForMySQL, record: Record) -> None:
        self._adapter, self._record = adapter, ref(record)  # which has the channel: no cycle for the garbage collector
        self.raises, self.run, self.blocks = adapter.raises, adapter.run, adapter.blocks

    @property
    def record(self) -> Any:
        """The session of the connection."""
        return self._record()

    def dialect(self) -> questions.Dialect:
        return questions.dialect_of(self._adapter.version(self.record.connection()))

    def send(self, texts: Sequence[str]) -> Any:
        """Send texts; return the rows of each. May wait."""
        return self._adapter.send(self.record.connection(), texts)

    def known(self, name: str) -> str | None:
        return self._adapter.known(self.record.connection(), self.record, name)

    def before_assign(self, assignments: Sequence[Assignment], back: bool) -> None:
        self._adapter.before_assign(self.record.connection(), assignments, back)

    def reports_later(self) -> bool:
        return self._adapter.reports_later(self.record.connection())

    def tracks(self) -> bool:
        return self._adapter.tracks(self.record.connection())

    def fetch_reports(self) -> Any:
        return self._adapter.fetch_reports(self.record.connection())

    def restored(self, settings: Sequence[str]) -> None:
        self._adapter.restored(self.record.connection(), self.record, settings)

    def is_lost(self, error: BaseException) -> bool:
        return self._adapter.is_lost(self.record.connection(), error)

    def reset(self, without_database: bool) -> Any:
        """Reset the whole session. May wait."""
        return self._adapter.reset(self.record.connection(), self.record, without_database)
