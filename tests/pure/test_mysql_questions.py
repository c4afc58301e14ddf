"""`databases.mysql.questions`: what servers of each version are sent, as texts."""

import pytest

from instrumented_wrapper.databases.mysql.questions import answers, assign, dialect_of, query_settings
from instrumented_wrapper.databases.mysql.values import Bits, Decimal, Double, Number, Text, Unsigned
from instrumented_wrapper.plans import Assignment


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
    assert ("CURRENT_ROLE()" in query_settings(["role"], dialect)) is roles


def _as_given(assignment: tuple[str, str | None]) -> int:
    return {"role": 0, "database": 1, "collation_connection": 3}.get(assignment[0], 2)


@pytest.mark.parametrize(
    ("assignments", "texts"),
    [
        ([], []),
        ([("time_zone", "+02:00"), ("@x", Number("7"))], ["SET @@session.`time_zone` = '+02:00', @`x` = 7"]),
        ([("@x", "7"), ("@`", None)], ["SET @`x` = '7', @```` = NULL"]),
        ([("sql_mode", "it's")], ["SET @@session.`sql_mode` = 'it''s'"]),
        ([("sql_mode", "a\\")], ["SET @@session.`sql_mode` = CONVERT(X'615c' USING utf8mb4)"]),
        ([("database", None)], []),
        ([("database", "d"), ("role", "r")], ["SET ROLE `r`", "USE `d`"]),
        ([("system_versioning_asof", "DEFAULT")], ["SET @@session.`system_versioning_asof` = DEFAULT"]),
        (
            [("lock_wait_timeout", "5"), ("time_zone", None)],
            ["SET @@session.`lock_wait_timeout` = 5, @@session.`time_zone` = DEFAULT"],
        ),
        ([("database", "o`d"), ("autocommit", "0")], ["USE `o``d`", "SET @@session.`autocommit` = 0"]),
        ([("role", "NONE")], ["SET ROLE NONE"]),
        ([("role", None)], ["SET ROLE DEFAULT"]),
        ([("role", "reader")], ["SET ROLE `reader`"]),
        ([("role", "`reader`@`%`,`writer`@`%`")], ["SET ROLE `reader`@`%`,`writer`@`%`"]),  # as MySQL tells it
        (
            [("collation_connection", "utf8mb4_bin"), ("character_set_connection", "utf8mb4")],
            ["SET @@session.`character_set_connection` = 'utf8mb4', @@session.`collation_connection` = 'utf8mb4_bin'"],
        ),
    ],
)
def test_settings_are_given_in_one_statement(assignments: list[tuple[str, str | None]], texts: list[str]) -> None:
    given = assign([Assignment(*given) for given in assignments], dialect_of("8.0.36"))
    assert list(given) == texts
    assert [name for names in given.values() for name in names] == [
        name for name, text in sorted(assignments, key=_as_given) if (name, text) != ("database", None)
    ]


def test_answers_come_back_by_name() -> None:
    names = ["autocommit", "role", "isolation_level"]
    row = [text.encode().hex() for text in ("1", '"r ""1"@"%","r2"@"%"', "READ-COMMITTED")]
    assert answers(names, row) == dict(zip(names, ("1", '`r "1`@`%`,`r2`@`%`', "READ-COMMITTED"), strict=True))


def test_user_variables_come_back_as_what_they_are() -> None:
    given = {
        "@i": ("i37", Number, "7"),
        "@u": ("u37", Unsigned, "CAST(7 AS UNSIGNED)"),
        "@m": ("m37", Decimal, "7."),
        "@d": ("d37", Double, "7e0"),
        "@t": ("tlatin1_bin:C3A9", Text, "CONVERT(CONVERT(X'c3a9' USING utf8mb4) USING latin1) COLLATE latin1_bin"),
        "@x": ("xFF27", Bits, "X'ff27'"),
        "@nothing": (None, type(None), "NULL"),
    }
    told = answers(list(given), [cell for cell, _, _ in given.values()])
    assert [type(text) for text in told.values()] == [kind for _, kind, _ in given.values()]
    (text,) = assign([Assignment(*each) for each in told.items()], dialect_of("8.0.36"))
    assert text == "SET " + ", ".join(f"@`{name[1:]}` = {how}" for name, (_, _, how) in given.items())
