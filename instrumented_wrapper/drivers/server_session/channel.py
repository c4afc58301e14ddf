"""A connection of MySQL or MariaDB as far as it is talked with: what a driver gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from instrumented_wrapper.databases.mysql import questions
from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.plans import Assignment


class Channel(Protocol):
    """A connection, as far as it is talked with.

    Attributes:
        raises: what the driver raises; the first argument, or its `errno`, is the server's number.
        run: carries a flow out: returns its value where the driver blocks, else an awaitable.
        blocks: the driver's calls block, and are not awaited.
    """

    raises: tuple[type[Exception], ...]
    run: Callable[[Flow[Any]], Any]
    blocks: bool

    @property
    def record(self) -> Any:
        """Its session."""

    def dialect(self) -> questions.Dialect:
        """Return what the server calls things."""

    def send(self, texts: Sequence[str]) -> Any:
        """Send texts, one statement each, in one round trip where the driver can. May wait.

        Returns the `Rows` of each.
        """

    def known(self, name: str) -> str | None:
        """Return a setting that the client knows without asking: ``autocommit``."""

    def before_assign(self, assignments: Sequence[Assignment], back: bool) -> None:
        """The server is about to be given settings, of which the driver may keep some itself."""

    def reports_later(self) -> bool:
        """Return True if the last answer had rows: MySQL reports with a later answer what they changed."""

    def tracks(self) -> bool:
        """Tell whether the server reports, with its answers, all that changes."""

    def fetch_reports(self) -> Any:
        """Have the server report what it has not reported yet. May wait."""

    def restored(self, settings: Sequence[str]) -> None:
        """Settings are what connecting gave them: so is what the driver keeps of them."""

    def is_lost(self, error: BaseException) -> bool:
        """Tell whether an error says that the physical connection has ended."""

    def reset(self, without_database: bool) -> Any:
        """Reset the whole session and redo what connecting did (COM_RESET_CONNECTION). May wait.

        Returns False if that cannot be done.

        `without_database`: it has none afterwards, which only COM_CHANGE_USER does.
        """
