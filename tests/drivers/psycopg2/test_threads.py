"""Threads that share a connection."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError

from ..watch import Watch, eventually
from .conftest import rows

END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"


class Worker(threading.Thread):
    """Run a statement, and keep what came of it."""

    def __init__(self, connection: Any, text: str) -> None:
        super().__init__()
        self.cursor, self.text, self.outcome = connection.cursor(), text, None
        self.start()

    def run(self) -> None:
        try:
            self.cursor.execute(self.text)
            self.outcome = self.cursor.fetchall()
        except Exception as error:
            self.outcome = error

    def waits_for_its_turn(self) -> bool:
        frame = sys._current_frames().get(self.ident or 0)
        return frame is not None and frame.f_code.co_name == "execute"


@pytest.mark.parametrize("switches_before", [0, 1])
def test_who_waits_for_a_turn_is_not_concerned_by_the_loss(connect, watch: Watch, switches_before: int) -> None:
    connection = connect()
    connection.autocommit = True
    for _ in range(switches_before):
        watch.end_sessions()
        rows(connection, "SELECT 1")
    first = Worker(connection, "SELECT pg_sleep(60)")
    assert eventually(watch.sleeping)
    others = [Worker(connection, f"SELECT {number}") for number in range(5)]
    assert eventually(lambda: all(other.waits_for_its_turn() for other in others))
    watch.sql(END)
    for worker in (first, *others):
        worker.join()
    assert isinstance(first.outcome, FailoverSuccessError)
    assert (first.outcome.transaction, first.outcome.may_have_run) == ("none", True)
    assert [other.outcome for other in others] == [[(number,)] for number in range(5)]


def test_losses_under_load(connect, watch: Watch) -> None:
    """Each loss is told at most once, and nothing else is told."""
    connection = connect()
    connection.autocommit = True
    told, over = Counter[Any](), threading.Event()

    def work(number: int) -> None:
        cursor = connection.cursor()
        while not over.is_set():
            try:
                cursor.execute("SELECT %s, pg_sleep(0.0005)", (number,))
                told["right" if cursor.fetchone()[0] == number else "wrong"] += 1
            except FailoverSuccessError as error:
                told[error.transaction] += 1
            except Exception as error:
                told[repr(error)] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        before = told["right"]
        assert eventually(lambda before=before: told["right"] > before + 20)
        watch.sql(END)
    over.set()
    for thread in threads:
        thread.join()
    assert set(told) <= {"right", "none"}
    assert told["none"] <= 5
