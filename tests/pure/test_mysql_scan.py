"""What the texts of MySQL and MariaDB do to a session, and what their servers report: as tables, without a server."""

import pytest

from instrumented_wrapper.databases import mysql
from instrumented_wrapper.databases.mysql import tracking
from instrumented_wrapper.statement import DOUBT, SET, SET_LOCAL, Effects

NAMES = {"character_set_client": "latin1", "character_set_results": "latin1", "character_set_connection": "latin1"}
IN_DOUBT = "?"


def effects_of(text: str) -> Effects:
    return mysql.scan(text) or Effects()


def told(text: str) -> dict[str, str | None]:
    """What is set, by name; a question mark where the text does not tell."""
    steps = effects_of(text).steps
    return {str(s.name): str(s.value) if s.kind == SET else IN_DOUBT for s in steps if s.kind in (SET, DOUBT)}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("SET time_zone = '+01:00'", {"time_zone": "+01:00"}),
        ("set session time_zone := '+01:00', lock_wait_timeout = 5", {"time_zone": "+01:00", "lock_wait_timeout": "5"}),
        ("SET @@time_zone='+01:00', @@LOCAL . `x` = 1, @@session.y=2", {"time_zone": "+01:00", "x": "1", "y": "2"}),
        ("SET GLOBAL x = 1, y = 2", {}),  # the scope holds for what follows it
        ("SET GLOBAL x = 1, SESSION y = 2, @@persist.z = 3", {"y": "2"}),
        ("SET x = DEFAULT, y = 1 + 1", {"x": IN_DOUBT, "y": IN_DOUBT}),
        ("SET foreign_key_checks = OFF, unique_checks = TRUE", {"foreign_key_checks": "0", "unique_checks": "1"}),
        ("SET SESSION TRANSACTION READ ONLY, ISOLATION LEVEL READ COMMITTED", {"read_only": "1"}
         | {"isolation_level": "READ-COMMITTED"}),
        ("SET SESSION tx_isolation = 'read-committed'", {"isolation_level": "READ-COMMITTED"}),
        ("SET NAMES latin1", {**NAMES, "collation_connection": IN_DOUBT}),
        ("SET NAMES latin1 COLLATE latin1_bin, @a = 1", {**NAMES, "collation_connection": "latin1_bin", "@a": "1"}),
        ("SET @a = 1, NAMES latin1", {"@a": "1", **NAMES, "collation_connection": IN_DOUBT}),
        ("SET collation_connection = latin1_bin", {"collation_connection": "latin1_bin"}
         | {"character_set_connection": IN_DOUBT}),
        ("SET @A = 'it''s', @`odd one` = -1.5", {"@a": "it's", "@odd one": "-1.5"}),
        ("SET @a = 'é', @b = 'a\\nb', @c = X'41', @d = 1, @e = @d", {"@a": IN_DOUBT, "@b": IN_DOUBT, "@c": IN_DOUBT}
         | {"@d": "1", "@e": IN_DOUBT}),
        ("SELECT @a := 1, i INTO @b FROM t", {"@a": IN_DOUBT, "@b": IN_DOUBT}),
        ("SELECT 1, 2 INTO @a, @b", {"@a": IN_DOUBT, "@b": IN_DOUBT}),
        ("/*!40101 SET time_zone = '+01:00' */", {"time_zone": "+01:00"}),
        ("/*!99999 SET time_zone = '+01:00' */", {"time_zone": IN_DOUBT}),
        ("/* SET time_zone = '+01:00' */ SELECT 1", {}),
        ("USE `other`", {"database": "other"}),
        ("SET ROLE admin", {"role": "admin"}),
        ("SET DEFAULT ROLE admin", {}),
        ("SET PASSWORD FOR a = PASSWORD('x')", {}),
        ("SET timestamp = 1, insert_id = 2", {"timestamp": "1", "insert_id": "2"}),
        ("SET timestamp = DEFAULT, identity = 3", {"timestamp": "0", "last_insert_id": "3"}),
        ("SET rand_seed1 = 1, @x = 2", {"@x": "2"}),
        ("SET warning_count = 1, statement_id = 2", {}),
        ("SET ROLE NONE", {"role": "NONE"}),
        ("SET ROLE ALL", {"role": IN_DOUBT}),
        ("SET ROLE a, b", {"role": IN_DOUBT}),
        ("SET ROLE ALL EXCEPT a", {"role": IN_DOUBT}),
        ("SET ROLE DEFAULT", {"role": IN_DOUBT}),
        ("SET RESOURCE GROUP night", {}),
        ("EXECUTE IMMEDIATE 'SET @x = 1, @y = ''a'' '", {"@x": "1", "@y": "a"}),
        ("EXECUTE IMMEDIATE 'SET @x = ?' USING @given", {"@x": IN_DOUBT}),
        ("EXECUTE IMMEDIATE 'SET @x = \\'a\\''", {"@x": IN_DOUBT}),
        ("EXECUTE IMMEDIATE @text", {"": IN_DOUBT}),
        ("EXECUTE IMMEDIATE 'SET @x' ' = 1'", {"": IN_DOUBT}),
        ("EXECUTE IMMEDIATE _utf8mb4'SET @x = 1'", {"": IN_DOUBT}),
        ("EXECUTE p USING @x", {"": IN_DOUBT}),
    ],
)  # fmt: skip
def test_what_is_set(text: str, values: dict[str, str | None]) -> None:
    assert told(text) == values


def test_what_is_set_for_one_statement() -> None:
    effects = effects_of("SET STATEMENT max_statement_time = 1, time_zone = '+01:00' FOR SELECT @a := 1 FOR UPDATE")
    assert [(step.kind, step.name) for step in effects.steps] == [
        (SET_LOCAL, "max_statement_time"),
        (SET_LOCAL, "time_zone"),
        (DOUBT, "@a"),
    ]


@pytest.mark.parametrize(
    "text", ["SET TRANSACTION READ ONLY", "SET @@tx_isolation = 'SERIALIZABLE'", "SET @@transaction_read_only := 1"]
)
def test_what_is_of_the_next_transaction(text: str) -> None:
    assert (told(text), effects_of(text).leaves) == ({}, ("SET TRANSACTION",))


@pytest.mark.parametrize(
    ("text", "outcome_unknown_if_lost", "several"),
    [
        ("CALL p(@x)", True, True),
        ("EXECUTE p USING @x", True, False),
        ("BEGIN NOT ATOMIC SET @x = 1; END", True, True),
        ("SELECT 1; COMMIT", True, True),
        ("CREATE TABLE t (i int)", True, False),
        ("CREATE TEMPORARY TABLE t (i int)", False, False),
        ("SET autocommit = 1", True, False),
        ("SET autocommit = 0", False, False),
    ],
)
def test_what_may_commit(text: str, outcome_unknown_if_lost: bool, several: bool) -> None:
    effects = effects_of(text)
    assert (effects.outcome_unknown_if_lost, effects.several) == (outcome_unknown_if_lost, several)


def test_values_that_a_procedure_gives_back_are_in_doubt() -> None:
    assert told("CALL p(1, @x, @`y`)") == {"": IN_DOUBT, "@x": IN_DOUBT, "@y": IN_DOUBT}


def test_variables_of_a_compound_statement_and_of_what_follows_it_are_in_doubt() -> None:
    assert told("BEGIN NOT ATOMIC SET @x = 1; END; SET @y = 2") == {"": IN_DOUBT, "@x": IN_DOUBT, "@y": IN_DOUBT}


@pytest.mark.parametrize(
    "text", ["SHOW WARNINGS", "SELECT ROW_COUNT()", "SET @n = FOUND_ROWS()", "SELECT @@warning_count"]
)
def test_what_reads_what_was_left(text: str) -> None:
    assert mysql.reads_last(text)
    assert not mysql.reads_last("SELECT row_counts FROM showing")


# --- what is reported ---------------------------------------------------------------------------------------------


def string(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def variables(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"\x00" + string(b"".join(string(name) + string(value) for name, value in pairs))


NUMBERED = variables((b"statement_id", b"85")) + variables((b"time_zone", b"UTC"))
SCHEMA, SOME = b"\x01" + string(string(b"other")), b"\x02" + string(b"1")


@pytest.mark.parametrize(
    ("state", "settings", "unnamed"),
    [
        (
            variables((b"time_zone", b"+01:00"), (b"autocommit", b"OFF")),
            {"time_zone": "+01:00", "autocommit": "0"},
            False,
        ),
        (variables((b"tx_isolation", b"READ-COMMITTED")) + SOME, {"isolation_level": "READ-COMMITTED"}, False),
        (SCHEMA + SOME, {"database": "other"}, False),
        (SOME, {}, True),
        # of this it is said in any case
        (variables((b"session_track_state_change", b"ON")) + SOME, {"session_track_state_change": "1"}, True),
        (variables((b"last_gtid", b"0-1-2")), {}, False),
        (variables((b"last_gtid", b"0-1-2")) + SOME, {}, True),
        (variables((b"statement_id", b"85")) + variables((b"time_zone", b"UTC")), {"time_zone": "UTC"}, False),
        (variables((b"character_set_results", b"")), {"character_set_results": ""}, False),
    ],
)
def test_what_a_server_reports(state: bytes, settings: dict[str, str], unnamed: bool) -> None:
    found = tracking.changes(state)
    assert (dict(found.settings), found.unnamed) == (settings, unnamed)


@pytest.mark.parametrize(
    ("message", "changed", "text", "state"),
    [
        (b"", True, b"", b""),
        (string(b"Rows matched"), False, string(b"Rows matched"), b""),
        (string(b"Rows matched") + string(SOME), True, string(b"Rows matched"), SOME),
        (b"\x00" + string(SOME), True, b"", SOME),
        (b"\x00" + string(variables((b"statement_id", b"85"))), True, b"", b""),
        (b"\x00" + string(NUMBERED), True, b"", NUMBERED),
        (b"\xfc\x2c\x01" + b"x" * 300 + string(SOME), True, b"\xfc\x2c\x01" + b"x" * 300, SOME),
    ],
)
def test_the_text_of_an_answer_is_what_it_was(message: bytes, changed: bool, text: bytes, state: bytes) -> None:
    assert tracking.parts(message, changed) == (text, state)


@pytest.mark.parametrize(
    ("text", "called"),
    [
        ("SELECT f(1), COUNT(*), max(i) FROM t WHERE i IN (1, 2)", {"f"}),
        ("/* a */ (SELECT app.f (1))", {"f"}),
        ("SELECT 1; SELECT `f`(1)", {"`f`"}),
        ("INSERT INTO t (i) VALUES (1)", set()),
        ("INSERT INTO app.t (i) VALUES (f(1))", {"f"}),
        ("INSERT t (i) SELECT i FROM u ON DUPLICATE KEY UPDATE i = VALUES(i)", set()),
        ("INSERT INTO t VALUES ('hello (x), it''s (y)', \"a (b)\")", set()),
        ("UPDATE t SET i = `f`(1)", {"`f`"}),
        ("DELETE FROM t WHERE f(i)", {"f"}),
        ("DO f(1)", {"f"}),
        ("SET @x = f(1)", {"f"}),
        ("CALL app.p(COUNT(1))", set()),
        ("-- f(1)\nSELECT CONCAT('a', 'b')", set()),
        ("WITH x AS (SELECT g(1)) SELECT * FROM x", {"g"}),
        ("WITH RECURSIVE c(a) AS (SELECT f(1)), d(b, `c`) AS (SELECT 1, 2) SELECT * FROM c, d", {"f"}),
        ("SELECT * FROM (SELECT f(1)) x(y), (SELECT 2) AS z (w) WHERE (1) IN (g(1)) OR (2) AND h(1)", {"f", "g", "h"}),
        ("INSERT IGNORE INTO t(i) VALUES (f(1))", {"f"}),
        ("INSERT HIGH_PRIORITY IGNORE app.t(i) SELECT INSERT(f(1), 1, 2, 'a')", {"f"}),
        ("REPLACE DELAYED t(i) VALUES (REPLACE(g(1), 'a', 'b'))", {"g"}),
        ("INSERT INTO /* here */ t(i) VALUES (1) AS n(j) ON DUPLICATE KEY UPDATE i = f(j)", {"f"}),
        ("SELECT /*+ MAX_EXECUTION_TIME(100) NO_ICP(t) */ f(1) -- g(1)\n, 2 # h(1)", {"f"}),
        ("SELECT 1--f(1), `a/*b`, g(2), 'c*/'", {"f", "g"}),
        ("SELECT /*!80000 f(1) */ 1, /*M! g(1) */ 2", {"f", "g"}),
    ],
)
def test_which_functions_a_query_calls(text: str, called: set[str]) -> None:
    assert effects_of(text).calls == called
