"""What an app may do with its session on MariaDB or MySQL, at random, and the server's own account to compare with.

The app knows nothing of what its statements mean: it only sends them. Whether what we say of the session is right, the
server says, asked on the same physical connection past everything that is patched.
"""

from __future__ import annotations

import re
import select
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import pymysql
from pymysql.connections import MySQLResult
from pymysql.constants import CLIENT, SERVER_STATUS
from pymysql.cursors import SSCursor

import instrumented_wrapper
from instrumented_wrapper import FailoverError

SYSTEM = (
    *("autocommit", "tx_isolation", "tx_read_only", "time_zone", "sql_mode", "lock_wait_timeout", "sql_select_limit"),
    *("character_set_client", "character_set_results", "character_set_connection", "collation_connection"),
    *("foreign_key_checks", "max_statement_time", "div_precision_increment"),
)
OURS = {"tx_isolation": "isolation_level", "tx_read_only": "read_only"}
# MySQL's own names.
THEIRS = {
    "tx_isolation": "transaction_isolation",
    "tx_read_only": "transaction_read_only",
    "max_statement_time": "max_execution_time",
}
USERS = ("@a", "@b", "@c", "@`odd one`", "@_gives_0")
SWITCHES = {"ON": "1", "OFF": "0"}
ASKED = (*SYSTEM, "database", "role", *USERS)
SETUP = """
CREATE ROLE IF NOT EXISTS walker; GRANT walker TO app;
CREATE TABLE IF NOT EXISTS walked (i int);
CREATE TABLE IF NOT EXISTS triggering (i int);
CREATE OR REPLACE TRIGGER sets BEFORE INSERT ON triggering FOR EACH ROW SET lock_wait_timeout = NEW.i;
CREATE OR REPLACE PROCEDURE sets_zone() BEGIN SET time_zone = '+07:00'; SET sql_select_limit = 50; END;
CREATE OR REPLACE PROCEDURE sets_and_shows() BEGIN SET div_precision_increment = 9; SELECT 1; SELECT 2; END;
CREATE OR REPLACE PROCEDURE commits() BEGIN SET lock_wait_timeout = 70; COMMIT; END;
CREATE OR REPLACE PROCEDURE gives(OUT x int) SET x = 5;
CREATE OR REPLACE PROCEDURE remembers() SET @b = 'by procedure';
CREATE OR REPLACE FUNCTION sets_limit(n int) RETURNS int DETERMINISTIC NO SQL
  BEGIN SET sql_select_limit = n; RETURN n; END;
CREATE OR REPLACE FUNCTION sets_user() RETURNS int DETERMINISTIC NO SQL BEGIN SET @c = 'by function'; RETURN 1; END;
"""


def setup(mysql: bool) -> list[str]:
    """Return the statements that make what the walks use; MySQL replaces nothing that is there."""
    found = []
    for text in SETUP.strip().removesuffix(";").split(";\n"):
        if mysql and (match := re.match(r"\s*CREATE OR REPLACE (\w+) (\w+)", text)):
            found.append(f"DROP {match[1]} IF EXISTS {match[2]}")
            text = text.replace("OR REPLACE ", "", 1)
        found += text.split("; ") if "ROLE" in text else [text]
    return found


UNNAMED = "session state"
PLAIN = (
    "SET time_zone = '+01:00'",
    "SET SESSION time_zone = 'SYSTEM', lock_wait_timeout = 55",
    "SET LOCAL lock_wait_timeout = 56",
    "SET @@lock_wait_timeout := 57",
    "SET @@session.lock_wait_timeout = 58, @@local.time_zone = '+02:00'",
    "SET @@LOCAL . `lock_wait_timeout` = 59",
    "SET lock_wait_timeout = DEFAULT",
    "SET lock_wait_timeout = @@global.lock_wait_timeout - 1",
    "SET lock_wait_timeout = (SELECT 60)",
    "SET GLOBAL lock_wait_timeout = 1",
    "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
    "SET sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')",
    "SET sql_mode = ''",
    "SET sql_mode = DEFAULT",
    "SET sql_mode = 'no such mode'",
    "SET NAMES latin1",
    "SET NAMES 'utf8mb4' COLLATE 'utf8mb4_bin'",
    "SET NAMES utf8mb3, @a = 3",
    "SET @a = 1, NAMES utf8mb4, time_zone = '+03:00'",
    "SET NAMES DEFAULT",
    "SET NAMES binary",
    "SET CHARACTER SET latin1",
    "SET CHARSET utf8mb4",
    "SET collation_connection = utf8mb4_german2_ci",
    "SET character_set_results = NULL",
    "SET character_set_client = utf16",
    "SET foreign_key_checks = OFF, @@sql_select_limit = 10",
    "SET foreign_key_checks = 1",
    "SET max_statement_time = 100.5",
    "SET max_execution_time = 5000",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET LOCAL TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
    "SET SESSION TRANSACTION READ WRITE",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET TRANSACTION READ ONLY",
    "SET tx_isolation = 'READ-UNCOMMITTED'",
    "SET SESSION tx_read_only = ON",
    "SET @@tx_read_only = 0",
    "SET transaction_isolation = 'READ-UNCOMMITTED'",
    "SET SESSION transaction_read_only = ON",
    "SET @@transaction_read_only = 0",
    "SET autocommit = 0",
    "SET autocommit = ON",
    "SET @a = 'one', @b := 2",
    "SET @a = 'it''s', @b = 'back\\\\slash', @C = \"quo'te\"",
    "SET @a = _binary'\\0\\1', @b = X'6100', @c = 0x41",
    "SET @a = NULL, @b = -1.50, @c = 1e3",
    "SET @a = TRUE, @b = @a, @c = CONCAT(@b, 'x')",
    "SET @`odd one` = 'grüße', @'a' = 12",
    "SET @a = _latin1'abc', @b = 'x' COLLATE utf8mb4_bin",
    "SET @a = 5 + 0, @b = 1.50 + 0, @c = 1e0 / 3",
    "SET @a = CAST(5 AS UNSIGNED), @b = CAST(5 AS DECIMAL(5, 0)), @c = NOW()",
    "GET DIAGNOSTICS @a = NUMBER, @b = ROW_COUNT",
    "SELECT 1, 'two' INTO /* both */ @a, @b",
    "SET @a = (SELECT COUNT(*) FROM walked), @@time_zone = '+04:00'",
    "SELECT @a := 1, @b := @a + 1",
    "SELECT 3, 'four' INTO @a, @b",
    "SELECT i INTO @a FROM walked LIMIT 1",
    "SELECT 'it' := 5",
    "/*! SET time_zone = '+05:00' */",
    "/*!99999 SET time_zone = '+12:00' */",
    "/* SET time_zone = '+12:00' */ SELECT 1",
    "SET /* a */ time_zone -- b\n = '+06:00'",
    "SET STATEMENT lock_wait_timeout = 5, max_statement_time = 3 FOR SELECT 1",
    "SET STATEMENT lock_wait_timeout = 5 FOR DO 0",
    "SET STATEMENT sql_select_limit = 5 FOR SELECT @a := 9",
    "SET STATEMENT time_zone = '+09:00' FOR CALL sets_zone()",
    "SET ROLE walker",
    "SET ROLE NONE",
    "SET ROLE ALL",
    "SET ROLE DEFAULT",
    'SET ROLE "walker"',
    "SET ROLE no_such_role",
    "SET DEFAULT ROLE NONE",
    "SET PASSWORD FOR nobody = PASSWORD('x')",
    "SET no_such_variable = 1",
    "SET time_zone = '+08:00', no_such_variable = 1",
    "SET timestamp = 1, insert_id = 5",
    "USE other",
    "USE `app`",
    "USE nowhere",
    "CALL sets_zone()",
    "CALL sets_and_shows()",
    "CALL commits()",
    "CALL gives(@a)",
    "CALL no_such_procedure()",
    "SELECT sets_limit(33)",
    "SELECT sets_limit(34), 1/0",
    "INSERT INTO triggering VALUES (81)",
    "INSERT INTO app.walked VALUES (1)",
    "DO sets_limit(35)",
    "PREPARE p FROM 'SET time_zone = ''+10:00'''",
    "EXECUTE p",
    "EXECUTE IMMEDIATE 'SET lock_wait_timeout = 99'",
    "DEALLOCATE PREPARE p",
    "BEGIN NOT ATOMIC SET time_zone = '+11:00'; END",
    "BEGIN",
    "START TRANSACTION READ ONLY",
    "COMMIT",
    "COMMIT AND CHAIN",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "SELECT * FROM app.walked",
    "SELECT * FROM app.walked FOR UPDATE",
    "SELECT 1",
    "SHOW WARNINGS",
    "nonsense",
    "CREATE OR REPLACE TABLE app.made (i int)",
)
NAMELESS = ("CALL remembers()", "SELECT sets_user()")  # of what they set no name is ever told


class RandomApp:
    """One app with one connection. `dice` decides what it does."""

    errors: Any = pymysql.Error  # what its driver raises
    unbuffered_cursor: Any = SSCursor
    verbs: Mapping[str, Any] = MappingProxyType(
        {"reset_session": instrumented_wrapper.reset_session, "switch": instrumented_wrapper.switch}
    )

    def __init__(self, connection: Any, kill: Callable[[int], object], mysql: bool = False) -> None:
        self.connection, self.kill = connection, kill
        self.theirs = THEIRS if mysql else {}
        self.ours = self.theirs | OURS
        self.dice: Any = None
        self.log: list[str] = []
        self.vague: set[str] = set()
        self.pristine = self.server()

    # --- what the server says ------------------------------------------------------------------------------------

    def rows(self, text: str) -> Any:
        """Ask past everything that is patched; no trace of it is left."""
        connection = self.connection
        kept, connection._result = connection._result, None
        try:
            connection._execute_command(3, text)
            result = MySQLResult(connection)
            result.read()
        finally:
            connection._result = kept
        return result.rows

    def server(self) -> dict[str, str | None]:
        asked = [f"@@session.{self.theirs.get(name, name)}" for name in SYSTEM]
        asked += ["DATABASE()", "CURRENT_ROLE()", *USERS]
        text, raw = "HEX(CONVERT({0} USING utf8mb4))", "HEX(CONCAT({0}))"
        whole = f"IF(CHARSET({{0}}) = 'binary', {raw}, {text})"
        cells = ((whole if what[0] == "@" and what[1] != "@" else text).format(what) for what in asked)
        (row,) = self.rows(f"SELECT {', '.join(cells)}")
        row = [cell.decode() if isinstance(cell, bytes) else cell for cell in row]
        cells = [None if cell is None else bytes.fromhex(cell).decode(errors="surrogateescape") for cell in row]
        return {name: SWITCHES.get(cell or "", cell) for name, cell in zip(ASKED, cells, strict=True)}

    def kinds(self) -> dict[str, Any]:
        """What the server says of the user variables besides their values."""
        kind = "JSON_TYPE(JSON_EXTRACT(JSON_ARRAY({0}), _utf8mb4'$[0]'))" if self.theirs else "COERCIBILITY({0})"
        asked = (f"CONCAT(COLLATION({name}), {kind.format(name)})" for name in USERS)
        (row,) = self.rows(f"SELECT {', '.join(asked)}")
        return dict(zip(USERS, row, strict=True))

    @property
    def healthy(self) -> bool:
        result = self.connection._result
        reading = result is not None and (result.unbuffered_active or result.has_next)
        return self.is_open() and not reading

    def is_open(self) -> bool:
        return self.connection._sock is not None

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the driver, or a verb of the package."""
        return function(*arguments)

    @property
    def idle(self) -> bool:
        return self.healthy and not self.connection.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS

    def compare(self) -> None:
        """Compare what we say with what the server says."""
        if not self.healthy:
            return
        try:
            self.send("SELECT 'heard'")  # what was reported with a later result is taken then
            self.send("SELECT 'compared'")  # what is in doubt is asked before what comes next
        except self.errors:
            return
        there, state = self.server(), instrumented_wrapper.session_state(self.connection)
        for name in ASKED:
            known = state.get(self.ours.get(name, name).replace("`", ""))
            told = self.pristine[name] if known is None or known.is_pristine else text_of(known.value)
            if name not in self.vague:
                said = f"{name}: we say {told!r}, the server {there[name]!r}"
                assert same(name, told, there[name]), f"{said}\n{self.story()}"

    def story(self) -> str:
        return "\n".join(self.log)

    # --- what the app does ---------------------------------------------------------------------------------------

    def do(self, thing: str, dice: Any) -> None:
        """Do one thing; errors are the app's own business."""
        self.dice = dice
        with suppress(self.errors):
            getattr(self, thing)()

    def send(self, text: str, *args: Any, kind: Any = None) -> Any:
        self.log.append(f"{text!r} {args or ''}")
        with self.connection.cursor(kind) as cursor:
            cursor.execute(text, *args)
            rows = cursor.fetchall()
            while cursor.nextset():
                cursor.fetchall()
        return rows

    def plain(self) -> None:
        self.send(self.dice.choice(PLAIN))

    def nameless(self) -> None:
        text = self.dice.choice(NAMELESS)
        self.vague.add("@b" if "remembers" in text else "@c")
        self.send(text)

    def several(self) -> None:
        self.send("; ".join(self.dice.choice(PLAIN) for _ in range(self.dice.randint(2, 3))))

    def unbuffered(self) -> None:
        texts = ["SELECT sets_limit(44)", "CALL sets_and_shows()", "SELECT * FROM app.walked", "SELECT @a := 3"]
        self.send(self.dice.choice(texts), kind=self.unbuffered_cursor)

    def word(self) -> Any:
        return self.dice.choice(["a", "it's", "", 'quo"te', "back\\slash", "ü", "\x00\x1a", 5, 1.5, None, b"\xff'\x00"])

    def parameters(self) -> None:
        ways: list[tuple[str, Any]] = [
            ("SET @a = %s, @b = %s", (self.word(), self.word())),
            ("SET @a = %(x)s, time_zone = %(z)s", {"x": self.word(), "z": self.dice.choice(["+01:30", "nowhere"])}),
            ("SET @`odd one` = CONCAT(%s, 'x')", (self.word(),)),
            ("SELECT @a := %s", (self.word(),)),
            ("SELECT sets_limit(%s)", (self.dice.randint(1, 99),)),
        ]
        self.send(*self.dice.choice(ways))

    def method(self) -> None:
        ways: list[tuple[str, tuple[Any, ...]]] = [
            ("autocommit", (self.dice.random() < 0.5,)),
            ("select_db", (self.dice.choice(["app", "other", "nowhere"]),)),
            *self.character_sets(),
            *((name, ()) for name in ("begin", "commit", "rollback", "show_warnings", "ping")),
        ]
        name, arguments = self.dice.choice(ways)
        self.log.append(f"{name}{arguments}")
        with suppress(KeyError, AttributeError):  # PyMySQL's own, for a character set that it does not know
            self.call(getattr(self.connection, name), *arguments)

    def character_sets(self) -> list[tuple[str, tuple[Any, ...]]]:
        one = self.dice.choice(["latin1", "utf8mb4", "utf8mb3", "no_such_set"])
        return [("set_character_set", (one,)), ("set_character_set", ("utf8mb4", "utf8mb4_bin"))]

    def procedure(self) -> None:
        name, arguments = self.dice.choice([("sets_zone", ()), ("gives", (0,)), ("sets_and_shows", ())])
        self.log.append(f"callproc {name}{arguments}")
        with self.connection.cursor() as cursor:
            cursor.callproc(name, arguments)

    def reset(self) -> None:
        self.call(self.connection.rollback)
        self.log.append("reset")
        assert self.call(self.verbs["reset_session"], self.connection), self.story()
        self.agrees(self.pristine)

    def switch(self) -> None:
        self.call(self.connection.rollback)
        self.log.append("switch")
        self.moved(lambda: self.call(self.verbs["switch"], self.connection))

    def lose(self) -> None:
        """The server ends the session, and the app goes on."""
        if not self.idle:
            return
        self.log.append("lost")
        self.moved(self.lost_and_used)

    def lost_and_used(self) -> None:
        self.kill(self.connection.thread_id())
        self.wait_for_end()
        self.send("SELECT 1")

    def wait_for_end(self) -> None:
        """Wait until the end of the session has come to the driver."""
        assert select.select([self.connection._sock], [], [], 10)[0]

    def moved(self, how: Callable[[], None]) -> None:
        """All that the old session had the new one has, or it is named."""
        before, kinds = self.server(), self.kinds()
        error = told_by(how)
        assert error is None or (error.transaction, error.may_have_run) == ("none", False), self.story()
        named = () if error is None else error.not_restored
        missing = {name for name in ASKED if self.ours.get(name, name).replace("`", "") in named}
        self.agrees({name: value for name, value in before.items() if name not in missing}, UNNAMED in named)
        for name, kind in self.kinds().items():
            certain = before[name] is not None and name not in self.vague | missing and UNNAMED not in named
            assert not certain or kind == kinds[name], f"{name}: was {kinds[name]}, is {kind}\n{self.story()}"

    def agrees(self, wanted: dict[str, str | None], unnamed: bool = False) -> None:
        there = self.server()
        for name, value in wanted.items():
            assert same(name, value, there[name]) or name in self.vague or (unnamed and name[0] == "@"), (
                f"{name}: was {value!r}, is {there[name]!r}\n{self.story()}"
            )


def told_by(how: Callable[[], None]) -> FailoverError | None:
    try:
        how()
    except FailoverError as error:
        return error
    return None


def text_of(value: Any) -> str | None:
    return value if value is None else str(int(value)) if isinstance(value, bool) else str(value)


def same(name: str, told: str | None, there: str | None) -> bool:
    if name == "role":  # MySQL quotes it, and names its host
        told, there = (re.sub(r"[`\"]|@[`\"]?%|^NONE$", "", text or "") for text in (told, there))
    if told is None or there is None:
        return (told or "") == (there or "")
    if told.lower() == there.lower() if name[0] != "@" else told == there:
        return True
    with suppress(ValueError):
        return float(told) == float(there)
    return False


FLAGS = CLIENT.MULTI_STATEMENTS
