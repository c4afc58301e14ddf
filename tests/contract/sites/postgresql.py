"""PostgreSQL, as its superuser sees it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from servers import Cluster, Proxy, Server, guard
from servers.server import APP, conninfo

SECONDS = 20  # for what takes no time on an idle machine


class PostgreSQL:
    """A PostgreSQL cluster, as one test uses it: its sessions carry the test's own name."""

    servers = "running_cluster"  # the fixture
    system, namespace = "postgresql", "app"
    goodbye = b"X\x00\x00\x00\x04"  # what a driver itself sends on close
    first_question = b"SELECT 1\x00"  # what a new session is asked before the app gets it
    setting, setting_sent = "SET TimeZone = 'Europe/Paris'", b"Europe/Paris"  # a statement, and what carries it over
    setting_reset = b"timezone"  # what its reset sends
    session_id = "SELECT pg_backend_pid()"
    slow = limited = "SELECT pg_sleep(60)"
    suicide = "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)"
    secret_suicide = "SELECT 'literal-secret', pg_terminate_backend(pg_backend_pid()), pg_sleep(60)"
    secret_setting = "SET my.tenant = 'literal-secret'"
    suicide_state = "57P01"
    is_standby = "SELECT pg_is_in_recovery()"
    # No session outlives its server's demotion, so only this is what a standby would answer to a write.
    refusal = (
        b"S\x00\x00\x00\x16in_hot_standby\x00on\x00"
        b"E\x00\x00\x00\x1cSERROR\x00C25006\x00Mrefused\x00\x00"
        b"Z\x00\x00\x00\x05I"
    )
    begin, begin_read_only = "BEGIN", "BEGIN READ ONLY"
    read_only_session = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
    in_effect = (
        "SELECT current_setting('transaction_read_only'), current_setting('transaction_isolation'),"
        " current_setting('transaction_deferrable')"
    )
    changed_in_effect = ("on", "serializable", "on")
    default_in_effect = ("off", "read committed", "off")
    # statement -> what it leaves in the session, as `.not_restored` names it
    all_settings = "SELECT name, setting FROM pg_settings ORDER BY name"
    leaving: Mapping[str, str] = MappingProxyType(
        {
            "PREPARE plan AS SELECT 1": "prepared statements",
            "LISTEN news": "LISTEN",
            "CREATE TEMP TABLE scratch (id int)": "temporary tables",
            "SELECT pg_advisory_lock(42)": "advisory locks",
        }
    )
    # the same, once more for every other way to leave it
    leaving_too: Mapping[str, str] = MappingProxyType(
        {
            "CREATE TEMPORARY TABLE scratch AS SELECT 1": "temporary tables",
            "SELECT 1 AS n INTO TEMP scratch": "temporary tables",
            "CREATE TABLE pg_temp.scratch (n int)": "temporary tables",
            "BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT 1; COMMIT": "held cursors",
            "SELECT pg_try_advisory_lock_shared(42)": "advisory locks",
            "WITH lock AS (SELECT pg_advisory_lock(42)) SELECT * FROM lock": "advisory locks",
            "DO $$ BEGIN PERFORM pg_advisory_lock(42); END $$": "advisory locks",
            "DO $$ BEGIN CREATE TEMP TABLE scratch (n int); END $$": "temporary tables",
            "CALL {0}_listens()": "LISTEN",
            "SELECT {0}_creates()": "temporary tables",
        }
    )
    code_that_leaves = (
        "CREATE PROCEDURE {0}_listens() LANGUAGE plpgsql AS $$ BEGIN LISTEN news; END $$;"
        " CREATE FUNCTION {0}_creates() RETURNS void LANGUAGE plpgsql"
        " AS $$ BEGIN EXECUTE 'CREATE TEMP TABLE scratch (n int)'; END $$"
    )
    leaves_nothing: Sequence[str] = (
        "BEGIN; SET LOCAL work_mem = '1MB'; COMMIT",
        "SELECT 'SET work_mem'",
        "-- SET work_mem\nSELECT 1",
        "SELECT pg_advisory_xact_lock(42)",
        "SELECT set_config('work_mem', '1MB', true)",
        "BEGIN; CREATE TEMP TABLE scratch (n int) ON COMMIT DROP; COMMIT",
    )
    locks, lock = ("SELECT pg_advisory_lock(%s)", "SELECT pg_advisory_unlock(%s)"), 4711
    # texts after which nothing of all that is left, and after which something is
    ended: Sequence[Sequence[str]] = (
        ("BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "COMMIT", "CLOSE c"),
        ("BEGIN", 'DECLARE "C" CURSOR WITH HOLD FOR SELECT 1', "COMMIT", "CLOSE ALL"),
        ("BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "COMMIT", "BEGIN", "CLOSE C", "ROLLBACK"),
        ("BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "COMMIT", "DISCARD ALL"),
        ("LISTEN news", "UNLISTEN news"),
        ("LISTEN news", "LISTEN news", "LISTEN more", "UNLISTEN more", "UNLISTEN News"),
        ("LISTEN news", "BEGIN", "UNLISTEN news", "COMMIT"),
        ("LISTEN news", "BEGIN", "UNLISTEN *", "COMMIT"),
        ("DO $$ BEGIN CREATE TEMP TABLE scratch (n int); END $$", "DISCARD ALL"),
        ("PREPARE plan AS SELECT 1", "DEALLOCATE plan"),
        ("PREPARE plan AS SELECT 1", "BEGIN", "DEALLOCATE PREPARE plan", "ROLLBACK"),
        ("PREPARE plan AS SELECT 1", "DEALLOCATE ALL"),
        ("CREATE TEMP TABLE scratch (id int)", "DROP TABLE scratch"),
        ("CREATE TEMP VIEW sight AS SELECT 1", "BEGIN", "DROP VIEW sight", "COMMIT"),
        ("CREATE TEMP TABLE scratch (id int)", "BEGIN", "DISCARD TEMP", "COMMIT"),
        ("SELECT pg_advisory_lock(42)", "SELECT pg_advisory_unlock(42)"),
        ("SELECT pg_advisory_lock(42)", "BEGIN", "SELECT pg_advisory_unlock(42)", "ROLLBACK"),
        ("SELECT pg_advisory_lock(1, 2)", "SELECT pg_try_advisory_lock_shared(3)", "SELECT pg_advisory_unlock_all()"),
        ("SELECT pg_advisory_lock(hashtext('a'))", "SELECT pg_catalog.pg_advisory_unlock(hashtext('a'))"),
    )
    not_ended: Sequence[Sequence[str]] = (
        ("BEGIN", *(f"DECLARE {c} CURSOR WITH HOLD FOR SELECT 1" for c in "ab"), "COMMIT", "CLOSE a"),
        ("LISTEN news", "BEGIN", "UNLISTEN news", "ROLLBACK"),
        ("LISTEN news", "LISTEN more", "UNLISTEN news"),
        ("PREPARE plan AS SELECT 1", "PREPARE other AS SELECT 1", "DEALLOCATE plan"),
        ("CREATE TEMP TABLE a (id int)", "CREATE TEMP TABLE b (id int)", "DROP TABLE a"),
        ("CREATE TEMP TABLE scratch (id int)", "BEGIN", "DROP TABLE scratch", "ROLLBACK"),
        ("SELECT pg_advisory_lock(42)", "SELECT pg_advisory_lock(42)", "SELECT pg_advisory_unlock(42)"),
        ("SELECT pg_advisory_lock(42)", "SELECT pg_advisory_unlock(43)"),
        ("SELECT pg_advisory_lock(42)", "SELECT pg_advisory_unlock_shared(42)"),
        ("SELECT pg_advisory_lock(n) FROM generate_series(1, 2) n", "SELECT pg_advisory_unlock(1)"),
    )
    # spellings of which the server makes something else, or nothing else
    sets_in_many_ways: Sequence[str] = (
        "SET work_mem = '2048kB'",
        "SET work_mem = 2048",
        "SET work_mem TO DEFAULT",
        "SET statement_timeout = '1min'",
        "SET lock_timeout = 2.5e3",
        "SET idle_in_transaction_session_timeout = '0.5 h'",
        "SET enable_seqscan TO no",
        "SET enable_seqscan = yes",
        "SET jit = 'f'",
        "SET random_page_cost = 1.10",
        "SET seq_page_cost = '1e0'",
        "SET search_path TO Shop,  public",
        'SET search_path = "Shop", "$user", pg_catalog',
        "SELECT set_config('search_path', 'a,b', false)",
        "SET SCHEMA 'Shop'",
        "SET TIME ZONE INTERVAL '+02:30' HOUR TO MINUTE",
        "SET TIME ZONE 'utc'",
        "SET TIME ZONE 3",
        "SET TIME ZONE LOCAL",
        "SET datestyle = german",
        "SET DateStyle TO iso, ymd",
        "SET intervalstyle = SQL_Standard",
        "SET NAMES 'utf-8'",
        "SET client_encoding TO latin1",
        "RESET client_encoding",
        "SET bytea_output = ESCAPE",
        "SET client_min_messages = Debug",
        "SET default_transaction_isolation = 'READ COMMITTED'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, DEFERRABLE",
        "SET extra_float_digits = '-2'",
        "SET xmloption = content",
        "SET application_name = 'a b''c'",
        "SET app.tenant = acme",
        'SET "app"."Region" = \'é\'',
        "SET app.flag = on",
        "RESET app.tenant",
        "SELECT set_config('app.tenant', '', false)",
        "SET ROLE NONE",
        "SET plpgsql.variable_conflict = 'USE_COLUMN'",
        "DO $$ BEGIN SET temp_buffers = '9MB'; SET gin_fuzzy_search_limit = 7; END $$",
        "BEGIN; SET work_mem = '7MB'; SAVEPOINT a; SET work_mem = '8MB'; ROLLBACK TO a; COMMIT",
        "BEGIN; SET work_mem = '70MB'; ROLLBACK",
        "RESET ALL",
    )
    # a setting, what the app sets, what happens behind the wrapper's back, and what comes of it
    unseen_changes: Sequence[tuple[str, str, str, Any]] = (
        ("work_mem", "SET work_mem = '1MB'", "SET work_mem = '3MB'", "3MB"),
        ("work_mem", "SET work_mem = '1MB'", "RESET work_mem", "4MB"),
        ("work_mem", "RESET work_mem", "SET work_mem = '5MB'", "5MB"),
        ("statement_timeout", "SELECT 1", "SET statement_timeout = '60s'", "1min"),
        ("app.tenant", "SET app.tenant = 'acme'", "SET app.tenant = 'other'", "other"),
        ("app.tenant", "SET app.tenant = 'acme'", "RESET app.tenant", ""),
        ("search_path", "SET search_path = a", "SET search_path = a, b", "a, b"),
        ("timezone", "SET TimeZone = 'Europe/Paris'", "SET TimeZone = 'UTC'", "UTC"),
        ("role", "SELECT 1", "SET ROLE app", "app"),
        ("role", "SET ROLE app", "RESET ROLE", "none"),
    )
    tenant = "app.tenant"  # the name of security state, and what sets and shows it
    sets_tenant = "SET app.tenant = 'acme'"
    sets_tenant_too = (
        "SET app.Tenant TO acme",
        "SELECT set_config('app.tenant', 'acme', false)",
        "SET LOCK_TIMEOUT = 0; SET SESSION app.tenant = 'acme'",
        "SET app.tenant = 'acme'; SELECT 1",
        "RESET app.tenant; SELECT 1",
        "RESET ALL",
        "DISCARD ALL",
        "DO $$ BEGIN PERFORM set_config('app.tenant', 'acme', false); END $$",
    )
    prepares_code = "PREPARE code AS SELECT set_config('app.tenant', 'other', false)"
    sets_other = ("SET app.other = 'acme'", "SET LOCAL app.tenant = 'acme'", "RESET app.other")
    refuses_when_cold = False
    sets_unnamed = ("SELECT set_config('app.' || 'nameless', 'hidden', false)",)  # no text and no server names it
    shows_tenant = "SELECT current_setting('app.tenant', true)"
    # parameters of a connection string
    ends_idle_transactions: Mapping[str, str] = MappingProxyType(
        {"options": "-c idle_in_transaction_session_timeout=300"}
    )
    ends_idle_sessions: Mapping[str, str] = MappingProxyType({"options": "-c idle_session_timeout=300"})
    ends_statements: Mapping[str, str] = MappingProxyType({"options": "-c statement_timeout=50"})
    commits = ("COMMIT", "END", "COMMIT AND CHAIN")
    sets_reported, shows_reported = "SET application_name = 'by_handler'", "SHOW application_name"
    reported, reported_otherwise = "by_handler", "by_app"
    part_of_answer = 12  # bytes of the answer to a COMMIT: its first message, without the one that ends it
    commits_prepared = b"COMMIT PREPARED"

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name

    @classmethod
    def prepare(cls, cluster: Cluster) -> None:
        """Nothing is needed."""

    @staticmethod
    def repair(cluster: Cluster) -> None:
        """Repair only what a test has broken: to look deeper takes long."""
        primary, standby = cluster.primary, cluster.standby
        alive = primary.alive and standby.alive
        if not (alive and primary.follows is None and standby.follows is primary):
            cluster.restore()

    def dsn(self, *hosts: Server | Proxy, **extra: Any) -> str:
        """Return a connection string for these hosts in this order; for the primary, then the standby, by default."""
        chosen = hosts or (self.cluster.primary, self.cluster.standby)
        where = {"host": ",".join(h.host for h in chosen), "port": ",".join(str(h.port) for h in chosen)}
        plain = {"sslmode": "disable", "gssencmode": "disable", "application_name": self.name}
        return conninfo(**{**where, **APP, **plain, **extra})

    @property
    def address(self) -> dict[str, Any]:
        """Where the primary is, as telemetry tells it."""
        return {"server.address": self.cluster.primary.host, "server.port": self.cluster.primary.port}

    def takes_writes(self, yes: bool) -> None:
        """Do nothing: see `refusal`."""

    def sql(self, text: str, server: Server | None = None) -> list[tuple[str | None, ...]]:
        return (server or self.cluster.primary).sql(text, "app")

    @staticmethod
    def round_trips(proxy: Proxy) -> int:
        """Return how often the server has said that it is ready, each time outside a transaction."""
        ready = proxy.seen("server").count(b"Z\x00\x00\x00\x05")
        assert proxy.seen("server").count(b"Z\x00\x00\x00\x05I") == ready
        return ready

    def sessions(self, server: Server | None = None) -> list[int]:
        """Return the sessions that the test has on a server."""
        found = self.sql(f"SELECT pid FROM pg_stat_activity WHERE application_name = '{self.name}'", server)
        return [int(pid or 0) for (pid,) in found]

    def only_session_is(self, session: int) -> bool:
        """Tell whether the test comes to have this one session on the primary and no other."""
        return guard.wait_until(lambda: self.sessions() == [session], SECONDS)

    def none_left(self, server: Server | None = None) -> bool:
        """Tell whether the test comes to have no session on a server."""
        return guard.wait_until(lambda: not self.sessions(server), SECONDS)

    def end_sessions(self, server: Server | None = None, only: int | None = None) -> None:
        """End them, or one; return when their processes are gone, and with them the last byte that they sent."""
        gone = [only] if only else self.sessions(server)
        for session in gone:
            self.sql(f"SELECT pg_terminate_backend({session})", server)
        assert guard.wait_until(lambda: not any(map(_runs, gone)), SECONDS)

    def wait_running(self, server: Server | None = None) -> None:
        """Wait until a session of the test runs the slow statement."""
        text = f"SELECT 1 FROM pg_stat_activity WHERE application_name = '{self.name}' AND state = 'active'"
        assert guard.wait_until(lambda: bool(self.sql(f"{text} AND query LIKE '%pg_sleep%'", server)), SECONDS)

    def state_of(self, session: int) -> str | None:
        """Return "idle", "idle in transaction", ..."""
        return self.sql(f"SELECT state FROM pg_stat_activity WHERE pid = {session}")[0][0]

    def make_table(self) -> str:
        name = f"rows_of_{self.name}"
        self.sql(f"CREATE TABLE {name} (id int); GRANT ALL ON {name} TO PUBLIC")
        return name

    def ids(self, table: str) -> list[int]:
        return [int(number or 0) for (number,) in self.sql(f"SELECT id FROM {table} ORDER BY id")]

    def make_account(self, password: str) -> dict[str, str]:
        """Make an account; return what a connection string needs for it."""
        self.sql(f"CREATE ROLE {self.name} LOGIN PASSWORD '{password}'")
        return {"user": self.name, "password": password}

    def change_password(self, password: str) -> None:
        self.sql(f"ALTER ROLE {self.name} PASSWORD '{password}'")

    def make_database(self) -> dict[str, str]:
        """Make a database; return what a connection string needs for it."""
        self.cluster.primary.sql(f"CREATE DATABASE {self.name} OWNER app")
        return {"dbname": self.name}

    def drop_database(self) -> None:
        self.cluster.primary.sql(f"DROP DATABASE {self.name}")

    def two_phase(self, *statements: str) -> tuple[str, ...]:
        """Return the texts of a two-phase transaction; the last one prepares it."""
        return (*statements, f"PREPARE TRANSACTION '{self.name}'")

    def prepared(self) -> int:
        """Tell how many transactions are prepared."""
        return len(self.sql("SELECT gid FROM pg_prepared_xacts"))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The primary's processes stand still: connections stay, nothing answers."""
        self.cluster.primary.freeze()
        try:
            yield
        finally:
            self.cluster.primary.thaw()

    def settle(self) -> None:
        """Give up what a test left prepared: it holds locks."""
        for (gid,) in self.sql("SELECT gid FROM pg_prepared_xacts"):
            self.sql(f"ROLLBACK PREPARED '{gid}'")


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks only
    except ProcessLookupError:
        return False
    return True
