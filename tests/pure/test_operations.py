"""What is kept of texts, and how much."""

from instrumented_wrapper.operations import bounded_put


def test_the_oldest_goes_when_there_are_too_many() -> None:
    known: dict[str, int] = {}
    for number in range(5):
        assert bounded_put(known, str(number), number, most=3) == number
    assert known == {"2": 2, "3": 3, "4": 4}


def test_the_text_of_a_dump_is_not_kept() -> None:
    known: dict[str, int] = {}
    assert bounded_put(known, "x" * 1_000_000, 7, most=3) == 7
    assert not known
