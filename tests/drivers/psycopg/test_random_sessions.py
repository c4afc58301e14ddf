"""Random walks through a session: after each step the server has the values that we say it has.

``WALKS=1000 pytest tests/drivers/psycopg/test_random_sessions.py`` walks longer, ``RANDOM_WALKS=1`` elsewhere each
time; of a failure, the shortest walk to it is printed.
"""

from __future__ import annotations

import os
import random
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from .random_session import PLAIN, RandomApp

WALKS = int(os.environ.get("WALKS", "10"))
STEPS = 50
WALK = settings(
    max_examples=WALKS,
    stateful_step_count=STEPS,
    derandomize="RANDOM_WALKS" not in os.environ,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
DICE = st.integers(0, 2**32).map(random.Random)  # what is thrown depends on what the server said before
OTHER = [
    *("parameters", "composed", "client_side", "many", "pipeline", "block", "finish", "prepared", "server_cursor"),
    *("switch", "reset", "lose"),
]


class Walk(RuleBasedStateMachine):
    """An app that does what comes to its mind."""

    def __init__(self, connection: Any, administrator: Any) -> None:
        super().__init__()
        self.connection = connection
        self.app = RandomApp(
            connection, lambda pid: administrator.execute("SELECT pg_terminate_backend(%s, 9999)", [pid])
        )

    @rule(texts=st.lists(st.sampled_from(PLAIN), min_size=1, max_size=4))
    def plain(self, texts: list[str]) -> None:
        for text in texts:
            self.app.do("plain", _Always(text))
            self.app.compare()

    @rule(thing=st.sampled_from(OTHER), dice=DICE)
    def other(self, thing: str, dice: Any) -> None:
        self.app.do(thing, dice)

    @invariant()
    def agrees(self) -> None:
        self.app.compare()

    def teardown(self) -> None:
        self.connection.close()


class _Always:
    """Dice that always fall the same way."""

    def __init__(self, value: str) -> None:
        self.value = value

    def choice(self, _: Any) -> str:
        return self.value


@pytest.mark.parametrize("autocommit", [True, False])
def test_walks(superuser: str, autocommit: bool) -> None:
    options = {"failover": "on"}
    with psycopg.connect(superuser, autocommit=True) as administrator:

        def walk() -> Walk:
            return Walk(psycopg.connect(superuser, autocommit=autocommit, instrumented_wrapper=options), administrator)

        run_state_machine_as_test(walk, settings=WALK)
