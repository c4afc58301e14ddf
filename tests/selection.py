"""Which of the contract suite's drivers a test runs over: each of them, every third, or those that are left.

A test does the same over all drivers and databases, and what they share is the engine. Every third of them, another
third for each test, takes minutes: a test runs over about six drivers, and a driver runs a third of the tests.
``make test`` takes these, ``make test-others`` the rest; both together are the whole suite.
"""

from collections import defaultdict
from zlib import crc32

import pytest

EVERY, THIRD, OTHERS = "every", "third", "others"


def add_option(parser: pytest.Parser) -> None:
    parser.addoption("--drivers", choices=(EVERY, THIRD, OTHERS), default=EVERY, help="that a contract test runs over")


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave only the tests of this run in `items`; a test of no driver is one of the first third."""
    if (wanted := config.getoption("--drivers")) == EVERY:
        return
    third = in_third(items)
    config.hook.pytest_deselected(items=[item for item in items if (item in third) == (wanted == OTHERS)])
    items[:] = [item for item in items if (item in third) == (wanted == THIRD)]


def in_third(items: list[pytest.Item]) -> set[pytest.Item]:
    """Return every third of the drivers of each test, at least one, and all tests that do not run over drivers."""
    same: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        same[without_driver(item)].append(item)
    return {item for name, over in same.items() for item in over[crc32(name.encode()) % min(3, len(over)) :: 3]}


def without_driver(item: pytest.Item) -> str:
    """Return the name of a test with all its parameters but the driver."""
    driver = getattr(getattr(item, "callspec", None), "params", {}).get("driver")
    if driver is None or "contract" not in item.path.parts:
        return item.nodeid
    test, _, parameters = item.nodeid.partition("[")
    names = parameters.rstrip("]").split("-")
    names.remove(driver.name)
    return "-".join((test, *names))
