"""Group Replication: the primary is switched over, killed, expelled or left alone while all drivers write.

Consensus of the members is what makes a commit last: one that was answered is on the next primary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from contract.rows import PATIENCE

from servers import guard
from servers.group import Group, GroupMember

from .crew import Crew
from .mysql_sites import OnGroup

Way = Callable[..., Crew]


@pytest.fixture
def writers(group: Group, drivers_of: Any, crew: Any) -> Way:
    def writers(**options: Any) -> Crew:
        made: Crew = crew(OnGroup, group)
        primary = group.primary
        for driver in drivers_of("mysql"):
            made.both(driver, "hosts", made.site.dsn(primary, *group.others(primary)), options)
        return made

    return writers


@contextmanager
def frozen(*members: GroupMember) -> Iterator[None]:
    for member in members:
        member.freeze()
    try:
        yield
    finally:
        for member in members:
            member.thaw()


def test_switchover(group: Group, writers: Way) -> None:
    with writers().at_work() as go_on:
        for member in group.others(group.primary):
            member.become_primary()
            go_on()


def test_crash_of_the_primary(group: Group, writers: Way) -> None:
    """The old primary comes back, takes writes outside of the group, and gets none: all go to the members."""
    with writers().at_work() as go_on:
        old = group.primary
        old.kill()
        new = group.wait_for_primary(*group.others(old))
        go_on()
        old.start()
        assert old.writable()
        (third,) = (member for member in group.others(new) if member is not old)
        third.become_primary()
        go_on()
        old.join()  # which is refused to one that has a transaction of its own
        go_on()


def test_expelled_primary(group: Group, writers: Way) -> None:
    with writers(probe_after=1).at_work() as go_on:
        old = group.primary
        with frozen(old):
            group.wait_for_primary(*group.others(old))
            go_on()
        assert guard.wait_until(lambda: old.state() == "ERROR", PATIENCE)
        go_on()
        old.join()
        go_on()


def test_primary_without_a_majority(group: Group, writers: Way) -> None:
    """The primary gives up; what it had under way, the others may have."""
    with writers().at_work() as go_on:
        old = group.primary
        with frozen(*group.others(old)):
            assert guard.wait_until(lambda: old.state() == "ERROR", PATIENCE)
        group.wait_for_primary(*group.others(old))
        go_on()
        old.join()
        go_on()
