"""MariaDB, as its administrator sees it."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any

from servers import MariaDBCluster, MariaDBServer, Proxy, guard
from servers.replicating import ACCOUNT, DATABASES
from servers.server import ServerError

SECONDS = 20  # for what takes no time on an idle machine
ACCOUNTS = 40  # a session of the test that had the account before is long gone
PASSWORD = ACCOUNT["password"]


class MariaDB:
    """A MariaDB cluster, as one test uses it: its sessions are those of an account of the test's own."""

    servers = "running_mariadb"  # the fixture
    system, namespace = "mariadb", DATABASES[0]
    goodbye = b"\x01\x00\x00\x00\x01"  # COM_QUIT
    first_question = b"DO 0"  # what a new session is asked before the app gets it
    setting, setting_sent = "SET time_zone = '+02:00'", b"+02:00"  # a statement, and what carries it over
    setting_reset = b"time_zone"  # what its reset sends
    session_id = "SELECT CONNECTION_ID()"
    slow = "SELECT SLEEP(60)"
    limited = slow  # what `ends_statements` ends
    suicide = "KILL CONNECTION_ID()"
    secret_suicide = "KILL CONNECTION_ID() + 0 * LENGTH('literal-secret')"
    secret_setting = "SET @tenant = 'literal-secret'"
    suicide_state = "70100"
    is_standby = "SELECT @@global.read_only"
    refusal = b""  # of a write, in the server's place: it refuses by itself once it is demoted
    begin, begin_read_only = "BEGIN", "START TRANSACTION READ ONLY"
    read_only_session = "SET SESSION TRANSACTION READ ONLY"
    asked: Mapping[str, str] = MappingProxyType(
        {
            "autocommit": "SELECT @@session.autocommit",
            "read_only": "SELECT @@session.tx_read_only",
            "isolation_level": "SELECT @@session.tx_isolation",
        }
    )
    in_effect = "SELECT @@session.tx_read_only, @@session.tx_isolation"
    changed_in_effect = (1, "SERIALIZABLE")
    default_in_effect = (0, "REPEATABLE-READ")
    all_settings = (
        "SHOW SESSION VARIABLES WHERE Variable_name RLIKE '^(autocommit|char|coll|foreign|sql_mode|time_zone|tx|tran)'"
    )
    leaving: Mapping[str, str] = MappingProxyType(
        {
            "PREPARE plan FROM 'SELECT 1'": "prepared statements",
            "CREATE TEMPORARY TABLE scratch (id int)": "temporary tables",
            "SELECT GET_LOCK('held', 0)": "locks",
        }
    )
    locks, lock = ("SELECT GET_LOCK(%s, 0)", "SELECT RELEASE_LOCK(%s)"), "held"
    # texts after which nothing of all that is left, and after which something is
    ended: Sequence[Sequence[str]] = (
        ("PREPARE plan FROM 'SELECT 1'", "DEALLOCATE PREPARE Plan"),
        ("PREPARE plan FROM 'SELECT 1'", "DROP PREPARE plan"),
        ("CREATE TEMPORARY TABLE scratch (id int)", "DROP TEMPORARY TABLE scratch"),
        ("CREATE TEMPORARY TABLE scratch (id int)", "BEGIN", "DROP TEMPORARY TABLE IF EXISTS `scratch`", "ROLLBACK"),
        ("CREATE TEMPORARY TABLE scratch (id int)", "DROP TABLE scratch"),
        ("SELECT GET_LOCK('held', 0)", "SELECT RELEASE_LOCK('Held')"),
        ("SELECT GET_LOCK('held', 0)", "BEGIN", "DO RELEASE_LOCK('held')", "ROLLBACK"),
        ("SELECT GET_LOCK('held', 0)", "SELECT GET_LOCK('other', 0)", "BEGIN", "DO RELEASE_ALL_LOCKS()", "ROLLBACK"),
    )
    not_ended: Sequence[Sequence[str]] = (
        ("PREPARE plan FROM 'SELECT 1'", "PREPARE other FROM 'SELECT 1'", "DEALLOCATE PREPARE plan"),
        *(
            (f"CREATE TEMPORARY TABLE {first} (id int)", *others, f"DROP TEMPORARY TABLE IF EXISTS {last}")
            for first, others, last in (
                ("one", ("CREATE TEMPORARY TABLE two (id int)",), "one"),
                ("one", ("ALTER TABLE one RENAME TO two",), "one"),
                ("one", (f"USE {DATABASES[1]}",), "one"),
                ("one", (f"USE {DATABASES[1]}", "CREATE TEMPORARY TABLE one (id int)"), "one"),
            )
        ),
        ("SELECT GET_LOCK('held', 0)", "SELECT GET_LOCK('held', 0)", "SELECT RELEASE_LOCK('held')"),
        ("SELECT GET_LOCK('held', 0)", "SELECT RELEASE_LOCK('other')"),
        ("SELECT GET_LOCK('held', 0), GET_LOCK('other', 0)", "SELECT RELEASE_LOCK('held')"),
    )
    # spellings of which the server makes something else, or nothing else
    sets_in_many_ways: Sequence[str] = (
        "SET time_zone = '+02:00'",
        "SET time_zone = SYSTEM",
        "SET sql_mode = 'ansi_quotes,traditional'",
        "SET SESSION sql_mode = 'NO_ENGINE_SUBSTITUTION,STRICT_TRANS_TABLES'",
        "SET sql_mode = ''",
        "SET sql_mode = DEFAULT",
        "SET @@session.sql_safe_updates = ON, sql_notes = 0",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
        "SET SESSION TRANSACTION READ WRITE",
        "SET sql_mode = 'ANSI'",
        "SET sql_mode = 'no_zero_date,No_Zero_In_Date'",
        "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci",
        "SET NAMES latin1",
        "SET CHARACTER SET utf8mb4",
        "SET character_set_results = NULL",
        "SET character_set_results = utf8",
        "SET character_set_connection = 'UTF8MB4'",
        "SET NAMES DEFAULT",
        "SET innodb_lock_wait_timeout = 16",
        "SET lock_wait_timeout = 1 + 1",
        "SET foreign_key_checks = Off, unique_checks = FALSE",
        "SET completion_type = 'no_chain'",
        "SET sql_select_limit = 1000000",
        "SET sql_select_limit = DEFAULT",
        "SET group_concat_max_len = 2048",
        "SET @a = 1, @b = 'text', @c = 1.50, @d = 1e3, @e = NULL, @f = -7, @g = X'6162'",
        "SET @a = @a + 1, @`B` = CONCAT(@b, '!')",
        "SET autocommit = 1",
        "SET @@autocommit = OFF",
        "USE app",
    )
    # a setting, what the app sets, what happens behind the wrapper's back, and what comes of it
    unseen_changes: Sequence[tuple[str, str, str, Any]] = (
        ("time_zone", "SET time_zone = '+02:00'", "SET time_zone = '+03:00'", "+03:00"),
        ("sql_safe_updates", "SET sql_safe_updates = 1", "SET sql_safe_updates = 0", "0"),
        ("sql_mode", "SET sql_mode = ANSI_QUOTES", "SET sql_mode = ''", ""),
        ("@tenant", "SET @tenant = 'acme'", "SET @tenant = 'other'", "other"),
        ("@tenant", "SET @tenant = 'acme'", "SET @tenant = NULL", None),
        (
            "isolation_level",
            "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "READ-COMMITTED",
        ),
        ("database", "USE app", "USE information_schema", "information_schema"),
    )
    tenant = "@tenant"
    sets_tenant = "SET @tenant = 'acme'"
    sets_tenant_too = (
        "SET @Tenant := 'acme'",
        "SELECT @tenant := 'acme'",
        "SELECT 'acme' INTO @tenant",
        "SET @tenant = CONCAT('ac', 'me')",
        "SET @other = 1, @tenant = 'acme'",
    )
    prepares_code = "PREPARE code FROM 'SET @tenant = 7'"
    sets_other = ("SET @other = 'acme'", "SET lock_wait_timeout = 50")
    refuses_when_cold = False
    sets_unnamed = ("PREPARE plan FROM 'SET @nameless = 1'", "EXECUTE plan", "DEALLOCATE PREPARE plan")
    shows_tenant = "SELECT @tenant"
    ends_idle_transactions: Mapping[str, str] = MappingProxyType({"init_command": "SET idle_transaction_timeout=1"})
    ends_idle_sessions: Mapping[str, str] = MappingProxyType({"init_command": "SET wait_timeout=1"})
    ends_statements: Mapping[str, str] = MappingProxyType({"init_command": "SET max_statement_time=0.05"})
    commits = ("COMMIT", "COMMIT WORK", "COMMIT AND CHAIN")
    sets_reported, shows_reported = "SET time_zone = '+05:00'", "SELECT @@session.time_zone"
    reported, reported_otherwise = "+05:00", "+06:00"
    part_of_answer = 5  # bytes of the answer to a COMMIT: the header and a beginning
    commits_prepared = b"XA COMMIT"

    _numbers = itertools.count()

    def __init__(self, cluster: MariaDBCluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.user = f"account_{next(self._numbers) % ACCOUNTS}"
        self._own: list[str] = []  # what only this test has made: accounts, databases
        self.remember(self.user, PASSWORD)

    @classmethod
    def prepare(cls, cluster: MariaDBCluster) -> None:
        """Make the accounts, once per run."""
        for number in range(ACCOUNTS):
            user = f"account_{number}"
            texts = [f"CREATE USER {user} IDENTIFIED BY '{PASSWORD}'"]
            texts += [f"GRANT ALL ON {database}.* TO {user}" for database in DATABASES]
            cluster.primary.sql("; ".join(texts))
        cluster.wait_streaming()

    @staticmethod
    def repair(cluster: MariaDBCluster) -> None:
        """Repair what a test has broken."""
        primary, standby = cluster.primary, cluster.standby
        alive = primary.alive and standby.alive
        if not (alive and primary.follows is None and standby.follows is primary):
            cluster.restore()

    def takes_writes(self, yes: bool) -> None:
        """Promote or demote the primary, as a cluster manager does; its sessions stay."""
        self.cluster.primary.sql(f"SET GLOBAL read_only={int(not yes)}", "")

    def remember(self, user: str, password: str) -> None:
        """Let an account log in on both servers."""
        for server in self.cluster.servers:
            if user != self.user:  # made or changed just now
                server.forget(user, changed=True)
            server.remember(user, password)

    def dsn(self, *hosts: MariaDBServer | Proxy, **extra: Any) -> dict[str, Any]:
        """Return keywords for these hosts in this order; for the primary, then the standby, by default."""
        first, *others = chosen = hosts or (self.cluster.primary, self.cluster.standby)
        where = {"host": first.host, "port": first.port, "user": self.user, "password": PASSWORD}
        several = ",".join(f"{host.host}:{host.port}" for host in chosen)
        return {**where, "database": self.namespace, **({"all hosts": several} if others else {}), **extra}

    @property
    def address(self) -> dict[str, Any]:
        """Where the primary is, as telemetry tells it."""
        return {"server.address": self.cluster.primary.host, "server.port": self.cluster.primary.port}

    def sql(self, text: str, server: MariaDBServer | None = None) -> list[tuple[str | None, ...]]:
        return (server or self.cluster.primary).sql(text)

    @staticmethod
    def round_trips(proxy: Proxy) -> int:
        """Return how many commands were sent: packets with the number 0."""
        sent, commands = proxy.seen("client"), 0
        while sent:
            commands += sent[3] == 0
            sent = sent[4 + int.from_bytes(sent[:3], "little") :]
        return commands

    def sessions(self, server: MariaDBServer | None = None) -> list[int]:
        """Return the sessions that the test has on a server."""
        users = f"'{self.user}', '{self.name}'"
        found = self.sql(f"SELECT id FROM information_schema.processlist WHERE user IN ({users})", server)
        return [int(number or 0) for (number,) in found]

    def only_session_is(self, session: int) -> bool:
        """Tell whether the test comes to have this one session on the primary and no other."""
        return guard.wait_until(lambda: self.sessions() == [session], SECONDS)

    def none_left(self, server: MariaDBServer | None = None) -> bool:
        """Tell whether the test comes to have no session on a server."""
        return guard.wait_until(lambda: not self.sessions(server), SECONDS)

    def end_sessions(self, server: MariaDBServer | None = None, only: int | None = None) -> None:
        """End them, or one of them; return when they are gone."""
        for session in (gone := [only] if only else self.sessions(server)):
            with suppress(ServerError):  # it has ended by itself meanwhile
                self.sql(f"KILL {session}", server)
        assert guard.wait_until(lambda: not {*gone} & {*self.sessions(server)}, SECONDS)

    def wait_running(self, server: MariaDBServer | None = None) -> None:
        """Wait until a session of the test runs the slow statement."""
        text = f"SELECT 1 FROM information_schema.processlist WHERE user = '{self.user}' AND info LIKE '%SLEEP%'"
        assert guard.wait_until(lambda: bool(self.sql(text, server)), SECONDS)

    def state_of(self, session: int) -> str | None:
        """Return "idle", "idle in transaction", ..."""
        command = f"SELECT command FROM information_schema.processlist WHERE id = {session}"
        assert guard.wait_until(lambda: self.sql(command) == [("Sleep",)], SECONDS)
        return "idle in transaction" if self._has_transaction(session) else "idle"

    def _has_transaction(self, session: int) -> bool:
        """Look at the monitor's text: information_schema.innodb_trx is a copy, as old as it is looked at often."""
        monitor = "\n".join(row[-1] or "" for row in self.sql("SHOW ENGINE INNODB STATUS"))
        transactions = monitor.split("---TRANSACTION ")[1:]
        return any(", ACTIVE" in text.splitlines()[0] and f" thread id {session}," in text for text in transactions)

    def make_table(self) -> str:
        name = f"rows_of_{self.name}"
        self.sql(f"CREATE TABLE {name} (id int)")
        return name

    def ids(self, table: str) -> list[int]:
        return [int(number or 0) for (number,) in self.sql(f"SELECT id FROM {table} ORDER BY id")]

    def make_account(self, password: str) -> dict[str, str]:
        """Make an account; return what a connection string needs for it."""
        grant = f"GRANT ALL ON {self.namespace}.* TO {self.name}"
        self.sql(f"CREATE USER {self.name} IDENTIFIED BY '{password}'; {grant}")
        self._own.append(f"DROP USER {self.name}")
        self.cluster.wait_streaming()
        self.remember(self.name, password)
        return {"user": self.name, "password": password}

    def change_password(self, password: str) -> None:
        self.sql(f"ALTER USER {self.name} IDENTIFIED BY '{password}'")
        self.cluster.wait_streaming()
        self.remember(self.name, password)

    def make_database(self) -> dict[str, str]:
        """Make a database; return what a connection string needs for it."""
        self.sql(f"CREATE DATABASE {self.name}; GRANT ALL ON {self.name}.* TO {self.user}")
        return {"database": self.name}

    def drop_database(self) -> None:
        self.sql(f"DROP DATABASE {self.name}")

    def two_phase(self, *statements: str) -> tuple[str, ...]:
        """Return the texts of a two-phase transaction; the last one prepares it."""
        return (f"XA START '{self.name}'", *statements, f"XA END '{self.name}'", f"XA PREPARE '{self.name}'")

    def prepared(self) -> int:
        """Tell how many transactions are prepared."""
        return len(self.sql("XA RECOVER"))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The primary's process stands still: connections stay, nothing answers."""
        self.cluster.primary.freeze()
        try:
            yield
        finally:
            self.cluster.primary.thaw()

    def settle(self) -> None:
        """Give up what a test left: prepared, it holds locks."""
        for *_, gid in self.sql("XA RECOVER"):
            self.sql(f"XA ROLLBACK '{gid}'")
        for text in self._own:
            self.sql(text)
        for user, server in itertools.product((self.user, self.name), self.cluster.servers):
            server.forget(user)
