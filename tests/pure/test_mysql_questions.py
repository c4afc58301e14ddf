"""`databases.mysql.questions`: what servers of each version are sent, as texts."""

import pytest

from instrumented_wrapper.databases.mysql.questions import answers, assign, dialect_of, present
from instrumented_wrapper.databases.mysql.settings import Bits, Number
from instrumented_wrapper.server_settings import Assignment


@pytest.mark.parametrize(
    ("version", "isolation", "roles"),
    [
        ("5.6.24", "tx_isolation", False),
        ("5.7.19-log", "tx_isolation", False),
        ("5.7.44", "transaction_isolation", False),
        ("8.0.36", "transaction_isolation", True),
        ("9.1.0-commercial", "transaction_isolation", True),
        ("10.11.19-MariaDB-0+deb12u1", "tx_isolation", True),
        ("5.5.5-10.6.16-MariaDB", "tx_isolation", True),  # as MariaDB 10 says of itself to replicas
        ("11.0.6-MariaDB", "tx_isolation", True),
        ("11.1.2-MariaDB", "transaction_isolation", True),
        ("12.0.2-MariaDB", "transaction_isolation", True),
    ],
)
def test_what_a_server_calls_things(version: str, isolation: str, roles: bool) -> None:
    dialect = dialect_of(version)
    assert dialect.variable("isolation_level") == isolation
    assert dialect.variable("time_zone") == "time_zone"
    assert ("CURRENT_ROLE()" in present(["role"], dialect)) is roles


@pytest.mark.parametrize(
    ("assignments", "texts"),
    [
        ([], []),
        ([("time_zone", "+02:00"), ("@x", Number("7"))], ["SET @@session.`time_zone` = '+02:00', @`x` = 7"]),
        ([("@x", "7"), ("@`", None)], ["SET @`x` = '7', @```` = NULL"]),
        ([("sql_mode", "it's")], ["SET @@session.`sql_mode` = CONVERT(X'69742773' USING utf8mb4)"]),
        (
            [("lock_wait_timeout", "5"), ("time_zone", None)],
            ["SET @@session.`lock_wait_timeout` = 5, @@session.`time_zone` = DEFAULT"],
        ),
        ([("database", "o`d"), ("autocommit", "0")], ["USE `o``d`", "SET @@session.`autocommit` = 0"]),
        ([("role", None)], ["SET ROLE NONE"]),
        ([("role", "reader")], ["SET ROLE `reader`"]),
        ([("role", "`reader`@`%`,`writer`@`%`")], ["SET ROLE `reader`@`%`,`writer`@`%`"]),  # as MySQL tells it
        (
            [("collation_connection", "utf8mb4_bin"), ("character_set_connection", "utf8mb4")],
            ["SET @@session.`character_set_connection` = 'utf8mb4', @@session.`collation_connection` = 'utf8mb4_bin'"],
        ),
    ],
)
def test_settings_are_given_in_one_statement(assignments: list[tuple[str, str | None]], texts: list[str]) -> None:
    assert assign([Assignment(*given) for given in assignments], dialect_of("8.0.36")) == texts


def test_answers_come_back_by_name() -> None:
    names = ["autocommit", "role", "isolation_level"]
    row = [text.encode().hex() for text in ("1", "NONE", "READ-COMMITTED")]
    assert answers(names, row) == dict(zip(names, ("1", None, "READ-COMMITTED"), strict=True))


def test_user_variables_come_back_as_what_they_are() -> None:
    told = answers(["@n", "@t", "@x", "@nothing"], ["n37", "t37", "xFF27", None])
    assert [type(text) for text in told.values()] == [Number, str, Bits, type(None)]
    (given,) = assign([Assignment(*each) for each in told.items()], dialect_of("8.0.36"))
    assert given == "SET @`n` = 7, @`t` = '7', @`x` = X'ff27', @`nothing` = NULL"
