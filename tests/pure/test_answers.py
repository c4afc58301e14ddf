"""What a server answers to a new connection: whether asking again is of use. One table for each database."""

from __future__ import annotations

import pytest

from instrumented_wrapper.databases import mysql, postgresql
from instrumented_wrapper.databases.postgresql.connect_errors import answer_to

FAILED = 'connection to server at "127.0.0.1", port 5432 failed: '

PERMANENT = {
    "login_refused": """
        FATAL:  password authentication failed for user "app"
        FATAL:  certificate authentication failed for user "app"
        FATAL:  SASL authentication failed
        FATAL:  role "app" does not exist
        FATAL:  role "app" is not permitted to log in
        FATAL:  database "too many clients" does not exist
        FATAL:  database "app" is not currently accepting connections
        FATAL:  cannot connect to invalid database "app"
        FATAL:  permission denied for database "app"
        FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "app", database "app", no encryption
        FATAL:  pg_hba.conf rejects connection for host "10.0.0.1", user "app", database "app", no encryption
        FATAL:  empty password returned by client
        FATAL:  no such database: app
        FATAL:  no such user
        fe_sendauth: no password supplied
        authentication method requirement "scram-sha-256" failed: server requested a cleartext password
    """,
    "transport_refused": """
        server does not support SSL, but SSL was required
        root certificate file "/nowhere/root.crt" does not exist
        FATAL:  connection requires a valid client certificate
        FATAL:  SSL required
        channel binding required, but SSL not in use
    """,
    "session_refused": """
        FATAL:  unrecognized configuration parameter "no_such_setting"
        FATAL:  invalid value for parameter "work_mem": "much"
        FATAL:  permission denied to set parameter "log_statement"
        FATAL:  parameter "max_connections" cannot be changed without restarting the server
        FATAL:  unsupported startup parameter: extra_float_digits
        FATAL:  invalid command-line argument for server process: --x
    """,
}
TRANSIENT = {
    "not_ready": """
        FATAL:  the database system is starting up
        FATAL:  the database system is shutting down
        FATAL:  the database system is in recovery mode
        FATAL:  the database system is not yet accepting connections
        FATAL:  the database system is not accepting connections
        FATAL:  terminating connection due to administrator command
        FATAL:  server login has been failing, try again later (server_login_retry)
        FATAL:  pgbouncer cannot connect to server
        FATAL:  query_wait_timeout
    """,
    "tls_failed": """
        SSL error: certificate verify failed
        server certificate for "db1" does not match host name "db2"
    """,
    "no_free_slot": """
        FATAL:  sorry, too many clients already
        FATAL:  too many connections for role "certificate"
        FATAL:  too many connections for database "does not exist"
        FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute
        FATAL:  no more connections allowed (max_client_conn)
    """,
    "wrong_role": """
        server is in hot standby mode
        server is not in hot standby mode
        session is read-only
        session is not read-only
    """,
    "refused": """
        Connection refused Is the server running on that host and accepting TCP/IP connections?
        No route to host
    """,
    "no_answer": """
        timeout expired
        server closed the connection unexpectedly
        could not receive data from server: Connection reset by peer
    """,
    "failed": "could not translate host name",
}


def lines(table: dict[str, str]):
    return [(outcome, text.strip()) for outcome, texts in table.items() for text in texts.strip().splitlines()]


@pytest.mark.parametrize(("outcome", "text"), lines(PERMANENT))
def test_postgresql_answers_for_good(outcome: str, text: str) -> None:
    assert answer_to(FAILED + text, "primary")[::2] == (outcome, True)


@pytest.mark.parametrize(("outcome", "text"), lines(TRANSIENT))
def test_postgresql_answers_that_will_change(outcome: str, text: str) -> None:
    assert answer_to(FAILED + text, "primary")[::2] == (outcome, False)


def test_no_answer_of_postgresql() -> None:
    assert answer_to("", "primary")[::2] == ("no_answer", False)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("57P03", ("not_ready", False)),
        ("57P01", ("not_ready", False)),
        ("53300", ("no_free_slot", False)),
        ("28P01", ("login_refused", True)),
        ("3D000", ("login_refused", True)),
        ("42704", ("session_refused", True)),
        ("25006", ("wrong_role", False)),
        ("XX000", ("failed", False)),
    ],
)
def test_the_sqlstate_counts_where_it_is_known(state: str, expected: tuple[str, bool]) -> None:
    assert answer_to("FATALE: etwas in einer anderen Sprache", "primary", state)[::2] == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        *((number, ("login_refused", True)) for number in (1044, 1045, 1049, 1129, 1130, 1251, 1524, 1698, 1820, 1862)),
        *((number, ("login_refused", True)) for number in (2059, 2061, 3118, 3530, 3955, 4055, 4150, 4151)),
        (3159, ("transport_refused", True)),
        *((number, ("session_refused", True)) for number in (1064, 1115, 1193, 1227, 1231, 1273, 1298)),
        *((number, ("not_ready", False)) for number in (1047, 1053, 3032, 6400, 3100, 3168, 3797, 4094)),
        *((number, ("no_free_slot", False)) for number in (1040, 1135, 1203, 1226)),
        *((number, ("refused", False)) for number in (2002, 2003, 2005)),
        *((number, ("no_answer", False)) for number in (2006, 2012, 2013, 2026, 2055, 1927, 4031)),
        *((number, ("failed", False)) for number in (0, 1105)),
    ],
)
def test_mysql_answers(number: int, expected: tuple[str, bool]) -> None:
    assert mysql.answer_to(number, "certificate" if number == 1105 else "")[::2] == expected


@pytest.mark.parametrize(
    ("number", "text", "expected"),
    [
        (
            2003,
            "Can't connect to MySQL server ([SSL: CERTIFICATE_VERIFY_FAILED] self-signed)",
            "tls_failed",
        ),
        (2026, "SSL connection error: SSL is required but the server doesn't support it", "transport_refused"),
        (-1, "Authentication plugin 'caching_sha2_password' requires SSL", "login_refused"),
        (2000, "Authentication requires secure connection.", "login_refused"),
        (0, "'cryptography' package is required for caching_sha2_password auth methods", "login_refused"),
        (0, "can't start new thread", "failed"),
        (1045, "Access denied for user 'certificate'", "login_refused"),
        (1040, "certificate", "no_free_slot"),
    ],
)
def test_mysql_answers_without_a_number_that_tells(number: int, text: str, expected: str) -> None:
    assert mysql.answer_to(number, text)[0] == expected


@pytest.mark.parametrize(
    ("state", "where", "read_only", "expected"),
    [
        ("25006", "PreventCommandIfReadOnly", False, True),
        ("25006", "PreventCommandIfReadOnly", True, False),
        ("0A000", "GetSerializableTransactionSnapshot", True, True),
        ("0A000", "call_enum_check_hook", False, True),
        ("0A000", "transformSetOperationTree", False, False),
        ("42601", None, False, False),
    ],
)
def test_what_only_a_primary_can_do(state: str, where: str | None, read_only: bool, expected: bool) -> None:
    assert postgresql.needs_primary(state, where, read_only) is expected
