"""A host that vanishes from the network is found within `detection_timeout`; the kernel alone waits for minutes."""

import pytest

from instrumented_wrapper import FailoverSuccessError
from servers.black_hole import POSSIBLE, black_hole

from .driver import DriverUnderTest
from .rows import error_of, insert, told, usable

IS_ABOUT_SERVERS = True
pytestmark = pytest.mark.skipif(not POSSIBLE, reason="needs iptables and root")


@pytest.fixture
def far(connect, site, proxy):
    """A connection through a proxy that can vanish, whose server is also found past it."""
    primary = site.cluster.primary
    options = {"failover": "on", "failover_hosts": f"{primary.host}:{primary.port}", "detection_timeout": 1}
    return lambda **more: connect(site.dsn(proxy), autocommit=True, instrumented_wrapper={**options, **more})


def test_a_host_that_vanishes_while_idle_is_found(driver: DriverUnderTest, far, site, proxy, table) -> None:
    connection = far()
    driver.execute(connection, insert(table, 1))
    with black_hole(proxy.port):
        try:
            driver.execute(connection, insert(table, 2))
        except FailoverSuccessError as error:  # it was sent before the kernel gave the connection up
            told(error, FailoverSuccessError, driver)
        usable(driver, connection)
        driver.execute(connection, insert(table, 3))
    assert site.ids(table)[-1] == 3


def test_a_statement_under_way(driver: DriverUnderTest, far, site, proxy, background) -> None:
    connection = far()
    call = background(driver.execute, connection, site.slow)
    site.wait_running()
    with black_hole(proxy.port):
        error = told(error_of(call), FailoverSuccessError, driver)
        assert error.may_have_run
        usable(driver, connection)
    site.end_sessions()
