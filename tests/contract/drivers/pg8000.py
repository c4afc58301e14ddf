"""pg8000: what the contract suite asks of its DB-API interface. All settings but autocommit live on the server."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from inspect import signature
from typing import Any, ClassVar

import pg8000.dbapi
import pytest
from psycopg.conninfo import conninfo_to_dict

from instrumented_wrapper import session_state
from instrumented_wrapper.drivers.registry import configuring

from ..blocking import Blocking
from ..sites import PostgreSQL

NAMES = ("autocommit", "read_only", "isolation_level", "deferrable")
ON_SERVER = {name: f"default_transaction_{name.removesuffix('_level')}" for name in NAMES[1:]}
EXECUTE = b"E\x00\x00\x00\x09\x00\x00\x00\x00\x00"  # the message that has the server run what is bound
SWITCHES = {True: "on", False: "off"}


class PG8000(Blocking):
    """pg8000.dbapi.connect."""

    name, sites = "pg8000", (PostgreSQL,)
    names = ON_SERVER
    operational_error, programming_error = pg8000.dbapi.OperationalError, pg8000.dbapi.DatabaseError
    refused_error: Any = pg8000.dbapi.InterfaceError
    ended_error: ClassVar[type[Exception]] = Exception  # what the socket raises is not always translated
    aborted_error = pg8000.dbapi.DatabaseError
    read_only_error = pg8000.dbapi.DatabaseError
    closed_error: ClassVar[type[Exception]] = pg8000.dbapi.InterfaceError
    default: ClassVar = dict(zip(NAMES, (False, False, "read committed", False), strict=True))
    changed: ClassVar = dict(zip(NAMES, (True, True, "serializable", True), strict=True))
    another = ("deferrable", True)
    shown: ClassVar = dict(zip(NAMES, ("true", "<hidden>", "<hidden>", "<hidden>"), strict=True))
    shown_default: ClassVar = dict(zip(NAMES, ("false", "<hidden>", "<hidden>", "<hidden>"), strict=True))
    sources: ClassVar = dict(zip(NAMES, ("driver", "reported", "server", "server"), strict=True))
    commit_sent = rollback_sent = EXECUTE  # parsed and bound they are before, in round trips of their own
    round_trips = 1
    lacks = frozenset(
        {
            *("nested blocks", "pools", "pool callbacks", "pool checks", "pool timeouts", "target_session_attrs"),
            *("implicit commits", "settings without a round trip", "text with its parameters", "codes of losses"),
            *(
                "classes whose connect configures",
                "settings of the driver",
                "libpq",
                "hosts of its own",
                "connections without cycles",
            ),
        }
    )

    @staticmethod
    def keywords(dsn: str, **keywords: Any) -> dict[str, Any]:
        """Return keywords for pg8000: it knows one host, the others are ours to know."""
        given: dict[str, Any] = {**conninfo_to_dict(dsn)}
        hosts, ports = str(given.pop("host")).split(","), str(given.pop("port")).split(",")
        startup = {}
        for option in str(given.pop("options", "")).split("-c ")[1:]:
            name, _, value = option.strip().partition("=")
            startup[name] = value
        for name in ("gssencmode", "target_session_attrs"):
            given.pop(name, None)
        renamed = {"dbname": "database", "connect_timeout": "timeout"}
        rest = {renamed.get(name, name): value for name, value in given.items()}
        rest["ssl_context"] = False if rest.pop("sslmode", "disable") == "disable" else None
        if "timeout" in rest:
            rest["timeout"] = float(rest["timeout"])
        options = keywords.get("instrumented_wrapper", {})
        if len(hosts) > 1 and isinstance(options, Mapping):
            every = ",".join(f"{host}:{port}" for host, port in zip(hosts, ports, strict=True))
            keywords["instrumented_wrapper"] = {"failover_hosts": every, **options}
        if startup:
            if "startup_params" not in signature(pg8000.dbapi.connect).parameters:
                pytest.skip("this pg8000 has no startup parameters")
            rest["startup_params"] = startup
        return {"host": hosts[0], "port": int(ports[0]), **rest, **keywords}

    def connect(self, dsn: str, autocommit: bool | None = None, **keywords: Any) -> Any:
        with configuring():  # as a pool does it: pg8000 has no keyword for it
            connection = pg8000.dbapi.connect(**self.keywords(dsn, **keywords))
            if autocommit is not None:
                connection.autocommit = autocommit
        return connection

    def sent_last(self, text: bytes) -> bytes:
        return EXECUTE

    def close(self, connection: Any) -> None:
        with suppress(pg8000.dbapi.InterfaceError):  # the test has closed it: pg8000 minds
            connection.close()

    def is_closed(self, connection: Any) -> bool:
        return connection._usock is None

    def was_reset(self, connection: Any, sent: bytes) -> bool:
        return b"set_config" in sent

    def execute_with(self, cursor: Any, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        cursor.execute(sql, parameters or ())
        return self._rows(cursor)

    def in_transaction(self, connection: Any) -> bool:
        return bool(connection._in_transaction)

    @contextmanager
    def block(self, connection: Any) -> Iterator[None]:
        """Do what an app would: a ``with`` of pg8000's closes the connection."""
        if connection.autocommit:
            self.execute(connection, "BEGIN")
        try:
            yield
            connection.commit()
        except BaseException:
            with suppress(Exception):  # closed for good
                connection.rollback()
            raise

    def prepare(self, connection: Any, name: str, *statements: str) -> None:
        connection.tpc_begin(connection.xid(0, name, ""))
        for statement in statements:
            self.execute(connection, statement)
        connection.tpc_prepare()

    def commit_prepared(self, connection: Any, name: str) -> None:
        connection.tpc_commit()

    def rollback_two_phase(self, connection: Any, name: str) -> None:
        connection.tpc_rollback()

    def set(self, connection: Any, setting: str, value: Any) -> None:
        if setting == "autocommit":
            connection.autocommit = value
            return
        within = connection._in_transaction
        self.execute(connection, f"SET {ON_SERVER[setting]} = '{SWITCHES.get(value, value)}'")
        if not (within or connection.autocommit):
            connection.commit()  # what is set in a transaction ends with its rollback

    def get(self, connection: Any, setting: str) -> Any:
        if setting == "autocommit":
            return connection.autocommit
        within = connection._in_transaction
        ((text,),) = self.execute(connection, f"SHOW {ON_SERVER[setting]}")
        if not within:
            connection.rollback()
        return self._read(text)

    @staticmethod
    def _read(text: Any) -> Any:
        return {"on": True, "off": False}.get(text, text)

    def told(self, setting: str, value: Any) -> Any:
        return value if setting == "autocommit" else SWITCHES.get(value, value)

    def known(self, connection: Any) -> dict[str, tuple[Any, Any]]:
        ours = {name: setting for setting, name in ON_SERVER.items()}
        found = session_state(connection).items()
        return {ours.get(name, name): (self._read(s.pristine_value), self._read(s.value)) for name, s in found}

    def use_getters(self, connection: Any) -> None:
        assert connection.autocommit is False
        assert connection.parameter_statuses["server_version"]
        assert not connection.notices


DRIVER = PG8000()
