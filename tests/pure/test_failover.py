"""`failover`: when to ask which host again and when to give up, on a clock of the test; and who searches for whom."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instrumented_wrapper.failover import (
    FIRST_PAUSE,
    HEAD_START,
    LAST_ANSWERS,
    LONGEST_PAUSE,
    Attempt,
    Attempts,
    NoServer,
    Search,
    Tried,
    backoff_delay,
)
from instrumented_wrapper.single_flight import AT_ONCE, Interrupted, SingleFlight

A, B = ("a", 1), ("b", 2)


@pytest.fixture
def search() -> Search:
    return Search([A, B], started=100.0, deadline=115.0)


def fail(search: Search, host, now: float, permanent: bool = False) -> None:
    search.starting(host, 1)
    search.failed(host, now, permanent)


# --- pauses -----------------------------------------------------------------------------------------------------


@given(st.floats(0, 1e6), st.floats(0, 1))
def test_a_pause_is_bounded(elapsed, dice):
    assert 0.75 * FIRST_PAUSE <= backoff_delay(elapsed, lambda: dice) <= 1.25 * LONGEST_PAUSE


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_longer_search_asks_more_rarely(one, other):
    early, late = sorted([one, other])
    assert backoff_delay(early, lambda: 0.5) <= backoff_delay(late, lambda: 0.5)


def test_pauses_differ_so_that_many_do_not_ask_at_once():
    assert len({backoff_delay(1.0) for _ in range(20)}) > 10


# --- one search -------------------------------------------------------------------------------------------------


def test_all_hosts_are_asked_at_once(search):
    assert search.take_due(100.0) == [A, B]
    assert search.take_due(100.0) == [], "each is under way"


def test_the_order_of_the_hosts_is_kept():
    assert Search([B, A], 0, 1).take_due(0) == [B, A]


def test_the_lost_server_is_asked_first():
    search = Search([A, B], 100.0, 115.0, first=B)
    assert search.take_due(100.0) == [B]
    assert search.seconds_to_wait(100.0) == pytest.approx(HEAD_START)
    assert search.take_due(100.0 + HEAD_START) == [A], "it may have vanished"


def test_the_others_do_not_wait_for_the_end_of_its_head_start(search):
    search = Search([A, B], 100.0, 115.0, first=B)
    search.take_due(100.0)
    fail(search, B, 100.001)
    assert search.take_due(100.001) == [A]


@pytest.mark.parametrize("first", [None, ("c", 1)])
def test_where_the_lost_server_is_none_of_the_hosts_all_are_asked_at_once(first):
    assert Search([A, B], 100.0, 115.0, first=first).take_due(100.0) == [A, B]


def test_a_host_that_failed_is_asked_again_after_a_pause(search):
    search.take_due(100.0)
    fail(search, A, 100.0)
    assert search.take_due(100.0) == []
    wait = search.seconds_to_wait(100.0)
    assert 0 < wait <= 1.25 * FIRST_PAUSE
    assert search.take_due(100.0 + wait) == [A], "b is still under way"


def test_a_slow_host_holds_no_other_up(search):
    search.take_due(100.0)
    now, asked = 100.0, 0
    while now < 114.0:
        fail(search, A, now)
        now += search.seconds_to_wait(now)
        asked += search.take_due(now) == [A]
    assert asked > 10


def test_a_name_with_several_addresses_is_one_host(search):
    search.take_due(100.0)
    search.starting(A, 2)
    search.failed(A, 100.0)
    assert search.take_due(101.0) == [], "the other address may still answer"
    search.failed(A, 101.0)
    assert search.take_due(103.0) == [A]
    assert search.attempts == 2


def test_a_name_without_address_counts_as_failed(search):
    search.take_due(100.0)
    search.failed(A, 100.0)
    assert search.attempts == 0
    assert search.take_due(102.0) == [A]


def test_it_is_over_at_the_deadline(search):
    assert not search.is_over(114.999)
    assert search.is_over(115.0)
    search.take_due(100.0)
    assert search.seconds_to_wait(114.0) == 1.0
    assert search.seconds_to_wait(116.0) == 0.0


def test_an_answer_for_good_ends_it_as_soon_as_nothing_is_under_way(search):
    search.take_due(100.0)
    search.starting(B, 1)
    fail(search, A, 100.0, permanent=True)
    assert search.permanent
    assert not search.is_over(100.0), "b may still answer"
    assert search.take_due(105.0) == [], "nobody is asked again"
    search.failed(B, 100.1)
    assert search.is_over(100.1)


def test_an_answer_for_good_leaves_little_time_to_the_others(search):
    search.take_due(100.0)
    search.starting(B, 1)
    fail(search, A, 101.0, permanent=True)
    assert search.is_over(101.0 + LAST_ANSWERS)
    assert search.seconds_to_wait(101.0) <= LAST_ANSWERS + 1e-6


def test_an_answer_for_good_never_prolongs_it(search):
    search.take_due(100.0)
    search.starting(B, 1)
    fail(search, A, 114.9, permanent=True)
    assert search.is_over(115.0)


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.booleans()), max_size=40))
def test_a_search_always_ends_and_never_spins(events):
    search, now, rounds = Search([A, B], 0.0, 15.0), 0.0, 0
    answers = iter(events)
    while not search.is_over(now):
        for host in search.take_due(now):
            search.starting(host, 1)
            _, permanent = next(answers, (host, False))
            search.failed(host, now, permanent)
        now += search.seconds_to_wait(now)
        rounds += 1
    assert now <= 15.0 + 1e-6
    assert rounds < 300


# --- a search that is shared ------------------------------------------------------------------------------------


def test_the_first_leads_and_the_others_follow():
    shared = SingleFlight()
    assert shared.join("x") is None
    follower = shared.join("x")
    assert follower is not None
    with shared.leading("x") as tell:
        tell(A)
    assert follower.result(0) == A


def test_other_searches_are_not_concerned():
    shared = SingleFlight()
    assert shared.join("x") is None
    assert shared.join("y") is None


def test_after_the_end_the_next_one_leads():
    shared = SingleFlight()
    assert shared.join("x") is None
    with shared.leading("x") as tell:
        tell(A)
    assert shared.join("x") is None


def test_while_some_connect_to_what_was_found_whoever_is_lost_follows_too():
    shared = SingleFlight()
    assert shared.join("x") is None
    follower = shared.join("x")
    with shared.leading("x") as tell:
        tell(A)
    late = shared.join("x")
    assert late is follower
    shared.leave("x", follower, in_vain=False)
    assert shared.join("x") is late
    shared.leave("x", late, in_vain=False)
    shared.leave("x", late, in_vain=False)
    assert shared.join("x") is None


def test_whoever_follows_in_vain_is_the_last():
    shared = SingleFlight()
    shared.join("x")
    followers = [shared.join("x") for _ in range(2)]
    with shared.leading("x") as tell:
        tell(A)
    shared.leave("x", followers[0], in_vain=True)
    assert shared.join("x") is None
    shared.leave("x", followers[1], in_vain=False)
    assert shared.join("x") is not None, "the next search is another one"


def test_those_who_wait_hear_of_a_failure():
    shared = SingleFlight()
    shared.join("x")
    follower = shared.join("x")
    with pytest.raises(NoServer), shared.leading("x"):
        raise NoServer(7, permanent=True)
    assert follower.exception(0).permanent
    assert shared.join("x") is None


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, ValueError])
def test_a_leader_that_is_interrupted_says_nothing_of_the_servers(interruption):
    shared = SingleFlight()
    shared.join("x")
    follower = shared.join("x")
    with pytest.raises(interruption), shared.leading("x"):
        raise interruption
    assert isinstance(follower.exception(0), Interrupted)
    assert shared.join("x") is None, "a follower takes over"


def test_a_child_process_starts_afresh():
    shared = SingleFlight()
    shared.join("x")
    shared.forget()
    assert shared.join("x") is None


def test_a_leader_from_before_a_fork_disturbs_nobody():
    shared = SingleFlight()
    shared.join("x")
    with shared.leading("x") as tell:
        shared.forget()
        assert shared.join("x") is None
        follower = shared.join("x")
        tell(A)
    assert not follower.done()


class Counting(SingleFlight):
    """Tells when so many have asked whether somebody searches."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.changed = 0, threading.Condition()

    def join(self, what):
        answer = super().join(what)
        with self.changed:
            self.asked += 1
            self.changed.notify_all()
        return answer

    def wait_until_asked(self, times: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.asked >= times, 20)


def search_as_a_driver_does(shared: SingleFlight, look):
    while (leader := shared.join("x")) is not None:
        with suppress(Interrupted):
            return leader.result(20)
    with shared.leading("x") as tell:
        tell(look())
    return A


def test_fifty_at_once_look_once_and_one_takes_over_from_an_interrupted_leader():
    shared, looks = Counting(), []

    def look():
        looks.append(threading.get_ident())
        if len(looks) == 1:
            shared.wait_until_asked(50)
            raise KeyboardInterrupt
        shared.wait_until_asked(50 + 49)
        return A

    with ThreadPoolExecutor(50) as pool:
        futures = [pool.submit(search_as_a_driver_does, shared, look) for _ in range(50)]
        ends = [future.exception(20) or future.result() for future in futures]
    assert sorted(map(str, ends)) == sorted(["", *[str(A)] * 49])
    assert len(looks) == 2


def test_attempts_are_grouped_by_server_and_outcome() -> None:
    tried = Tried()
    for number in range(500):
        tried.append(Attempt(A, 100.0 + number, 0.5, "refused"))
    tried.append(Attempt(B, 101.0, 2.0, "refused"))
    tried.append(Attempt(A, 700.0, 0.25, "connected"))
    assert list(tried) == [
        Attempts(A, "refused", 100.0, 599.0, 500, 250.0),
        Attempts(B, "refused", 101.0, 101.0, 1, 2.0),
        Attempts(A, "connected", 700.0, 700.0, 1, 0.25),
    ]


def test_what_several_searches_tried_is_one_list() -> None:
    one = Attempts(A, "refused", 1.0, 2.0, 3, 4.0)
    other = Attempts(A, "refused", 0.5, 1.5, 2, 1.0)
    assert list(Tried((one, other))) == [Attempts(A, "refused", 0.5, 2.0, 5, 5.0)]


# --- turns: a few at a time --------------------------------------------------------------------------------------


def begun(turns) -> list[bool]:
    return [turn.done() and turn.exception() is None for turn in turns]


def test_a_few_connect_at_a_time_and_the_next_one_begins_when_one_is_done():
    shared = SingleFlight()
    with ExitStack() as stack:
        first = [ExitStack() for _ in range(AT_ONCE)]
        turns = [one.enter_context(shared.following(A, blocks=False)) for one in first]
        waiting = [stack.enter_context(shared.following(A, blocks=False)) for _ in range(2)]
        elsewhere = stack.enter_context(shared.following(B, blocks=False))
        assert begun([*turns, *waiting, elsewhere]) == [True] * AT_ONCE + [False, False, True]
        first[3].close()
        assert begun(waiting) == [True, False]
        first[0].close()
        assert begun(waiting) == [True, True]


def test_whoever_gives_up_waiting_takes_no_turn():
    shared = SingleFlight()
    with ExitStack() as stack:
        first = [ExitStack() for _ in range(AT_ONCE)]
        for one in first:
            one.enter_context(shared.following(A, blocks=False))
        with suppress(TimeoutError), shared.following(A, blocks=False):
            raise TimeoutError
        last = stack.enter_context(shared.following(A, blocks=False))
        first[0].close()
        assert begun([last]) == [True]


def test_where_the_server_is_gone_again_those_who_wait_look_anew():
    shared = SingleFlight()
    with ExitStack() as stack:
        for _ in range(AT_ONCE - 1):
            stack.enter_context(shared.following(A, blocks=False))
        with pytest.raises(NoServer), shared.following(A, blocks=False):
            waiting = [stack.enter_context(shared.following(A, blocks=False)) for _ in range(2)]
            raise NoServer(1)
        assert [type(turn.exception(0)) for turn in waiting] == [Interrupted, Interrupted]
    with shared.following(A) as turn:
        assert begun([turn]) == [True], "nobody is left"


def test_whoever_blocks_a_thread_does_not_wait_for_tasks_of_that_thread():
    shared = SingleFlight()
    with ExitStack() as stack:
        for _ in range(AT_ONCE):
            stack.enter_context(shared.following(A, blocks=False))
        assert begun([stack.enter_context(shared.following(A))]) == [True]
        with ThreadPoolExecutor(1) as elsewhere:
            assert elsewhere.submit(lambda: begun([stack.enter_context(shared.following(A))])).result() == [False]
