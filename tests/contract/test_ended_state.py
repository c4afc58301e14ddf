"""State that a statement has ended, such as locks: it is listed after a switch only if some may be left."""

from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError

from .driver import DriverUnderTest

IS_ABOUT_SERVERS = True


def after_loss(driver: DriverUnderTest, connection: Any, site: Any) -> tuple[str, ...]:
    """Lose the session while it is idle; return what the next statement cannot restore."""
    site.end_sessions()
    try:
        driver.execute(connection, "SELECT 1")
    except FailoverSuccessError as error:
        return error.not_restored
    return ()


def after(driver: DriverUnderTest, connect: Any, site: Any, texts: Any) -> tuple[str, ...]:
    connection = connect(autocommit=True)
    for text in texts:
        driver.execute(connection, text)
    return after_loss(driver, connection, site)


def test_what_was_ended_does_not_stop_a_switch(driver: DriverUnderTest, connect, site) -> None:
    found = {"; ".join(texts): after(driver, connect, site, texts) for texts in site.ended}
    assert found == dict.fromkeys(found, ())


def test_what_may_be_left_is_listed(driver: DriverUnderTest, connect, site) -> None:
    found = {"; ".join(texts): after(driver, connect, site, texts) for texts in site.not_ended}
    assert [texts for texts, left in found.items() if not left] == []


@pytest.mark.parametrize("times", [1, 2])
def test_a_lock_whose_name_is_a_parameter(driver: DriverUnderTest, connect, site, times: int) -> None:
    driver.needs("text with its parameters")
    take, give_back = site.locks
    connection = connect(autocommit=True)
    for text in (*[take] * times, give_back):
        driver.execute_with(driver.cursor(connection), text, (site.lock,))
    assert len(after_loss(driver, connection, site)) == times - 1
