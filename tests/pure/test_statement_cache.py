"""What is remembered of statement texts: read once, at most so many, of long ones only a few."""

from __future__ import annotations

import pytest

from instrumented_wrapper.drivers.engine.statement_cache import UNSEEN, StatementCache

COUNT, LONG, FEW = 4096, 4096, 64


def counted() -> tuple[list[str], StatementCache[str, int]]:
    read: list[str] = []

    def length(text: str) -> int:
        read.append(text)
        return len(text)

    return read, StatementCache(length)


def test_a_text_is_read_once() -> None:
    read, cache = counted()
    assert [cache.value_of("SELECT 1") for _ in range(3)] == [8, 8, 8]
    assert read == ["SELECT 1"]


def test_that_a_text_does_nothing_is_remembered_too() -> None:
    read: list[str] = []
    cache: StatementCache[str, None] = StatementCache(read.append)
    assert (cache.value_of("a"), cache.value_of("a"), read) == (None, None, ["a"])
    assert cache.known.get("a", UNSEEN) is None


def test_the_frequent_path_finds_a_text_in_the_dict_itself() -> None:
    _, cache = counted()
    known = cache.known
    assert known.get("SELECT 1", UNSEEN) is UNSEEN
    cache.value_of("SELECT 1")
    assert known["SELECT 1"] == 8


@pytest.mark.parametrize(("length", "most"), [(LONG, COUNT), (LONG + 1, FEW)])
def test_the_oldest_texts_are_forgotten(length: int, most: int) -> None:
    read, cache = counted()
    texts = [str(number).rjust(length) for number in range(most + 1)]
    for text in texts:
        cache.value_of(text)
    cache.value_of(texts[1])
    assert read == texts
    cache.value_of(texts[0])
    assert read == [*texts, texts[0]]


def test_long_texts_are_not_in_the_way_of_others() -> None:
    read, cache = counted()
    cache.value_of("SELECT 1")
    for number in range(FEW + 1):
        cache.value_of(str(number).rjust(LONG + 1))
    cache.value_of("SELECT 1")
    assert read.count("SELECT 1") == 1


def test_a_text_that_cannot_be_read_is_tried_again() -> None:
    answers = iter([ValueError("first"), 1])

    def read(text: str) -> int:
        if isinstance(answer := next(answers), int):
            return answer
        raise answer

    cache = StatementCache(read)
    with pytest.raises(ValueError, match="first") as raised:
        cache.value_of("a")
    assert raised.value.__context__ is None, "the app sees no error of the memo"
    assert cache.value_of("a") == 1
