"""What the drivers for MySQL and MariaDB have in common, as seen from the engine. Knows none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from instrumented_wrapper import runners
from instrumented_wrapper.databases import mysql
from instrumented_wrapper.databases.mysql import questions
from instrumented_wrapper.databases.mysql.connect_arguments import requested_site
from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.drivers.engine import connect_search
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter, Room
from instrumented_wrapper.drivers.engine.race import WrongRole
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.engine.search import ANY, PRIMARY, STANDBY
from instrumented_wrapper.drivers.mysql_channel import Channel
from instrumented_wrapper.drivers.server_session import Rows, SettingsClient
from instrumented_wrapper.drivers.server_session.mysql import MySQLSettings
from instrumented_wrapper.events import ServerAddress
from instrumented_wrapper.operations import Site
from instrumented_wrapper.options import Options
from instrumented_wrapper.plans import Assignment
from instrumented_wrapper.statement import SET, Effects, Step

_SPELLED: Final = {"user": "username", "database": "db", "password": "passwd"}  # other names of arguments
# In `Record.driver_state`: TLS failed with the connection's own context; the files of certificates may be newer.
STALE: Final = "stale context"


def code_of(error: BaseException) -> int:
    """Return the number of an error of the server or the client library, 0 where it has none."""
    number = getattr(error, "errno", None)
    if not isinstance(number, int):
        number = error.args[0] if error.args else 0
    return number if isinstance(number, int) else 0


def cell_text(cell: object) -> str | None:
    """Return a cell; under ``character_set_results=binary`` the drivers take each for bytes."""
    return None if cell is None else cell.decode() if isinstance(cell, (bytes, bytearray)) else str(cell)


def asked_of_mysql(given: Mapping[str, Any], options: Options) -> connect_search.Request:
    """Return what a connect has asked for; of the password only a number is kept."""
    by = {name: given.get(name) or given.get(other) for name, other in _SPELLED.items()}
    login = (by["user"], by["database"], hash(str(by["password"])))
    return connect_search.Request(requested_site(given), options, login)


def sets_autocommit(record: Record, value: Any = True, *args: Any, **kwargs: Any) -> Effects | None:
    """Return what setting autocommit by a method does: on, it commits what is open."""
    return mysql.scan(f"SET autocommit={int(bool(value))}")


def selects(record: Record, database: Any, *args: Any, **kwargs: Any) -> Effects:
    """Return what choosing a database by a method does."""
    name = database.decode(errors="replace") if isinstance(database, bytes) else str(database)
    return Effects(steps=(Step(SET, "database", name),))


def sets_names(record: Record, charset: Any = None, collation: Any = None, *args: Any, **kwargs: Any) -> Effects | None:
    """Return what choosing a character set by a method does."""
    return mysql.scan(f"SET NAMES {charset}" + (f" COLLATE {collation}" if collation else ""))


def calls_procedure(record: Record, name: str, args: Sequence[Any] = ()) -> Effects | None:
    """Return what ``callproc`` does: it leaves the procedure's parameters in user variables."""
    inside = str(name).replace("`", "``")
    parameters = ", ".join(f"@`_{inside}_{number}`" for number in range(len(args)))
    return does_as(record, f"CALL `{inside}`({parameters})")


def does_as(record: Record, text: str) -> Effects | None:
    """Return what a method does that sends a text of the driver's own making."""
    effects = mysql.scan(text)
    return None if effects is None else record.settings_client.with_functions(effects)


class ForMySQL(DriverAdapter, Protocol):
    """The part of a `DriverAdapter` that is the same for every driver of MySQL.

    What may wait returns a value where the driver blocks, else an awaitable.
    """

    room: Room = mysql
    run: Callable[[Flow[Any]], Any] = staticmethod(runners.run)  # carries a flow out
    blocks: bool = True  # its calls are not awaited
    error_number: int | None = -1  # no number of MySQL's, and so none of a loss
    number_attribute: str = "number"  # of an error of ours: the number stands before its text
    reentrant: bool = True

    def loss_attributes(self, cause: BaseException | None) -> Mapping[str, Any]:
        """Return the number of the client library by which pools see it: the cause's, or the one of a lost server."""
        number = 0 if cause is None else code_of(cause)
        return {self.number_attribute: number if number in mysql.CLIENT_ERRORS else mysql.SERVER_LOST}

    # --- what a driver's adapter adds ------------------------------------------------------------------------------

    def version(self, connection: Any) -> str:
        """Return what the server says of its version."""

    def send(self, connection: Any, texts: Sequence[str]) -> Any:
        """Send texts, past all that is patched, and return the `Rows` of each as text. May wait."""

    def known(self, connection: Any, record: Record, name: str) -> str | None:
        """Return a setting that the client knows without asking."""

    def reports_later(self, connection: Any) -> bool:
        """Return True if the last answer had rows: the server reports what changed meanwhile with a later answer."""
        return False

    def tracks(self, connection: Any) -> bool:
        """Tell whether the server reports all that changes."""
        return False

    def fetch_reports(self, connection: Any) -> Any:
        """Have the server report what it has not reported yet, where it does that. May wait."""
        return None

    def restored(self, connection: Any, record: Record, settings: Sequence[str]) -> None:
        """Put back what the driver itself keeps of settings that were reset: how it encodes what it sends."""
        return

    def reset(self, connection: Any, record: Record, without_database: bool = False) -> Any:
        """Reset the whole session (COM_RESET_CONNECTION), and redo what connecting did. May wait.

        Returns False if that cannot be done.
        """

    def before_assign(self, connection: Any, assignments: Sequence[Assignment], back: bool) -> None:
        """The server is about to be given settings, of which the driver may keep some itself."""
        return

    def where(self, connection: Any) -> tuple[str, int | None]:
        """Return the host (or socket path) and the port, as the app knows them."""

    def database(self, connection: Any) -> str:
        """Return the database that the app connected to."""

    def mark_lost(self, connection: Any) -> None:
        """Record that the server has said that the physical connection is gone."""
        if (record := record_of(connection)) is not None:
            record.driver_state["lost"] = record.generation

    def has_ended(self, connection: Any) -> bool:
        """Return True if the physical connection is known to be gone, and the app has not closed it."""
        record = record_of(connection)
        return record is not None and record.driver_state.get("lost") == record.generation

    # --- what is the same ----------------------------------------------------------------------------------------

    def settings_client(self, connection: Any, record: Record) -> SettingsClient:
        """Talk with MySQL."""
        return MySQLSettings(Channel(self, record))

    def transaction_status(self, connection: Any, record: Record) -> TransactionStatus:
        """Tell what is known where the driver does not tell: by the app's own words, and outside autocommit."""
        opened = record.begun or (record.used and self.begins(connection))
        return TransactionStatus.INTRANS if opened else TransactionStatus.IDLE

    def is_lost(self, connection: Any, error: BaseException | None) -> bool:
        """Tell by the driver's state, and by the number of the error.

        A new connection is of no use either where its server does not serve it.
        """
        code = 0 if error is None else code_of(error)
        record = record_of(connection)
        is_new = record is not None and record.internal
        if code in mysql.LOST_ERRORS or (code in mysql.NOT_SERVING and is_new):
            self.mark_lost(connection)
            return True
        return self.has_ended(connection)

    def may_have_ended(self, error: BaseException) -> bool:
        """A KILL of the session has the same number as one of the statement."""
        return code_of(error) == mysql.INTERRUPTED

    def query(self, connection: Any, text: str) -> Any:
        """Send one text. May wait."""
        return self.run(self._query(connection, text))

    def _query(self, connection: Any, text: str) -> Flow[Rows]:
        answers: list[Rows] = yield partial(self.send, connection, [text])
        return answers[0]

    def finish(self, connection: Any, command: str) -> Any:
        return self.query(connection, command)

    def ended(self, connection: Any, record: Record) -> None:
        """These drivers keep nothing of their own about transactions."""
        return

    def system(self, connection: Any) -> str:
        return mysql.system_of(self.version(connection))

    def peer(self, connection: Any, record: Record) -> ServerAddress:
        host, port = self.where(connection)
        return ServerAddress(mysql.system_of(self.version(connection)), self.database(connection), host, port)

    def site(self, connection: Any, record: Record) -> Site:
        """Return the same, with the database that is the current one now."""
        system, database, host, port = record.peer()
        value, pristine = record.on_server.of("database")
        return Site(system, value or pristine or database, host, port)

    def read(self, connection: Any, setting: str) -> Any:
        """All settings live on the server."""
        raise LookupError(setting)

    def write(self, connection: Any, setting: str, value: Any) -> None:
        """All settings live on the server."""
        raise LookupError(setting)

    def text_of(self, cursor: Any, query: Any) -> str:
        return query.decode(errors="replace") if isinstance(query, (bytes, bytearray)) else str(query)

    def executed(self, cursor: Any) -> str | None:
        """Return what the drivers keep of the text."""
        query = getattr(cursor, "_executed", None)
        return None if query is None else self.text_of(cursor, query)

    def requested_role(self, record: Record) -> str:
        """Return nothing: the app cannot ask for a kind of server."""
        return ""

    def is_standby(self, connection: Any) -> Any:
        """Ask whether the server takes writes only from those with special rights. May wait."""
        return self.run(self._is_standby(connection))

    def _is_standby(self, connection: Any) -> Flow[bool]:
        return self._role((yield from self._query(connection, questions.is_read_only())))

    @staticmethod
    def _role(rows: Rows) -> bool:
        ((value,),) = rows
        return str(value).upper() in ("1", "ON")

    def checked(self, connection: Any, role: str, asks: bool) -> Any:
        """Ask whether the server serves anybody, and of which kind it is. May wait."""
        return self.run(self._checked(connection, role))

    def _checked(self, connection: Any, role: str) -> Flow[bool]:
        answers = yield partial(self.send, connection, questions.serves())
        is_standby = self._role(answers[0])
        fits = role == ANY or is_standby is (role == STANDBY)
        if not fits or (role == PRIMARY and (yield from self._is_outside_its_group(connection))):
            raise WrongRole(role)
        return is_standby

    def _is_outside_its_group(self, connection: Any) -> Flow[bool]:
        if (question := questions.is_outside_its_group(self.version(connection))) is None:
            return False
        try:
            return bool((yield from self._query(connection, question)))
        except self.raises as error:
            if self.is_lost(connection, error):
                raise
            return False  # a proxy, or what only calls itself MySQL: there is nothing to ask

    def current_database(self, connection: Any, record: Record) -> str:
        """Return the database that a new connection is to have at once: ``USE`` cannot join a SET."""
        value, pristine = record.on_server.of("database")
        moved = {change.setting for change in record.on_server.transfer_plan()}
        at_once = record.options.transfer_session_state_on_switch and "role" not in moved  # it may need the role
        carried = value if at_once else None
        return carried or pristine or self.database(connection)

    def answer(self, error: BaseException) -> tuple[str, str, bool]:
        """Read the number of an error, or its text where it has none.

        Of errors that are not the driver's own, only a package that is not installed will not change meanwhile.
        aiomysql has the reason of a failed connect in the cause of its error.
        """
        if isinstance(error, ImportError):  # the driver lacks what this login needs
            return mysql.answer_to(mysql.CANNOT_LOG_IN, "")
        return mysql.answer_to(code_of(error), f"{error} {error.__cause__ or ''}")

    def refuse(self, connection: Any) -> None:
        """MySQL has no aborted transactions: it is the engine that refuses."""
        return

    def two_phase_refusal(self, connection: Any, effects: Effects | None, error: BaseException) -> str:
        """Return what the number of the error of an ``XA COMMIT`` or ``XA ROLLBACK`` means there."""
        if effects is None or [part.word for part in effects.parts] != ["xa"]:
            return ""
        if code_of(error) == mysql.XA_OUTSIDE and self.begins(connection):
            return "autocommit"
        return "gone" if code_of(error) == mysql.XA_UNKNOWN and effects.rolls_back else ""

    def demoted(self, connection: Any, record: Record, error: BaseException) -> Any:
        """Return True if the server executes no statements any more, or refused a write because it is read-only now.

        May wait.
        """
        return self.run(self._demoted(connection, record, error))

    def leaves_in_doubt(self, error: BaseException) -> bool:
        """Return True for an error within a commit."""
        return code_of(error) in mysql.IN_DOUBT_ERRORS

    def _demoted(self, connection: Any, record: Record, error: BaseException) -> Flow[bool]:
        in_doubt = (code := code_of(error)) in mysql.IN_DOUBT_ERRORS
        if (in_doubt or code in mysql.NOT_SERVING) and not (yield from self._serves(connection)):
            return True
        refused = in_doubt or (code in mysql.READ_ONLY_ERRORS and not record.asked_read_only)
        return refused and record.may_be_demoted() and bool((yield partial(self.is_standby, connection)))

    def _serves(self, connection: Any) -> Flow[bool]:
        try:
            yield from self._query(connection, questions.nothing())
        except self.raises as error:
            return code_of(error) not in mysql.NOT_SERVING
        return True
