"""State that a statement has ended, such as locks: it is listed after a switch only if some may be left."""

from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError

from .driver import DriverUnderTest
from .rows import insert, usable

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


@pytest.mark.databases("postgresql")
def test_each_way_to_leave_state_is_listed(driver: DriverUnderTest, connect, site) -> None:
    site.sql(site.code_that_leaves.format(site.name))
    found = {text: after(driver, connect, site, [text.format(site.name)]) for text in site.leaving_too}
    assert {text: left for text, left in found.items() if site.leaving_too[text] not in left} == {}


@pytest.mark.databases("postgresql")
def test_what_leaves_no_state_does_not_stop_a_switch(driver: DriverUnderTest, connect, site) -> None:
    found = {text: after(driver, connect, site, [text]) for text in site.leaves_nothing}
    assert found == dict.fromkeys(found, ())


def test_after_a_rollback_that_met_the_loss_the_next_statement_lists_it(driver, connect, site, table) -> None:
    text, left = next(iter(site.leaving.items()))
    connection = connect()
    driver.execute(connection, text)
    driver.commit(connection)
    driver.execute(connection, insert(table, 1))
    site.end_sessions()
    driver.rollback(connection)
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, insert(table, 2))
    assert (caught.value.not_restored, caught.value.may_have_run) == ((left,), False)
    driver.rollback(connection)
    usable(driver, connection)
    assert site.ids(table) == []


@pytest.mark.parametrize("times", [1, 2])
def test_a_lock_whose_name_is_a_parameter(driver: DriverUnderTest, connect, site, times: int) -> None:
    driver.needs("text with its parameters")
    take, give_back = site.locks
    connection = connect(autocommit=True)
    for text in (*[take] * times, give_back):
        driver.execute_with(driver.cursor(connection), text, (site.lock,))
    assert len(after_loss(driver, connection, site)) == times - 1
