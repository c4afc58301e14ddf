"""`events`: who is told, in which order, and that an end is told whatever happens."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import mysql.connector
import psycopg
import psycopg2
import pymysql
import pytest

from instrumented_wrapper import events
from instrumented_wrapper.events import (
    Failover,
    FailoverEnd,
    Fetched,
    PristineFetch,
    Reset,
    ServerAddress,
    SettingChange,
    SettingsEnd,
    Signals,
    Transfer,
    error_type,
    observe,
    subscribe,
    unsubscribe,
)

PEER = ServerAddress("postgresql", "app", "localhost", 5432)
WHERE = {"driver": "psycopg", "peer": PEER, "signals": Signals()}
EVENT = Reset(**WHERE, trigger="close", settings=("autocommit",))


@pytest.fixture(autouse=True)
def nobody_else_listens(monkeypatch) -> None:
    monkeypatch.setattr(events, "_listeners", [])


class Listener:
    """Writes down what it is told."""

    def __init__(self, name: str, told: list) -> None:
        self.name, self.told = name, told

    def __call__(self, event):
        self.told.append((self.name, event))

        def finish(outcome, error):
            self.told.append((self.name, outcome, error))

        return finish


@pytest.fixture
def told() -> list:
    told: list = []
    for name in ("first", "second"):
        subscribe(Listener(name, told))
    return told


def test_the_last_one_that_is_told_the_start_is_the_first_to_be_told_the_end(told):
    end = Fetched(1)
    with observe(EVENT) as observed:
        assert told == [("first", EVENT), ("second", EVENT)]
        observed.outcome = end
    assert told[2:] == [("second", end, None), ("first", end, None)]


def test_without_an_outcome(told):
    with observe(EVENT):
        pass
    assert told[2:] == [("second", None, None), ("first", None, None)]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_end_is_told_of_an_exception_that_passes(told, kind):
    error = kind()
    with pytest.raises(kind), observe(EVENT) as observed:
        observed.outcome = Fetched(1)
        raise error
    assert told[2:] == [("second", Fetched(1), error), ("first", Fetched(1), error)]


def test_an_end_that_nobody_wants():
    told = []
    subscribe(told.append)  # returns None
    with observe(EVENT):
        pass
    assert told == [EVENT]


def test_nobody_listens():
    with observe(EVENT) as observed:
        observed.outcome = Fetched(1)


def test_who_comes_later_is_told_of_nothing_that_began_before(told):
    late: list = []
    with observe(EVENT):
        subscribe(Listener("late", late))
    assert late == []


def test_who_leaves_meanwhile_is_still_told_the_end():
    told: list = []
    listener = Listener("one", told)
    subscribe(listener)
    with observe(EVENT):
        unsubscribe(listener)
    assert len(told) == 2
    with observe(EVENT):
        pass
    assert len(told) == 2


def test_events_within_events(told):
    inner = PristineFetch(**WHERE, setting="autocommit", source="driver")
    with observe(EVENT), observe(inner):
        pass
    firsts = [entry[1] for entry in told if entry[0] == "first" and len(entry) == 2]
    assert firsts == [EVENT, inner]


@pytest.mark.parametrize(
    "event",
    [
        PEER,
        Signals(),
        EVENT,
        PristineFetch(**WHERE, setting="a", source="driver"),
        Transfer(**WHERE, settings=()),
        Failover(**WHERE, trigger="demoted", transaction="none", may_have_run=False),
        Fetched(None),
        SettingChange("a", 1, 2, "reset"),
        SettingsEnd((), "default", 0),
        FailoverEnd("success", "demoted", PEER, 1),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_happened_does_not_change(event):
    name = next(iter(type(event).__annotations__))
    with pytest.raises(AttributeError):
        setattr(event, name, "other")
    with pytest.raises((AttributeError, TypeError)):
        event.other = 1


def _error_of(driver):
    with closing(driver.connect(":memory:")) as connection, pytest.raises(driver.Error) as caught:
        connection.execute("SELECT no_such_column")
    return caught.value


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (psycopg.errors.AdminShutdown("secret"), "57P01"),
        (psycopg.OperationalError("secret"), "OperationalError"),
        (OSError(111, "secret"), "ConnectionRefusedError"),
        (OSError("secret", "secret"), "OSError"),
        (pymysql.err.OperationalError(1290, "secret"), "1290"),
        (pymysql.err.InterfaceError(0, ""), "InterfaceError"),
        (pymysql.err.OperationalError("secret"), "OperationalError"),
        (mysql.connector.errors.DatabaseError("secret", 1290, None, "HY000"), "1290"),
        (mysql.connector.errors.InterfaceError("secret"), "InterfaceError"),
        (psycopg2.OperationalError("secret"), "OperationalError"),
        (_error_of(sqlite3), "SQLITE_ERROR"),
        (ValueError("secret"), "ValueError"),
        (KeyError(7), "KeyError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_what_may_be_said_of_an_error(error, code):
    assert error_type(error) == code
