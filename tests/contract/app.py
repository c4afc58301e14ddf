"""A connection of an app's as tests on sessions use it: what it is asked, how it is moved, reset and lost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from instrumented_wrapper import FailoverSuccessError, session_state

from .driver import DriverUnderTest


@dataclass
class App:
    """An app with one connection. Rows are tuples, and text is text, also where the driver has bytes for it."""

    driver: DriverUnderTest
    site: Any
    connection: Any

    def ask(self, text: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement, or several; return the rows of the first."""
        if parameters:
            rows = self.driver.execute_with(self.driver.cursor(self.connection), text, parameters)
        else:
            rows = self.driver.execute(self.connection, text)
        return [tuple(map(_text, row)) for row in rows]

    def number(self) -> int:
        """Return the server's number of the session."""
        ((number,),) = self.ask(self.site.session_id)
        return int(number)

    def lose(self) -> None:
        """End the session behind the app's back."""
        self.site.end_sessions(only=self.number())

    def after_loss(self) -> tuple[str, ...]:
        """Lose the session after a plain statement; return what the next one says is missing, and accept that."""
        self.ask("SELECT 1")
        self.lose()
        try:
            self.ask("SELECT 1")
        except FailoverSuccessError as error:
            self.mark_pristine()
            return error.not_restored
        return ()

    def switch(self, *address: Any) -> None:
        self.driver.verb("switch")(self.connection, *address)

    def reset(self) -> bool:
        return bool(self.driver.verb("reset_session")(self.connection))

    def mark_pristine(self) -> None:
        self.driver.verb("mark_pristine")(self.connection)

    def state(self) -> Mapping[str, Any]:
        return session_state(self.connection)

    def commit(self) -> None:
        self.driver.commit(self.connection)

    def rollback(self) -> None:
        self.driver.rollback(self.connection)


def _text(cell: Any) -> Any:
    return cell.decode() if isinstance(cell, bytes) else cell
