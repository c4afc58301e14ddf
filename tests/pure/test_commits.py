"""What the answer of a server proves of a transaction whose COMMIT was lost: each rule of the module, each doubt."""

from dataclasses import replace
from typing import Any

import pytest

from instrumented_wrapper.databases.postgresql.commits import Outcome, Position, ServerFacts, outcome, position

PRIMARY = ServerFacts("7", timeline=2, started=1_000, recovered=50, address=("10.0.0.1", "5432"))
LOST = Position(xid=700, wal=100, seen=700, moment=5_000, temporary=False, process=42, server=PRIMARY)
COMMITTED, ROLLED_BACK, UNKNOWN = Outcome.COMMITTED, Outcome.ROLLED_BACK, Outcome.UNKNOWN


def answer(
    status: str | None, now: ServerFacts = PRIMARY, primary: str = "t", replayed: int | None = None, unlogged: str = "f"
) -> list[str | None]:
    """Return a row as `ask_outcome` brings it: a server that has streamed has a time of the last replay."""
    promoted = "t" if replayed is not None else "f"
    seen = None if replayed is None else str(replayed)
    end = None if now.recovered is None else str(now.recovered)
    cells = [now.identifier, f"{now.timeline:08X}", str(now.started), end, *now.address]
    return ["k", primary, status, promoted, promoted, seen, unlogged, *cells]


ELSEWHERE = replace(PRIMARY, address=("10.9.9.9", "5432"))
RESTARTED = replace(PRIMARY, started=9_000, recovered=None)
CRASHED = replace(PRIMARY, started=9_000, recovered=120)
PROMOTED = ServerFacts("7", timeline=3, started=900, recovered=120, address=("10.0.0.2", "5432"))
SHORT = replace(PROMOTED, recovered=100)

CASES: dict[str, tuple[list[str | None], Outcome]] = {
    "the same server": (answer("committed"), COMMITTED),
    "the same server, rolled back": (answer("aborted"), ROLLED_BACK),
    "the same server, still running": (answer("in progress"), Outcome.IN_PROGRESS),
    "the same server, by another address": (answer("committed", ELSEWHERE), COMMITTED),
    "the same server, by another address, rolled back": (answer("aborted", ELSEWHERE), ROLLED_BACK),
    "the same server, by another address, still running": (answer("in progress", ELSEWHERE), Outcome.IN_PROGRESS),
    "too old": (answer(None), UNKNOWN),
    "in recovery": (answer("committed", primary="f"), UNKNOWN),
    "another system": (answer("aborted", replace(PRIMARY, identifier="8")), UNKNOWN),
    "promoted": (answer("committed", PROMOTED, replayed=5_001), COMMITTED),
    "promoted, not received": (answer("aborted", PROMOTED, replayed=5_001), ROLLED_BACK),
    "promoted, id in the future or another's": (answer("in progress", PROMOTED, replayed=5_001), ROLLED_BACK),
    "promoted, id given out again": (answer("committed", SHORT, replayed=5_001), ROLLED_BACK),
    "promoted, the last one replayed is older": (answer("committed", PROMOTED, replayed=4_999), UNKNOWN),
    "promoted, and has crashed since": (answer("committed", PROMOTED), UNKNOWN),
    "promoted, unlogged tables": (answer("committed", PROMOTED, replayed=5_001, unlogged="t"), UNKNOWN),
    "promoted twice": (answer("committed", replace(PROMOTED, timeline=4), replayed=5_001), UNKNOWN),
    "promoted twice, not committed": (answer("aborted", replace(PROMOTED, timeline=4), replayed=5_001), ROLLED_BACK),
    "an older timeline": (answer("committed", replace(PROMOTED, timeline=1), replayed=5_001), UNKNOWN),
    "another server of the timeline": (answer("committed", replace(PROMOTED, timeline=2), replayed=5_001), UNKNOWN),
    "restarted": (answer("committed", RESTARTED), COMMITTED),
    "restarted elsewhere": (answer("committed", replace(RESTARTED, address=("10.0.0.9", "5432"))), UNKNOWN),
    "crashed": (answer("committed", CRASHED), COMMITTED),
    "crashed, id given out again": (answer("committed", replace(CRASHED, recovered=100)), ROLLED_BACK),
    "crashed, id of another that runs": (answer("in progress", CRASHED), ROLLED_BACK),
    "crashed, unlogged tables": (answer("committed", CRASHED, unlogged="t"), UNKNOWN),
}


@pytest.mark.parametrize("name", CASES)
def test_an_answer_proves_this_outcome(name: str) -> None:
    row, expected = CASES[name]
    assert outcome(LOST, row) is expected


@pytest.mark.parametrize(
    ("known", "expected"),
    [({"temporary": True}, UNKNOWN), ({"temporary": True, "seen": 701}, COMMITTED), ({"server": None}, UNKNOWN)],
)
def test_what_was_read_before(known: dict[str, Any], expected: Outcome) -> None:
    """A higher id that has ended is in the WAL before the position."""
    assert outcome(replace(LOST, **known), answer("committed", PROMOTED, replayed=5_001)) is expected


def test_a_transaction_without_an_id_has_no_position() -> None:
    assert position(["k", None, None, "700", "5000", "0", "42", "t"]) == (None, True, 42)


def test_the_position_of_a_commit_is_read_from_its_row() -> None:
    found, may_read, process = position(["k", "700", "100", "700", "5000", "16400", "42", "f"])
    assert found == replace(LOST, temporary=True, server=None)
    assert (may_read, process) == (False, 42)
