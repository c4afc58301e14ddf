"""What the suite asks of any driver of MySQL and MariaDB. Knows none of them: see ``drivers/``."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from instrumented_wrapper import FailoverSuccessError
from servers.replicating import ACCOUNT, DATABASES

from .blocking import Blocking
from .sites import MariaDB, MySQL

NAMES = ("autocommit", "read_only", "isolation_level")
TYPES: dict[str, type[Any]] = {"autocommit": bool, "read_only": bool, "isolation_level": str}
READ_ONLY = {True: "READ ONLY", False: "READ WRITE"}


class ForMySQL(Blocking):
    """A driver for MySQL: all settings live on the server, and are read and changed by statements."""

    sites = (MariaDB, MySQL)
    site: type[Any]
    error: type[Exception]  # of all that the driver raises
    unbuffered: type[Any]  # the class of cursors whose rows stay on the server
    aborted_error: ClassVar[type[Exception]] = FailoverSuccessError  # the server knows no such thing
    default: ClassVar = dict(zip(NAMES, (False, False, "REPEATABLE-READ"), strict=True))
    changed: ClassVar = dict(zip(NAMES, (True, True, "SERIALIZABLE"), strict=True))
    another = ("isolation_level", "SERIALIZABLE")
    refused: ClassVar[Mapping[str, Any]] = {"isolation_level": "NO SUCH LEVEL"}
    shown: ClassVar = dict(zip(NAMES, ("true", "true", "SERIALIZABLE"), strict=True))
    shown_default: ClassVar = dict(zip(NAMES, ("false", "false", "REPEATABLE_READ"), strict=True))
    sources: ClassVar = dict(zip(NAMES, ("server", "server", "server"), strict=True))
    commit_sent, rollback_sent = b"COMMIT", b"ROLLBACK"
    autocommit_sent = b"autocommit"
    commands_at_once = 1  # of what several statements do
    parameter_names = ("_0", "_1")  # how it ends the names of variables for the parameters of a procedure
    round_trips = 1
    takes_files: ClassVar[Mapping[str, Any]] = {"local_infile": True}  # keywords for LOAD DATA LOCAL INFILE
    no_tls: ClassVar[Mapping[str, Any]] = {"ssl_disabled": True}
    no_database: ClassVar[Mapping[str, Any]] = {"database": ""}  # and for a connection that has chosen none
    lacks = frozenset(
        {
            *(() if find_spec("cryptography") else ("encrypted passwords",)),
            *(
                "pg_settings",
                "aborted transactions",
                "nested blocks",
                "target_session_attrs",
                "settings without a round trip",
            ),
            "transactional settings",
            "refusal of serializable transactions on a standby",
            "prepared cursors",
            *("pools", "pool callbacks", "pool checks", "pool timeouts"),
        }
    )

    def open(self, **keywords: Any) -> Any:
        raise NotImplementedError

    @staticmethod
    def keywords(dsn: Mapping[str, Any], **keywords: Any) -> dict[str, Any]:
        """Return keywords for the driver: it knows one host, the others are ours to know."""
        given = {**dsn, **keywords}
        hosts, options = given.pop("all hosts", None), given.get("instrumented_wrapper", {})
        if hosts and isinstance(options, Mapping):
            given["instrumented_wrapper"] = {"failover_hosts": hosts, **options}
        return given

    def connect(self, dsn: Mapping[str, Any], **keywords: Any) -> Any:
        return self.open(**self.keywords(dsn, **keywords))

    def close(self, connection: Any) -> None:
        with suppress(self.error):  # the test has closed it: these drivers mind
            connection.close()

    def tls(self, authority: Path, certificate: Path | None = None, key: Path | None = None) -> dict[str, Any]:
        """Return the keywords with which it checks who the server is, and shows the certificate of the client."""
        own = {"ssl_cert": str(certificate), "ssl_key": str(key)} if certificate else {}
        return {"ssl_ca": str(authority), "ssl_verify_cert": True, "ssl_verify_identity": True, **own}

    def use_charset(self, connection: Any, name: str) -> None:
        """Have the driver write texts so, where it does not follow the app's ``SET NAMES``."""

    def descriptor(self, connection: Any) -> int:
        """Return that of its socket."""
        raise NotImplementedError

    def was_reset(self, connection: Any, sent: bytes) -> bool:
        return b"SET @@session.`" in sent

    def execute(self, connection: Any, sql: str) -> list[tuple[Any, ...]]:
        cursor = connection.cursor()
        try:
            return self.execute_on(cursor, sql)
        finally:
            cursor.close()

    def prepared_cursor(self, connection: Any) -> Any:
        """Return a cursor whose statements the driver prepares."""
        self.needs("prepared cursors")

    def unbuffered_cursor(self, connection: Any) -> Any:
        """Return a cursor whose rows stay on the server until they are fetched."""
        return connection.cursor(self.unbuffered)

    def execute_on(self, cursor: Any, sql: str) -> list[tuple[Any, ...]]:
        cursor.execute(sql)
        rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        while cursor.nextset():
            if cursor.description:
                cursor.fetchall()
        return rows

    def in_transaction(self, connection: Any) -> bool | None:
        return None

    @contextmanager
    def block(self, connection: Any) -> Iterator[None]:
        """Do what an app would: none of these drivers has blocks."""
        self.begin(connection)
        try:
            yield
            connection.commit()
        except BaseException:
            with suppress(Exception):  # closed for good
                connection.rollback()
            raise

    def begin(self, connection: Any) -> None:
        connection.begin()

    def prepare(self, connection: Any, name: str, *statements: str) -> None:
        for text in (f"XA START '{name}'", *statements, f"XA END '{name}'", f"XA PREPARE '{name}'"):
            self.execute(connection, text)

    def commit_prepared(self, connection: Any, name: str) -> None:
        self.execute(connection, f"XA COMMIT '{name}'")

    def rollback_two_phase(self, connection: Any, name: str) -> None:
        connection.rollback()  # what was not prepared is gone with its session: no server knows its name

    def use_getters(self, connection: Any) -> None:
        raise NotImplementedError

    def set(self, connection: Any, setting: str, value: Any) -> None:
        if setting == "autocommit":
            self.set_autocommit(connection, value)
        elif setting == "read_only":
            self.execute(connection, f"SET SESSION TRANSACTION {READ_ONLY[value]}")
        else:
            level = value.replace("-", " ")
            self.execute(connection, f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")

    def set_autocommit(self, connection: Any, value: bool) -> None:
        connection.autocommit(value)

    def get(self, connection: Any, setting: str) -> Any:
        ((value,),) = self.execute(connection, self.site.asked[setting])
        return TYPES[setting](value)

    def code_of(self, error: BaseException) -> str:
        return str(error.args[0])


@contextmanager
def connected(driver: Any) -> Iterator[Callable[..., Any]]:
    """Connect the app's account to servers other than the pair of the run; the first, the others are known."""
    with ExitStack() as stack:

        def connect(*hosts: Any, autocommit: bool = True) -> Any:
            several = ",".join(f"{host.host}:{host.port}" for host in hosts)
            where = {"host": hosts[0].host, "port": hosts[0].port, "database": DATABASES[0], **ACCOUNT}
            connection = driver.connect({**where, "all hosts": several}, autocommit=autocommit)
            stack.callback(driver.close, connection)
            return connection

        yield connect
