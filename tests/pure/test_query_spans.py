"""Which span a call has, and that telemetry which fails never reaches the app: no driver, no database, no SDK."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from instrumented_wrapper import pages
from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans, named_parameters
from instrumented_wrapper.operations import Site, Words

PARAMETERS = [("x",), [("x",), ("y",)]]


class Recorder:
    """`Operations` that keeps what begins, and whose methods fail on demand."""

    def __init__(self) -> None:
        self.begun: list[tuple[Any, bool, bool]] = []
        self.fails, self.heard, self.recorded, self.instrumented, self.measured = "", True, False, False, False

    def nobody(self) -> bool:
        return False

    def listens(self) -> bool:
        return self.heard

    def within_recorded(self) -> bool:
        return self.recorded

    def is_instrumented(self, driver: str) -> bool:
        return self.instrumented

    def is_measured(self, driver: str) -> bool:
        return self.measured

    def templates_at(self, site: Site, without: Any = (), query_text: str = "auto") -> Any:
        if self.fails == "templates_at":
            raise RuntimeError("secret")
        return SimpleNamespace(
            query_text=query_text, bound={}, bare={}, put=self.put, template=lambda *given: ("one", *given)
        )

    def put(self, known: dict[Any, Any], key: Any, words: Words, text: str | None) -> Any:
        known[key] = (words.summary, text)
        return known[key]

    def begin(self, template: Any, traces: bool, metrics: bool, started: int, place: Any = None) -> Any:
        if self.fails == "begin":
            raise RuntimeError("secret")
        self.begun.append((template, traces, metrics))
        return "operation"


class Cursor:
    """Of no driver."""


class ADriver:
    """A driver whose queries are texts, or composed of bytes."""

    name, room = "a driver", postgresql

    def text_of(self, cursor: Any, query: Any) -> str:
        return query if isinstance(query, str) else b"".join(query).decode()


def options(**given: Any) -> Any:
    defaults = {"query_spans": "auto", "traces": True, "metrics": True, "transaction_spans": "auto"}
    return SimpleNamespace(**{**defaults, "connect_spans": True, "metrics_without": (), "query_text": "auto", **given})


def record(**given: Any) -> Any:
    here = Site("postgresql", "app", "db", 5432)
    return SimpleNamespace(
        templates=None, options=options(**given), spans_wanted=True, operations_wanted=True, site=lambda: here
    )


CALLS: dict[str, Callable[[QuerySpans, Any], Any]] = {
    "statement": lambda spans, record: spans.statement(record, Cursor(), "SELECT 1"),
    "batch": lambda spans, record: spans.batch(record, Cursor(), "SELECT %s", PARAMETERS),
    "script": lambda spans, record: spans.script(record, Cursor(), "SELECT 1; SELECT 2", PARAMETERS),
    "procedure": lambda spans, record: spans.procedure(record, "p", PARAMETERS),
    "command": lambda spans, record: spans.command("COMMIT", record),
    "part": lambda spans, record: spans.part(Words("COPY t"), record),
    "page": lambda spans, record: spans.page(record, Cursor()),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_operation_begins(call: str) -> None:
    recorder = Recorder()
    assert CALLS[call](QuerySpans(ADriver(), recorder), record()) == "operation"
    assert len(recorder.begun) == 1


@pytest.mark.parametrize("fails", ["templates_at", "begin"])
@pytest.mark.parametrize("call", CALLS)
def test_telemetry_that_fails_does_not_reach_the_app(call: str, fails: str, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    recorder.fails = fails
    with caplog.at_level("DEBUG", "instrumented_wrapper"):
        assert CALLS[call](QuerySpans(ADriver(), recorder), record()) is None
    assert [entry.getMessage() for entry in caplog.records] == ["telemetry failed: RuntimeError"]


@pytest.mark.parametrize("fails", ["templates_at", "begin", ""])
def test_a_connect_goes_on_where_telemetry_fails(fails: str) -> None:
    recorder = Recorder()
    recorder.fails = fails or "begin"

    def site() -> Site:
        if not fails:
            raise ValueError("an argument that nobody can read")
        return Site("postgresql", "", "", None)

    done = False
    with QuerySpans(ADriver(), recorder).connect(options(), site):
        done = True
    assert done
    assert recorder.begun == []


@pytest.mark.parametrize("call", CALLS)
def test_nothing_begins_where_nobody_listens(call: str) -> None:
    recorder = Recorder()
    recorder.heard = False
    assert CALLS[call](QuerySpans(ADriver(), recorder), record()) is None


def test_a_text_is_shown_as_written_only_where_all_values_are_bound() -> None:
    recorder, watched = Recorder(), record()
    spans = QuerySpans(ADriver(), recorder)
    spans.statement(watched, Cursor(), "SELECT %s, 'x'", ("secret",))
    spans.statement(watched, Cursor(), "SELECT %s, 'x'", ())
    spans.statement(watched, Cursor(), (b"SELECT %s, ", b"'x'"), ("secret",))
    spans.script(watched, Cursor(), "SELECT %s, 'x'", ("a file",))
    assert [template[1] for template, *_ in recorder.begun] == ["SELECT %s, 'x'", *["SELECT %s, ?"] * 3]


@pytest.mark.parametrize("sets", [None, (), []])
def test_a_batch_without_sets_sends_nothing(sets: Any) -> None:
    assert QuerySpans(ADriver(), Recorder()).batch(record(), Cursor(), "SELECT %s", sets) is None


@pytest.mark.parametrize(
    ("option", "recorded", "begins", "traces"),
    [
        ("off", True, False, False),
        ("on", False, True, True),
        ("auto", True, True, True),
        ("auto", False, True, False),
    ],
)
def test_a_command_has_a_span_as_the_option_says(option: str, recorded: bool, begins: bool, traces: bool) -> None:
    recorder = Recorder()
    recorder.recorded = recorded
    QuerySpans(ADriver(), recorder).command("COMMIT", record(transaction_spans=option))
    assert [found for _, found, _ in recorder.begun] == ([traces] if begins else [])


@pytest.mark.parametrize(
    ("given", "instrumented", "measured", "wanted"),
    [
        ({}, False, False, (True, True)),
        ({}, True, False, (True, False)),
        ({}, True, True, (False, False)),
        ({"query_spans": "on"}, True, True, (True, True)),
        ({"query_spans": "off"}, False, False, (False, True)),
        ({"traces": False}, False, False, (True, False)),
        ({"traces": False, "metrics": False}, False, False, (False, False)),
    ],
)
def test_what_is_recorded_beside_another_instrumentation(
    given: dict[str, Any], instrumented: bool, measured: bool, wanted: tuple[bool, bool]
) -> None:
    recorder, watched = Recorder(), record()
    recorder.instrumented, recorder.measured = instrumented, measured
    QuerySpans(ADriver(), recorder).attend(watched, options(**given))
    assert (watched.operations_wanted, watched.spans_wanted) == wanted


def test_pages_after_the_first_ones_are_only_measured() -> None:
    recorder, cursor = Recorder(), Cursor()
    spans = QuerySpans(ADriver(), recorder)
    for _ in range(pages.MOST):
        spans.page(record(), cursor)
    assert [traces for _, traces, _ in recorder.begun] == [True] * pages.MOST
    spans.page(record(), cursor)
    assert recorder.begun[-1][1:] == (False, True)


@pytest.mark.parametrize("name", ["params", "args", "vars", "params_seq", "seq_params", "vars_list"])
def test_parameters_by_name(name: str) -> None:
    assert named_parameters({"query": "SELECT 1", name: ("x",)}) == ("x",)
    assert named_parameters({}) is None
