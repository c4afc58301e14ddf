"""With which parameters a test runs: with all of them, with every fourth, or with those that are left.

A test of the contract suite does the same over all drivers and databases, and what they share is the engine. Over
every fourth driver, others for each test, it takes minutes: a test runs over about five drivers, and a driver runs a
quarter of the tests. So it is with the parameters of all tests that need servers or processes. ``make test`` takes this
quarter and all other tests, ``make test-others`` the rest; both together are the whole suite.
"""

from collections import defaultdict
from typing import Final
from zlib import crc32

import pytest

EVERY, SOME, OTHERS = "every", "some", "others"
STEP: Final = 4
CHEAP: Final = {"pure", "oracles", "test_architecture.py", "test_docs.py"}


def add_option(parser: pytest.Parser) -> None:
    parser.addoption("--parameters", choices=(EVERY, SOME, OTHERS), default=EVERY, help="that a test on servers has")


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave only the tests of this run in `items`."""
    if (wanted := config.getoption("--parameters")) == EVERY:
        return
    some = in_some(items)
    config.hook.pytest_deselected(items=[item for item in items if (item in some) == (wanted == OTHERS)])
    items[:] = [item for item in items if (item in some) == (wanted == SOME)]


def in_some(items: list[pytest.Item]) -> set[pytest.Item]:
    """Return each test with every fourth of its parameters, and with one at least."""
    same: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        same[group(item)].append(item)
    return {item for name, over in same.items() for item in over[crc32(name.encode()) % min(STEP, len(over)) :: STEP]}


def group(item: pytest.Item) -> str:
    """Return a name for a test with those parameters that belong together: with the drivers, or with all."""
    test, _, parameters = item.nodeid.partition("[")
    given = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if "contract" in item.path.parts and "driver" in given:
        names = parameters.rstrip("]").split("-")
        names.remove(given["driver"].name)
        return "-".join((test, *names))
    return item.nodeid if CHEAP.intersection(item.path.parts) else test
