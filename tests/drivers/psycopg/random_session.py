"""What an app may do with its session, at random, and the server's own account of it to compare with.

The app knows nothing of what its statements mean: it only sends them. Whether what we say of the session is right, the
server says, asked on the same physical connection past everything that is patched.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql

import instrumented_wrapper

CUSTOM = ("app.tenant", "app.trace", "app.by_function", "app.by_do", "app.by_call")
WATCHED = (
    *("search_path", "statement_timeout", "lock_timeout", "work_mem", "timezone", "datestyle", "application_name"),
    *("default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"),
    *("extra_float_digits", "client_encoding", "xmloption", "intervalstyle", "role", "session_authorization", *CUSTOM),
)
OF_THE_TRANSACTION = {"seed", "transaction_isolation", "transaction_read_only", "transaction_deferrable"}
SETUP = """
CREATE SCHEMA IF NOT EXISTS walk;
CREATE OR REPLACE FUNCTION walk.sets(v text) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('app.by_function', v, false); PERFORM set_config('lock_timeout', '7', false);
     RETURN v; END $$;
CREATE OR REPLACE FUNCTION walk.outer_sets(v text) RETURNS text LANGUAGE sql AS $$ SELECT walk.sets(v) $$;
CREATE OR REPLACE FUNCTION walk.harmless(v text) RETURNS text LANGUAGE sql AS $$ SELECT upper(v) $$;
CREATE OR REPLACE PROCEDURE walk.commits() LANGUAGE plpgsql AS
  $$ BEGIN SET work_mem = '6MB'; COMMIT; SET lock_timeout = 9; END $$;
CREATE OR REPLACE PROCEDURE walk.names() LANGUAGE plpgsql AS $$ BEGIN SET app.by_call = 'x'; END $$;
CREATE OR REPLACE FUNCTION walk.nameless(n text, v text) RETURNS text LANGUAGE sql AS
  $$ SELECT set_config('app.' || n, v, false) $$;
GRANT USAGE ON SCHEMA walk TO PUBLIC;
"""

PLAIN = (
    "SET search_path TO walk, public",
    "SET search_path = \"$user\", 'Odd one', walk",
    "SET SCHEMA 'walk'",
    "set /* a */ statement_timeout -- b\n = 50000",
    "SET statement_timeout TO '40s'",
    "SET SESSION lock_timeout = 3000",
    "SET LOCAL lock_timeout = 4000",
    "SET LOCAL app.tenant = 'local'",
    "SET LOCAL TIME ZONE 'Asia/Tokyo'",
    "SET work_mem = '5MB'",
    'SET "work_mem" TO DEFAULT',
    "SET TIME ZONE 'Europe/Paris'",
    "SET TimeZone = 'UTC'",
    "SET TIME ZONE -7",
    "SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE",
    "SET TIME ZONE LOCAL",
    "SET datestyle = 'SQL, DMY'",
    "SET DateStyle TO ISO, YMD",
    "SET application_name = 'it''s me'",
    "SET application_name TO $$dollars$$",
    "SET application_name = E'odd\\\\one'",
    "SET NAMES 'UTF8'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE, DEFERRABLE",
    "SET default_transaction_isolation = 'serializable'",
    "SET extra_float_digits = -1",
    "SET xml option content",
    "SET intervalstyle = iso_8601",
    "SET app.tenant = 'one'",
    "SET app.tenant TO two",
    "SET App.Trace = 17",
    "SET app.trace = ''",
    "SET seed = 0.5",
    "RESET search_path",
    "RESET app.tenant",
    "RESET TIME ZONE",
    "RESET statement_timeout",
    "RESET ALL",
    "DISCARD ALL",
    "SET ROLE walk_tenant",
    "SET LOCAL ROLE walk_tenant",
    "SET ROLE NONE",
    "RESET ROLE",
    "SET SESSION AUTHORIZATION walk_tenant",
    "SET LOCAL SESSION AUTHORIZATION walk_tenant",
    "RESET SESSION AUTHORIZATION",
    "SELECT set_config('app.tenant', 'three', false)",
    "SELECT set_config('app.tenant', 'four', true)",
    "SELECT pg_catalog.set_config('work_mem', '8MB', false) AS a, set_config('search_path', 'walk, public', false)",
    "SELECT set_config('lock_timeout', NULL, false)",
    "SELECT set_config('app.trace', n::text, false) FROM generate_series(1, 3) n",
    "SELECT set_config('app.trace', 'never', false) WHERE false",
    "SELECT CASE WHEN now() > '2000-01-01' THEN set_config('app.tenant', 'maybe', false) END",
    "DO $$ BEGIN SET app.by_do = 'x'; PERFORM set_config('search_path', 'walk', false); END $$",
    "DO $$ BEGIN EXECUTE 'SET statement_timeout = 60000'; END $$",
    "SELECT walk.sets('f')",
    "SELECT walk.outer_sets('g')",
    "SELECT walk.harmless('h')",
    "CALL walk.commits()",
    "CALL walk.names()",
    "SELECT 1",
    "SELECT 1 / 0",
    "SELECT pg_terminate_backend(pg_backend_pid())",
    "SET app.tenant = 'lost'; SELECT pg_terminate_backend(pg_backend_pid())",
    "SET no_such_setting = 1",
    "SET work_mem = 'no amount'",
    "SET app.tenant = 'five'; SET app.trace = 'six'",
    "SET app.tenant = 'seven'; SELECT 1 / 0; SET app.trace = 'eight'",
    "BEGIN; SET work_mem = '7MB'; ROLLBACK; SET app.trace = 'nine'",
    "SET app.tenant = 'ten'; COMMIT; SELECT 1 / 0",
    "SET app.tenant = 'eleven'; ROLLBACK; SET app.trace = 'twelve'",
    "BEGIN; SAVEPOINT a; SET app.tenant = 'thirteen'; ROLLBACK TO a; COMMIT",
    "PREPARE p AS SELECT set_config('app.tenant', 'prepared', false)",
    "EXECUTE p",
    "DEALLOCATE ALL",
    "BEGIN",
    "START TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    "SAVEPOINT a",
    'SAVEPOINT "B"',
    "ROLLBACK TO a",
    'ROLLBACK WORK TO SAVEPOINT "B"',
    "RELEASE a",
    'RELEASE SAVEPOINT "B"',
)


# What is known only when the transaction has ended: until then, what the server has is not compared.
LATER = re.compile(r"local|cursor|pipeline|set_config|\bdo\b|call|execute|walk\.|sql\.|;", re.IGNORECASE)
IDLE, INTRANS, ACTIVE = (
    psycopg.pq.TransactionStatus.IDLE,
    psycopg.pq.TransactionStatus.INTRANS,
    psycopg.pq.TransactionStatus.ACTIVE,
)


class RandomApp:
    """One app with one connection. `dice` decides what it does."""

    def __init__(self, connection: Any, end_session: Callable[[int], object]) -> None:
        self.connection, self.end_session = connection, end_session
        self.dice: Any = None
        self.log: list[str] = []
        self.exact = True  # nothing in this transaction is known only when it has ended
        self.pristine = {name: self.server(name) for name in WATCHED}

    # --- what the server says ------------------------------------------------------------------------------------

    def rows(self, text: str) -> list[list[str | None]]:
        result = self.connection.pgconn.exec_(text.encode())
        assert not result.error_message, result.error_message
        columns = range(result.nfields)
        cells = ([result.get_value(row, column) for column in columns] for row in range(result.ntuples))
        return [[None if cell is None else cell.decode() for cell in row] for row in cells]

    def server(self, name: str) -> str | None:
        return self.rows(f"SELECT current_setting('{name}', true)")[0][0]

    def spelled(self, name: str, value: str | None) -> str | None:
        """Return a value as the server spells it; nothing of the question remains."""
        if name in ("role", "session_authorization"):
            return value
        quoted = "NULL" if value is None else "'" + value.replace("'", "''") + "'"
        question = f"SELECT set_config('{name}', {quoted}, true)"
        if self.status == IDLE:
            return self.rows(question)[0][0]
        self.rows("SAVEPOINT question")
        answer = self.rows(question)[0][0]
        self.rows("ROLLBACK TO question")
        self.rows("RELEASE question")
        return answer

    @property
    def status(self) -> psycopg.pq.TransactionStatus:
        return self.connection.info.transaction_status

    def compare(self) -> None:
        """Compare what we say with what the server says, where both can be asked."""
        if self.status not in (IDLE, INTRANS) or (self.status == INTRANS and not self.exact):
            return
        self.exact = True
        state = instrumented_wrapper.session_state(self.connection)
        for name in WATCHED:
            there, known = self.server(name), state.get(name)
            told = self.pristine[name] if known is None or known.is_pristine else self.spelled(name, known.value)
            assert (told or "") == (there or ""), f"{name}: we say {told!r}, the server {there!r}\n" + self.story()
        listed = {row[0] for row in self.rows("SELECT lower(name) FROM pg_settings WHERE source = 'session'")}
        unknown = listed - set(state) - OF_THE_TRANSACTION
        assert all(self.server(str(name)) == self.pristine.get(str(name)) for name in unknown), self.story()

    def story(self) -> str:
        return "\n".join(self.log)

    # --- what the app does ---------------------------------------------------------------------------------------

    def do(self, thing: str, dice: Any) -> None:
        """Do one thing; errors are the app's own business."""
        self.dice = dice
        try:
            getattr(self, thing)()
        except (psycopg.Error, psycopg.Rollback):
            pass
        except AssertionError as error:  # psycopg 3.2 has some of its own, for blocks that SQL text has ended
            if not traceback.extract_tb(error.__traceback__)[-1].filename.startswith(psycopg.__path__[0]):
                raise

    def send(self, text: Any, *args: Any, **keywords: Any) -> Any:
        self.note(f"{text!r} {args or ''} {keywords or ''}")
        return self.connection.execute(text, *args, **keywords)

    def note(self, line: str) -> None:
        self.log.append(line)
        self.exact = self.exact and not LATER.search(line)

    def plain(self) -> None:
        self.send(self.dice.choice(PLAIN))

    def word(self) -> str:
        return self.dice.choice(["a", "it's", "", "x y", 'quo"te', "back\\slash", "ü"])

    def parameters(self) -> None:
        name = self.dice.choice(CUSTOM)
        ways: list[tuple[str, Any]] = [
            ("SELECT set_config('app.tenant', %s, false)", [self.word()]),
            ("SELECT set_config(%s, %s, %s)", [name, self.word(), self.dice.random() < 0.3]),
            ("SELECT set_config(%(n)s, %(v)s::text, false)", {"n": name, "v": self.word()}),
            ("SELECT set_config(%s, %s || 'b', false)", [name, self.word()]),
            ("SELECT walk.sets(%s)", [self.word()]),
            ("SELECT walk.nameless('hidden', %s)", [self.word()]),
            ("SELECT %s", [1]),
        ]
        self.send(*self.dice.choice(ways))

    def composed(self) -> None:
        text = sql.SQL("SET {} TO {}").format(sql.Identifier(self.dice.choice(["app", "walk"]), "x"), self.word())
        self.send(text if self.dice.random() < 0.5 else sql.SQL("SET SESSION lock_timeout TO {}").format(42))

    def client_side(self) -> None:
        cursor = psycopg.ClientCursor(self.connection)
        text, value = self.dice.choice([("SET application_name = %s", self.word()), ("SET lock_timeout TO %s", 77)])
        self.note(f"client side {text} {value!r}")
        cursor.execute(text, [value])

    def many(self) -> None:
        rows = [(self.dice.choice(CUSTOM), self.word()) for _ in range(3)]
        self.note(f"executemany {rows}")
        self.connection.cursor().executemany("SELECT set_config(%s, %s, false)", rows)

    def pipeline(self) -> None:
        self.note("pipeline {")
        try:
            with self.connection.pipeline() as pipeline:
                for _ in range(self.dice.randint(1, 4)):
                    text = self.dice.choice(PLAIN)
                    if ";" not in text and "CALL" not in text:
                        self.send(text)
                    if self.dice.random() < 0.2:
                        self.note("sync")
                        pipeline.sync()
        finally:
            self.note("}")
            if self.status == IDLE:
                self.connection.execute("SELECT 1")  # what a pipeline leaves in doubt is asked before what comes next
                self.connection.rollback()

    def block(self, depth: int = 0) -> None:
        self.note("block {")
        try:
            with self.connection.transaction(force_rollback=self.dice.random() < 0.1):
                for _ in range(self.dice.randint(0, 4)):
                    self.dice.choice([self.plain, self.plain, self.parameters, self.many])()
                if depth < 2 and self.dice.random() < 0.5:
                    with suppress(psycopg.Error):
                        self.block(depth + 1)
                if self.dice.random() < 0.2:
                    raise psycopg.Rollback
        finally:
            self.note("}")

    def finish(self) -> None:
        if self.status != ACTIVE:
            end = self.dice.choice(["commit", "rollback"])
            self.note(end)
            getattr(self.connection, end)()

    def prepared(self) -> None:
        for _ in range(2):
            self.send("SELECT set_config('app.trace', %s, false)", [self.word()], prepare=True)

    def server_cursor(self) -> None:
        self.note("server cursor")
        with self.connection.transaction(), self.connection.cursor("walk") as cursor:
            cursor.execute("SELECT set_config('app.trace', n::text, false) FROM generate_series(1, 5) n")
            cursor.fetchone()

    def switch(self) -> None:
        self.note("switch")
        with suppress(psycopg.ProgrammingError, instrumented_wrapper.FailoverSuccessError):
            instrumented_wrapper.switch(self.connection)

    def reset(self) -> None:
        self.note("reset")
        with suppress(psycopg.ProgrammingError):
            done = instrumented_wrapper.reset_session(self.connection)
            assert done or self.connection.broken, self.story()  # of a lost session the next statement moves it

    def lose(self) -> None:
        """The server ends the session, and the app goes on."""
        self.note("lost")
        self.end_session(self.connection.info.backend_pid)
        self.send("SELECT 1")
