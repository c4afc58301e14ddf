"""Section 2: our errors are the driver's too, keep what the cause told, and travel."""

import copy
import pickle
import re
from typing import Any

import pytest

from instrumented_wrapper import (
    ConfigurationError,
    FailoverError,
    FailoverFailedError,
    FailoverSuccessError,
    TransactionResolutionUnknownError,
)
from servers import Proxy

from .driver import DriverUnderTest
from .rows import insert

ATTRIBUTES = ("transaction", "may_have_run", "server", "blocked_seconds", "not_restored")
# What pools and ORMs look for in a message to know a lost connection.
LOSS_WORDS = (
    "terminating connection",
    "closed the connection",
    "connection not open",
    "could not receive data from server",
    "could not send data to server",
    "connection already closed",
    "cursor already closed",
    "losed the connection unexpectedly",
    "connection has been closed unexpectedly",
    "connection is lost",
    "connection timed out",
    "broken pipe",
    "gone away",
    "lost connection",
    "not connected",
    *("1927", "2006", "2013", "2014", "2045", "2055", "4031"),
)


def success(driver: DriverUnderTest, connect: Any, site: Any, table: str, proxy: Proxy) -> FailoverError:
    connection = connect(autocommit=True)
    driver.execute(connection, next(iter(site.leaving)))
    return failing(driver, connection, site.suicide)


def rolled_back(driver: DriverUnderTest, connect: Any, site: Any, table: str, proxy: Proxy) -> FailoverError:
    return failing(driver, connect(), site.suicide)


def failed(driver: DriverUnderTest, connect: Any, site: Any, table: str, proxy: Proxy) -> FailoverError:
    options = {"failover": "on", "failover_timeout": 0.2}
    connection = connect(site.dsn(proxy), autocommit=True, instrumented_wrapper=options)
    proxy.refuse()
    return failing(driver, connection, site.suicide)


def unknown(driver: DriverUnderTest, connect: Any, site: Any, table: str, proxy: Proxy) -> FailoverError:
    connection = connect(site.dsn(proxy, site.cluster.primary))
    driver.execute(connection, insert(table, 1))
    proxy.cut_when(b"COMMIT")
    return failing(driver, connection, "COMMIT")


def failing(driver: DriverUnderTest, connection: Any, statement: str) -> FailoverError:
    with pytest.raises(FailoverError) as caught:
        driver.execute(connection, statement)
    return caught.value


KINDS = {
    success: FailoverSuccessError,
    rolled_back: FailoverSuccessError,
    failed: FailoverFailedError,
    unknown: TransactionResolutionUnknownError,
}


@pytest.fixture(params=KINDS, ids=lambda make: make.__name__)
def made(request, driver: DriverUnderTest, connect, site, table, proxy: Proxy) -> tuple[FailoverError, Any]:
    return request.param(driver, connect, site, table, proxy), KINDS[request.param]


def test_it_is_of_both_families(driver: DriverUnderTest, made, site) -> None:
    error, kind = made
    cause = error.__cause__
    assert isinstance(error, kind)
    assert isinstance(error, FailoverError)
    assert isinstance(error, driver.operational_error)
    assert isinstance(cause, driver.ended_error)
    assert isinstance(error, type(cause)) or not isinstance(cause, driver.operational_error)  # of the cause's own class
    assert driver.state_of(error) == driver.state_of(cause)
    if kind is not TransactionResolutionUnknownError and driver.has("codes") and driver.has("codes of losses"):
        assert driver.state_of(error) == site.suicide_state


def test_its_arguments_are_where_the_driver_has_them(driver: DriverUnderTest, made) -> None:
    """An app that reads ``number, text = error.args`` goes on working."""
    error = made[0]
    told, by_driver = ([type(argument) for argument in found.args[:2]] for found in (error, error.__cause__))
    assert told == by_driver or isinstance(error.__cause__, OSError)  # one that the driver does not translate
    assert pickle.loads(pickle.dumps(error)).args == error.args


def test_it_is_pickled_and_copied_whole(driver: DriverUnderTest, made) -> None:
    error = made[0]
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert {name: getattr(twin, name) for name in ATTRIBUTES} == {n: getattr(error, n) for n in ATTRIBUTES}
        assert driver.state_of(twin) == driver.state_of(error)


def test_its_text_never_looks_like_a_lost_connection(driver: DriverUnderTest, made, site) -> None:
    text = re.sub(r"127\.0\.0\.1:\d+", "", str(made[0]).lower())  # a port may have any number in it
    assert text
    found = [word for word in LOSS_WORDS if word in text]
    if isinstance(made[0], FailoverFailedError):  # the connection is gone: pools see it by its number
        found = [word for word in found if not word.isdigit()]
    assert found == []
    assert "secret" not in text


def test_an_except_for_the_driver_works_without_us(driver: DriverUnderTest, connect, site) -> None:
    connection = connect(autocommit=True)
    try:
        driver.execute(connection, site.suicide)
    except driver.operational_error:
        assert driver.execute(connection, "SELECT 1") == [(1,)]


def test_a_cause_that_is_no_operational_error(driver: DriverUnderTest, connect, site, table) -> None:
    """A standby's refusal of a write is no OperationalError of the driver; what is raised is one all the same."""
    site.cluster.wait_streaming()
    connection = connect(site.dsn(site.cluster.standby, site.cluster.primary), autocommit=True)
    driver.execute(connection, site.begin)
    error = failing(driver, connection, insert(table, 1))
    assert isinstance(error, driver.operational_error)
    assert isinstance(error.__cause__, driver.read_only_error)
    assert driver.state_of(error) == driver.state_of(error.__cause__)
    assert driver.state_of(error) is not None or not driver.has("codes")


def test_configuration_errors_travel_too(driver: DriverUnderTest, connect) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(instrumented_wrapper={"failover": "perhaps"})
    twin = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(twin, ValueError)
    assert str(twin) == str(caught.value)
    for part in ("failover", "perhaps", "auto"):
        assert part in str(twin)
