"""Every way to end a transaction, as a table: how it is begun, what comes before its end, and how it ends.

Knows drivers and sites by their protocols only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from .driver import DriverUnderTest
from .rows import insert

MARK = " /* the end */"  # by which the proxy knows an end that is a text

Do = Callable[[DriverUnderTest, Any, Any], None]  # with the driver, its connection and the site


@dataclass(frozen=True)
class Ending:
    """One way.

    Attributes:
        name: for a person.
        end: what the app does.
        before: what it does before; the first row is written there.
        sent: what the end sends: bytes, or the name of an attribute of the driver or the site that has them.
        autocommit: the connection is in autocommit, and the app begins the transaction by a text.
        chains: afterwards another transaction is open.
        after_text: a text has ended the transaction before, and psycopg2, which does not know, begins no other one.
        committed: the first row is committed before the end.
        needs: what a driver has to have for it.
    """

    name: str
    end: Do
    before: tuple[Do, ...]
    sent: str | bytes = MARK.encode()
    autocommit: bool = False
    chains: bool = False
    after_text: bool = False
    committed: bool = False
    needs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name.replace(" ", "_")

    def sent_by(self, driver: DriverUnderTest, site: Any) -> bytes:
        if isinstance(self.sent, bytes):
            return self.sent
        return getattr(driver, self.sent) if hasattr(driver, self.sent) else driver.sent_last(getattr(site, self.sent))


def run(sql: str, mark: str = "") -> Do:
    """Run a text."""

    def do(driver: DriverUnderTest, connection: Any, site: Any) -> None:
        driver.execute(connection, sql.format(site.name) + mark)

    return do


def row(number: int) -> Do:
    """Write a row."""
    return run(insert("rows_of_{}", number))


def commit(driver: DriverUnderTest, connection: Any, site: Any) -> None:
    driver.commit(connection)


def rollback(driver: DriverUnderTest, connection: Any, site: Any) -> None:
    driver.rollback(connection)


def fail(driver: DriverUnderTest, connection: Any, site: Any) -> None:
    """Have the transaction fail."""
    try:
        driver.execute(connection, "SELECT no_such_column")
    except driver.programming_error:
        return
    raise AssertionError("the server took it")


METHODS: tuple[tuple[str, Do, str], ...] = (
    ("commit()", commit, "commit_sent"),
    ("rollback()", rollback, "rollback_sent"),
)
TEXTS = ("COMMIT", "COMMIT AND CHAIN", "ROLLBACK", "ROLLBACK AND CHAIN")
OF_POSTGRESQL = ("END", "END AND CHAIN", "ABORT", "ABORT AND CHAIN", "PREPARE TRANSACTION '{}'", "BEGIN")
OF_MYSQL = (
    *("BEGIN", "START TRANSACTION READ WRITE", "SET autocommit = 1", "CREATE TABLE made_by_{} (id int)"),
    *("ALTER TABLE rows_of_{} COMMENT 'changed'", "LOCK TABLES rows_of_{} WRITE", "ANALYZE TABLE rows_of_{}"),
    *("COMMIT AND NO CHAIN", "ROLLBACK AND NO CHAIN NO RELEASE"),
)
SAVEPOINTS = ("ROLLBACK TO SAVEPOINT a", "RELEASE SAVEPOINT a")


def _chains(sql: str) -> bool:
    return sql.endswith(" AND CHAIN") or sql.startswith(("BEGIN", "START"))


def _begun(autocommit: bool) -> tuple[Do, ...]:
    return (run("BEGIN"), row(1)) if autocommit else (row(1),)


def _by_method() -> Iterator[Ending]:
    for autocommit, (name, end, sent) in product((False, True), METHODS):
        how, needs = (" of BEGIN", ("methods that end what a text began",)) if autocommit else ("", ())
        yield Ending(name + how, end, _begun(autocommit), sent, autocommit, needs=needs)
        failed = (*_begun(autocommit), fail)
        yield Ending(f"failed, {name}{how}", end, failed, sent, autocommit, needs=(*needs, "aborted transactions"))


def _by_text() -> Iterator[Ending]:
    needs = {
        **dict.fromkeys(OF_POSTGRESQL, ("aborted transactions",)),
        **dict.fromkeys(OF_MYSQL, ("implicit commits",)),
    }
    for autocommit, sql in product((False, True), dict.fromkeys((*TEXTS, *SAVEPOINTS, *OF_POSTGRESQL, *OF_MYSQL))):
        before = (*_begun(autocommit), *((run("SAVEPOINT a"), row(2)) if sql in SAVEPOINTS else ()))
        name = sql.format("x") + (" of BEGIN" if autocommit else "")
        wants = () if sql == "BEGIN" else needs.get(sql, ())
        yield Ending(name, run(sql, MARK), before, autocommit=autocommit, chains=_chains(sql), needs=wants)
    for sql in ("COMMIT", "ROLLBACK", "ROLLBACK AND CHAIN"):
        chains = _chains(sql)
        before = (row(1), fail)
        yield Ending(f"failed, {sql}", run(sql, MARK), before, chains=chains, needs=("aborted transactions",))


def _after_an_end() -> Iterator[Ending]:
    """A text has ended it already, which not every driver knows."""
    for first, (name, end, sent) in product(TEXTS, METHODS):
        committed, needs = first.startswith("COMMIT"), ("ends of nothing",)
        yield Ending(f"{first}, {name}", end, (row(1), run(first)), sent, committed=committed, needs=needs)
    for first, sql in product(("COMMIT", "ROLLBACK"), ("COMMIT", "ROLLBACK")):
        before, committed = (row(1), run(first)), first == "COMMIT"
        yield Ending(f"{first}, {sql}", run(sql, MARK), before, after_text=True, committed=committed)


def prepare(driver: DriverUnderTest, connection: Any, site: Any) -> None:
    driver.prepare(connection, site.name, insert(f"rows_of_{site.name}", 1))


def commit_prepared(driver: DriverUnderTest, connection: Any, site: Any) -> None:
    driver.commit_prepared(connection, site.name)


def rollback_prepared(driver: DriverUnderTest, connection: Any, site: Any) -> None:
    driver.rollback_two_phase(connection, site.name)


def turn_autocommit_on(driver: DriverUnderTest, connection: Any, site: Any) -> None:
    driver.set(connection, "autocommit", True)


# MariaDB finishes another session's transaction in autocommit only.
OTHERS = (
    Ending("two-phase commit", commit_prepared, (prepare,), "commits_prepared", needs=("aborted transactions",)),
    Ending("XA COMMIT", commit_prepared, (prepare,), "commits_prepared", autocommit=True, needs=("implicit commits",)),
    Ending("two-phase rollback", rollback_prepared, (prepare,), b"ROLLBACK PREPARED", needs=("aborted transactions",)),
    Ending("autocommit on", turn_autocommit_on, (row(1),), "autocommit_sent", needs=("implicit commits",)),
)
ENDINGS = [*_by_method(), *_by_text(), *_after_an_end(), *OTHERS]
