"""What the second story found, as one table for a terminal of 80 columns, and whether it is what the package promises.

It judges by the app's answers and the rows of the new primary; spans only add what they alone can know. It starts
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from receiver import Span
from report import OURS, style

LEAK, RESET = "session_state.leak", "session_state.reset"


@dataclass(frozen=True)
class Request:
    """A request and its answer: the notes that the app showed, or None if it answered with an error."""

    tenant: str
    wrote: str | None
    notes: list[str] | None
    sent: float
    answered: float
    under_way: bool = False  # sent before the server was dead, answered after that

    @property
    def foreign(self) -> list[str]:
        """The notes of other tenants that were shown. A note begins with its tenant's name."""
        return [note for note in self.notes or () if not (self.tenant and note.startswith(self.tenant))]


@dataclass
class Act:
    """One run of the app: its option, its requests, what it said, its spans, and what the primary has at the end."""

    title: str
    option: str
    requests: list[Request] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    stored: list[tuple[str, str]] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """The app's lines on changed sessions."""
        return [line for line in self.said if "changed session state" in line]

    @property
    def seen(self) -> list[Request]:
        """The requests that were shown another tenant's notes."""
        return [request for request in self.requests if request.foreign]

    @property
    def failed(self) -> list[Request]:
        """The requests that were answered with an error."""
        return [request for request in self.requests if request.notes is None]

    def count(self, name: str) -> int:
        """Return how many spans have that name."""
        return sum(span.name == name for span in self.spans)

    def missing(self) -> set[tuple[str, str]]:
        """Return the confirmed notes that the primary does not have."""
        return {(each.tenant, each.wrote) for each in self.requests if each.wrote and each.notes is not None} - {
            *self.stored
        }

    def repeated(self) -> list[tuple[str, str]]:
        """Return the notes that the primary has more than once."""
        return [note for note, count in Counter(self.stored).items() if count > 1]


def table(acts: list[Act]) -> Iterator[str]:
    """Yield the lines of the one table, a column for each act."""
    yield style("  " + " " * 38 + "".join(f"{act.title:>13}" for act in acts), "dim")
    for name, cells in _rows(acts).items():
        yield f"  {name:<38}" + "".join(f"{cell:>13}" for cell in cells)


def _rows(acts: list[Act]) -> Mapping[str, list[str]]:
    return {
        "requests": [str(len(act.requests)) for act in acts],
        "... of no tenant": [str(sum(not request.tenant for request in act.requests)) for act in acts],
        "... shown another tenant's notes": [_bad(len(act.seen)) for act in acts],
        "... that failed": [_failed(act) for act in acts],
        "longest answer": [_longest(act) for act in acts],
        f"spans {LEAK}": [str(act.count(LEAK)) for act in acts],
        f"spans {RESET}": [str(act.count(RESET)) for act in acts],
        "spans failover": [str(act.count("failover")) for act in acts],
        "notes missing / there twice": [f"{len(act.missing())} / {len(act.repeated())}" for act in acts],
    }


def _bad(count: int) -> str:
    return style(f"{count:>13}", "red" if count else "green")


def _failed(act: Act) -> str:
    count = len(act.failed)
    return f"{count} under way" if count and all(request.under_way for request in act.failed) else str(count)


def _longest(act: Act) -> str:
    return f"{max((request.answered - request.sent for request in act.requests), default=0):.2f} s"


def routes(act: Act) -> str:
    """Return which settings leaked, and from which requests, if any: the links of the spans lead there."""
    spans = {span.id: span for span in act.spans}
    leaks = [span for span in act.spans if span.name == LEAK]
    settings = sorted({name for leak in leaks for name in leak.attributes.get(f"{OURS}settings", ())})
    linked = [spans[link] for leak in leaks for link in leak.links if link in spans]
    roots = Counter(_root(span, spans).name for span in linked)
    if not linked:
        return ""
    return f"{', '.join(settings)}, set in {', '.join(f'{name} ({count})' for name, count in roots.most_common())}"


def _root(span: Span, spans: Mapping[str, Span]) -> Span:
    while span.parent in spans:
        span = spans[span.parent]
    return span


def faults(reported: Act, stopped: Act, failed_over: Act) -> Iterator[str]:
    """Yield what is not as promised; nothing if all is."""
    if not reported.seen:
        yield "the app leaked no tenant: there was nothing to see"
    if reported.count(LEAK) < len(reported.seen):
        yield f"{len(reported.seen)} requests were shown another tenant's notes, {reported.count(LEAK)} leaks recorded"
    for act in (stopped, failed_over):
        if act.seen:
            yield f"with {act.title}: {len(act.seen)} requests were shown another tenant's notes"
    for act in (reported, stopped, failed_over):
        yield from _losses(act)
    if not any(request.under_way for request in failed_over.requests):
        yield "no request was under way when the server was killed"


def _losses(act: Act) -> Iterator[str]:
    if late := [request for request in act.failed if not request.under_way]:
        yield f"with {act.title}: {len(late)} requests failed that were not under way at the kill"
    if act.missing():
        yield f"with {act.title}: {len(act.missing())} confirmed notes are missing"
    if act.repeated():
        yield f"with {act.title}: {len(act.repeated())} notes are there twice"
