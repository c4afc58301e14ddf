"""With which parameters a test runs: with all of them, with a third, or with those that are left.

A test of the contract suite does the same over all drivers and databases, and what they share is the engine. Over
every third driver, another third for each test, it takes minutes: a test runs over about six drivers, and a driver
runs a third of the tests. So it is with the parameters of the tests of single drivers. ``make test`` takes this third
and all tests without parameters, ``make test-others`` the rest; both together are the whole suite.
"""

from collections import defaultdict
from zlib import crc32

import pytest

EVERY, THIRD, OTHERS = "every", "third", "others"


def add_option(parser: pytest.Parser) -> None:
    parser.addoption("--parameters", choices=(EVERY, THIRD, OTHERS), default=EVERY, help="of a test on servers")


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave only the tests of this run in `items`."""
    if (wanted := config.getoption("--parameters")) == EVERY:
        return
    third = in_third(items)
    config.hook.pytest_deselected(items=[item for item in items if (item in third) == (wanted == OTHERS)])
    items[:] = [item for item in items if (item in third) == (wanted == THIRD)]


def in_third(items: list[pytest.Item]) -> set[pytest.Item]:
    """Return each test with every third of its parameters, and with one at least."""
    same: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        same[group(item)].append(item)
    return {item for name, over in same.items() for item in over[crc32(name.encode()) % min(3, len(over)) :: 3]}


def group(item: pytest.Item) -> str:
    """Return a name for a test with those parameters that belong together: with the drivers, or with all."""
    test, _, parameters = item.nodeid.partition("[")
    given = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if "contract" in item.path.parts and "driver" in given:
        names = parameters.rstrip("]").split("-")
        names.remove(given["driver"].name)
        return "-".join((test, *names))
    return test if "drivers" in item.path.parts else item.nodeid
