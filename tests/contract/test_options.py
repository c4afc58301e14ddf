"""Section 3: options by keywords of `connect`, by `instrument()`, by the environment; the strongest wins."""

from contextlib import suppress
from typing import Any

import pytest

from instrumented_wrapper import ConfigurationError, FailoverFailedError, FailoverSuccessError, session_state
from servers import Proxy

from .driver import DriverUnderTest
from .elsewhere import module_of, run


def survives(driver: DriverUnderTest, connection: Any, site: Any) -> bool:
    """Lose the connection in flight; tell whether it was switched. The driver's error must come in any case."""
    with pytest.raises((driver.operational_error, driver.ended_error)) as caught:
        driver.execute(connection, site.suicide)
    switched = isinstance(caught.value, FailoverSuccessError)
    assert works(driver, connection) is switched
    return switched


def works(driver: DriverUnderTest, connection: Any) -> bool:
    try:
        return list(driver.execute(connection, "SELECT 1")) == [(1,)]
    except (driver.operational_error, driver.closed_error):
        return False


@pytest.mark.parametrize("value", ["off", "OFF", False, "false", 0, "no"])
def test_failover_off(driver: DriverUnderTest, connect, site, spans, value: Any) -> None:
    connection = connect(autocommit=True, instrumented_wrapper={"failover": value})
    assert not survives(driver, connection, site)
    (span,) = spans.named("failover")  # the driver's own error passes, and is observed
    assert span.attributes["instrumented_wrapper.outcome"] == "failed"


@pytest.mark.parametrize("value", ["on", "On", True, "yes", 1])
def test_failover_on_with_one_host(driver: DriverUnderTest, connect, site, value: Any) -> None:
    options = {"failover": value}
    connection = connect(site.dsn(site.cluster.primary), autocommit=True, instrumented_wrapper=options)
    assert survives(driver, connection, site)


def test_failover_auto(driver: DriverUnderTest, connect, site) -> None:
    auto = {"instrumented_wrapper": {"failover": "auto"}, "autocommit": True}
    one, several = site.dsn(site.cluster.primary), site.dsn()
    assert not survives(driver, connect(one, **auto), site)
    assert not survives(driver, connect(one, autocommit=True), site)
    assert survives(driver, connect(several, **auto), site)
    assert survives(driver, connect(several, autocommit=True), site)


def test_failover_hosts(driver: DriverUnderTest, connect, site, proxy: Proxy, other_proxy: Proxy) -> None:
    hosts = f"{other_proxy.host}:{other_proxy.port},{site.cluster.standby.host}:{site.cluster.standby.port}"
    for given in (hosts, hosts.split(",")):
        connection = connect(site.dsn(proxy), autocommit=True, instrumented_wrapper={"failover_hosts": given})
        proxy.clear()
        assert survives(driver, connection, site)
        other_proxy.clear()
        driver.execute(connection, "SELECT 'over there'")
        assert b"over there" in other_proxy.seen("client")
        assert proxy.connections == 0


def test_failover_timeout(driver: DriverUnderTest, connect, site) -> None:
    connection = connect(autocommit=True, instrumented_wrapper={"failover_timeout": "0.3"})
    site.cluster.primary.kill()
    with pytest.raises(FailoverFailedError):
        driver.execute(connection, "SELECT 1")


def test_the_seed_keywords_of_connect(driver: DriverUnderTest, connect, site, proxy: Proxy) -> None:
    off = {"reset_session_state_on_close": False, "transfer_session_state_on_switch": False}
    connection = connect(site.dsn(proxy), **off)
    driver.set(connection, "read_only", True)
    driver.verb("switch")(connection)
    assert dict(session_state(connection)) == {}
    driver.set(connection, "read_only", True)
    proxy.clear()
    driver.close(connection)
    assert site.none_left()
    assert not driver.was_reset(connection, proxy.seen("client"))


def test_keywords_through_a_pool(driver: DriverUnderTest, pool, site) -> None:
    opened = pool(kwargs={"reset_session_state_on_close": "no", "instrumented_wrapper": {"failover": "off"}})
    connection = driver.take(opened)
    driver.set(connection, "autocommit", True)
    driver.give_back(opened, connection)
    assert driver.take(opened) is connection
    assert driver.get(connection, "autocommit") is driver.has("autocommit as a setting")
    assert not survives(driver, connection, site)
    with suppress(driver.operational_error):  # it is lost: what the pool says to that is its own affair
        driver.give_back(opened, connection)


@pytest.mark.parametrize(
    "bad",
    [
        {"failover": "perhaps"},
        {"failover_timeout": 0},
        {"failover_timeout": -1},
        {"failover_timeout": float("nan")},
        {"failover_timeout": float("inf")},
        {"failover_timeout": True},
        {"failover_hosts": "host:port"},
        {"traces": "maybe"},
        {"reset_scope": "all"},
        {"no_such_option": 1},
        {"drivers": ["psycopg", "pymysql"]},
        {"enabled": False},
    ],
    ids=str,
)
def test_bad_options_of_connect(driver: DriverUnderTest, connect, site, bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(instrumented_wrapper=bad)
    assert next(iter(bad)) in str(caught.value)
    assert site.sessions() == []
    with pytest.raises(ConfigurationError):
        connect(instrumented_wrapper="failover=off")
    with pytest.raises(ConfigurationError):
        connect(reset_session_state_on_close="perhaps")


def test_no_other_keyword_is_touched(driver: DriverUnderTest, connect) -> None:
    options = {"failover", "failover_hosts", "failover_timeout", "traces", "reset_scope"}
    for keyword in sorted(options - driver.own_keywords):
        with pytest.raises(driver.unknown_keyword_error, match=keyword):
            connect(**{keyword: "on"})


def test_traces_and_metrics_can_be_off(driver: DriverUnderTest, connect, site, spans, measured) -> None:
    connection = connect(autocommit=True, instrumented_wrapper={"traces": False, "metrics": "off"})
    driver.set(connection, "read_only", True)
    assert survives(driver, connection, site)
    driver.close(connection)
    assert spans.all() == []
    assert measured.new("failover.duration") == measured.new("reset.duration") == {}
    metrics_only = connect(autocommit=True, instrumented_wrapper={"traces": False})
    assert survives(driver, metrics_only, site)
    assert spans.all() == []
    assert sum(measured.new("failover.duration").values()) == 1


# --- in another process -----------------------------------------------------------------------------------------

PROGRAM = """
import json, sys
from importlib import import_module
from instrumented_wrapper import instrument, session_state, FailoverError
module, dsn, statement, instruments, connects = json.loads(sys.argv[1])
driver = import_module(module).DRIVER
early = driver.connect(dsn)
instrument(**instruments)
answers = []
driver.set(early, "read_only", True)
answers.append(len(session_state(early)))
driver.close(early)
for options in connects:
    connection = driver.connect(dsn, autocommit=True, **({"instrumented_wrapper": options} if options else {}))
    driver.set(connection, "read_only", True)
    known = len(session_state(connection))
    try:
        driver.execute(connection, statement)
    except (driver.operational_error, driver.ended_error) as error:
        answers.append([known, isinstance(error, FailoverError)])
    driver.close(connection)
print(json.dumps(answers))
"""


def elsewhere(driver: DriverUnderTest, site: Any, environment: dict[str, str], instruments: Any, connects: Any) -> Any:
    """Run the program in another process; return for each connect what was known and whether it was switched."""
    dsn = site.dsn(site.cluster.primary)
    nothing, *answers = run(PROGRAM, module_of(driver), dsn, site.suicide, instruments, connects, **environment)
    assert nothing == 0  # a connection that was made while not instrumented
    return answers


def test_the_environment_is_weakest(driver: DriverUnderTest, site) -> None:
    answers = elsewhere(driver, site, {"INSTRUMENTED_WRAPPER_FAILOVER": "Off"}, {}, [{}, {"failover": "on"}])
    assert answers == [[1, False], [1, True]]


def test_instrument_is_stronger_and_connect_strongest(driver: DriverUnderTest, site) -> None:
    environment = {"INSTRUMENTED_WRAPPER_FAILOVER": "off", "INSTRUMENTED_WRAPPER_FAILOVER_TIMEOUT": "20"}
    answers = elsewhere(driver, site, environment, {"failover": True}, [{}, {"failover": False}])
    assert answers == [[1, True], [1, False]]


def test_not_enabled_nothing_is_patched(driver: DriverUnderTest, site) -> None:
    assert elsewhere(driver, site, {"INSTRUMENTED_WRAPPER_ENABLED": "no"}, {}, [{}]) == [[0, False]]
