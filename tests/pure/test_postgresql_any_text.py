"""`databases/postgresql.scan` on any text: it never raises, is not fooled by a literal, and takes linear time."""

from __future__ import annotations

import signal
from contextlib import contextmanager

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from instrumented_wrapper.databases.postgresql import scan
from instrumented_wrapper.statement import Effects


def leaves(text: str) -> list[str]:
    effects = scan(text)
    return [str(step.name) for step in effects.steps] if effects else []


PIECES = [
    "set ",
    "SET ROLE x",
    "'",
    '"',
    "$$",
    "$a$",
    "\\",
    "/*",
    "*/",
    "--",
    "\n",
    ";",
    "(",
    ")",
    ",",
    "E'",
    "é",
    "\0",
]
PIECES += ["set_config(", "'a'", "begin", "atomic", "create function ", "temp ", "into ", "reset ", "all", ".", "="]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)))
@example("set")
@example("set (")
@example("reset")
@example("set session")
@example("set '\ud800")
def test_no_text_makes_it_raise(text):
    assert scan(text) is None or isinstance(scan(text), Effects)


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_a_literal_leaves_nothing_whatever_is_in_it(text):
    quoted = text.replace("'", "''")
    escaped = quoted.replace("\\", "\\\\")
    tag = "$q$" if "$q$" not in text and not text.endswith("$q") else "$other$"
    assert scan(f"SELECT '{quoted}', E'{escaped}', {tag}{text}{tag}, \"x{text.replace(chr(34), '')}\"") is None


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_a_statement_is_seen_whatever_literal_stands_before_it(text):
    quoted = text.replace("'", "''")
    assert leaves(f"SELECT '{quoted}'; SET ROLE bob") == ["role"]
    assert leaves(f"SELECT E'{quoted.replace(chr(92), chr(92) * 2)}'; SET ROLE bob") == ["role"]


class TooSlowError(Exception):
    pass


@contextmanager
def processor_seconds(limit: float):
    """Fail after so much time of the processor, however busy the machine is."""

    def stop(*_):
        raise TooSlowError(limit)

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


UNITS = [
    "/*",
    "*/",
    "/*/",
    "/* ' ",
    "'",
    "''",
    '"',
    "$",
    "$$",
    "$a$",
    "$1 ",
    "\\",
    "\\'",
    "E'",
    "-",
    "--",
    "-- \n",
    "(",
    "f(",
    "f (1, ",
]
UNITS += [",", ";", "a", "a.", "1", "\0", "é", "\n", "SET a=1;", "set_config(", "set_config('a'", "pg_advisory_lock("]
UNITS += ["create function ", "CREATE FUNCTION f() BEGIN ATOMIC;", "into ", "SET LOCAL ", "RESET ALL;", "case ", "end "]


@pytest.mark.parametrize("unit", UNITS)
def test_long_texts_take_linear_time(unit):
    """In quadratic time these 40 kB would take many seconds; they take about 0.05."""
    with processor_seconds(1.5):
        for start in ("set ", "set '", "set /*", 'set "', "set $$", "set E'"):
            scan(start + unit * (40_000 // len(unit)))


def test_a_large_insert_is_read_quickly():
    rows = ", ".join(f"({number}, 'set up ''{number}''', E'call \\n')" for number in range(10_000))
    with processor_seconds(3):
        assert scan(f"INSERT INTO t VALUES {rows}") is None
