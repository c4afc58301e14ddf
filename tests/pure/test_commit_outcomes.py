"""What the answer of a server proves of a COMMIT: the rules that need no server."""

from __future__ import annotations

import pytest

from instrumented_wrapper.databases.postgresql.commits import Outcome, Position, ServerFacts, outcome

OLD = ServerFacts("7", 1, 1000, None, ("10.0.0.1", "5432"))
LOST = Position(xid=800, wal=5000, seen=790, moment=2000, temporary=False, process=42, server=OLD)


def answer(status: str, *cells: str | None, address: str = "10.0.0.1") -> list[str | None]:
    """Return a row as a primary gives it that never streamed, without tables that are not logged."""
    identity = list(cells) or ["7", "00000001", "1000", None]
    return ["commit", "t", status, "f", "f", None, "f", *identity, address, "5432"]


@pytest.mark.parametrize("address", ["10.0.0.1", "10.9.9.9"])
@pytest.mark.parametrize(
    ("status", "found"),
    [
        ("in progress", Outcome.IN_PROGRESS),
        ("committed", Outcome.COMMITTED),
        ("aborted", Outcome.ROLLED_BACK),
    ],
)
def test_the_running_server_is_the_same_on_any_of_its_addresses(status: str, found: Outcome, address: str) -> None:
    assert outcome(LOST, answer(status, address=address)) is found


def test_a_committed_id_on_a_restarted_server_at_another_address_proves_nothing() -> None:
    """Two servers of one history may each have given the id to a transaction of their own."""
    restarted = ("7", "00000001", "3000", None)
    assert outcome(LOST, answer("committed", *restarted)) is Outcome.COMMITTED
    assert outcome(LOST, answer("committed", *restarted, address="10.9.9.9")) is Outcome.UNKNOWN
