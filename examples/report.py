"""What the demo found, as text for a terminal of 80 columns: what happened to the session, and the trace as a tree.

It judges by what the app and the new primary say; spans only add what they alone can know. It starts nothing.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from receiver import Span

OURS = "instrumented_wrapper."
WIDTH = 80
# What is shown of a span, in this order.
MAIN = (
    *("db.query.text", "trigger", "outcome", "transaction", "may_have_run", "attempts", "previous.port", "server.port"),
    *("handled_by", "round_trips", "not_restored", "error.type"),
)
CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32}


@dataclass
class Story:
    """What was seen: the app's own lines, what the new primary has, and what the app's telemetry told."""

    orders: int
    said: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None
    stored: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    metrics: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def written(self) -> list[dict[str, Any]]:
        """The app's lines on orders that it wrote."""
        return [line for line in self.said if "port" in line]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The app's lines on errors that it got."""
        return [line for line in self.said if "error" in line]

    def span(self, name: str) -> Span | None:
        """Return the first span of that name."""
        return next((span for span in self.spans if span.name == name), None)


def style(text: str, *names: str) -> str:
    """Colour a text, if somebody sees it who wants that."""
    if not names or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return "".join(f"\x1b[{CODES[name]}m" for name in names) + text + "\x1b[0m"


def faults(story: Story) -> list[str]:
    """Return why the session was not carried; nothing if it was."""
    if not story.written:
        return ["the app wrote no order"]
    first, last = story.written[0], story.written[-1]
    lost = sorted({*range(1, story.orders + 1)} - {*story.stored})
    found = {
        f"the app ended with exit code {story.exit_code}": story.exit_code != 0,
        "the app wrote nothing on the new primary": first["port"] == last["port"],
        "the app has another connection object": first["connection"] != last["connection"],
        f"settings are lost: {', '.join(_changed(first['settings'], last['settings']))}": (
            first["settings"] != last["settings"]
        ),
        f"the server says {last['isolation']}, not {first['isolation']}": first["isolation"] != last["isolation"],
        f"orders are lost: {', '.join(map(str, lost))}": bool(lost),
        "orders were written twice": len(story.stored) != len({*story.stored}),
    }
    return [sentence for sentence, wrong in found.items() if wrong]


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [name for name in before if before[name] != after[name]]


def session(story: Story) -> Iterator[str]:
    """Tell what the app changed, what was lost, restored, and how long it waited."""
    if not story.written:
        return
    first, last = story.written[0], story.written[-1]
    moved = first["port"] != last["port"]
    yield style(f"  {'setting':<17}{'at connect':<16}{'the app set':<15}after the failover", "dim")
    for name, value in first["settings"].items():
        after = last["settings"][name]
        verdict = style("kept", "green") if moved and after == value else style("LOST", "red")
        shown = _word(after) if moved else "-"
        yield f"  {name:<17}{_pristine(story, name):<16}{_word(value):<15}{shown:<15}{verdict}"
    yield ""
    yield from (f"  {style(f'{name:<11}', 'bold')}{text}" for name, text in _facts(story, first, last))


def _facts(story: Story, first: Mapping[str, Any], last: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    moved = first["port"] != last["port"]
    yield "lost", f"server on port {first['port']}{_retried(story)}"
    if moved:
        yield "restored", f"{_restored(story)}; the new server says: {last['isolation']}"
    if failover := story.span("failover"):
        yield "waited", f"{_seconds(failover.end - failover.start)} until the session was back ({_outcome(failover)})"
    same = "the same" if first["connection"] == last["connection"] else "ANOTHER"
    where = f"now on port {last['port']}" if moved else "still on the lost server"
    yield "object", f"{same} psycopg connection, {where}"
    missing, twice = {*range(1, story.orders + 1)} - {*story.stored}, len(story.stored) - len({*story.stored})
    exact = f"{len(missing) or 'none'} missing, {twice or 'none'} twice"
    yield "orders", f"{len(story.stored)} of {story.orders} on the new primary: {exact}"


def _retried(story: Story) -> str:
    numbers = [str(line["order"]) for line in story.errors]
    if not numbers:
        return ""
    again = {line["order"] for line in story.written}.issuperset(line["order"] for line in story.errors)
    return f", and order {', '.join(numbers)} half-way" + (": the app wrote it again" if again else "")


def _restored(story: Story) -> str:
    transfer = story.span("session_state.transfer")
    events = transfer.events if transfer else ()
    done = [event for event in events if event.attributes.get("outcome") == "restored"]
    return f"{len(done)} settings" if done else "nothing"


def _outcome(failover: Span) -> str:
    told = failover.attributes
    return ", ".join(str(told[OURS + name]) for name in ("trigger", "outcome") if OURS + name in told)


def _pristine(story: Story, setting: str) -> str:
    told = (span.attributes for span in story.spans if span.attributes.get(OURS + "setting") == setting)
    return next((_word(values.get(OURS + "pristine_value")) for values in told), "?")


def _word(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "default" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def tree(spans: Sequence[Span]) -> Iterator[str]:
    """Draw the traces in which something happened to the session, in the order of time; count the others."""
    known = {span.id for span in spans}
    told = {span.trace for span in spans if span.kind == "internal"}
    for root in spans:
        if root.parent not in known and root.trace in told:
            yield from _branch(root, spans, f"{_seconds(root.start - spans[0].start):<8}", " " * 8)
    if others := {span.trace for span in spans} - told:
        yield style(f"and {len(others)} traces of statements to which nothing happened", "dim")


def _branch(span: Span, spans: Sequence[Span], head: str, indent: str) -> Iterator[str]:
    children = [child for child in spans if child.parent == span.id]
    short = _short(span)
    yield f"{head}{_name(span, WIDTH - 32 - len(head))}{_milliseconds(span):>8} {short}".rstrip()
    bar = indent + ("│  " if children else "   ")
    yield from (style(bar, "dim") + line for line in _details(span, WIDTH - len(bar)))
    for child in children:
        last = child is children[-1]
        lines = _branch(child, spans, indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  "))
        yield from lines


def _name(span: Span, width: int) -> str:
    name = span.name if len(span.name) <= width else f"...{span.name[3 - width :]}"
    return style(f"{name:<{width}}", "red" if span.failed else "bold")


def _short(span: Span) -> str:
    told = span.attributes
    name = told.get(OURS + "setting")
    return f"{name}={_word(told.get(OURS + 'pristine_value'))}" if name else ""


def _details(span: Span, width: int) -> Iterator[str]:
    told = {name.removeprefix(OURS): value for name, value in span.attributes.items()}
    words = " ".join(f"{name}={_word(told[name])}" for name in MAIN if told.get(name) not in (None, []))
    if not span.attributes.get(OURS + "setting"):
        yield from textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)
    for event in (event for event in span.events if event.name == "attempt"):
        yield from textwrap.wrap(f"• {_attempts(event.attributes)}", width, subsequent_indent="  ")
    for event in (event for event in span.events if event.name == "setting"):
        before, after = event.attributes.get("before"), event.attributes.get("after")
        yield f"• {event.name} {event.attributes.get('name')}: {before} → {after}, {event.attributes.get('outcome')}"


def _attempts(told: Mapping[str, Any]) -> str:
    when = " to ".join(dict.fromkeys(f"{told.get(name, 0) * 1e3:.0f}" for name in ("first", "last")))
    return f"{told.get('count')} x port {told.get('server.port')}: {told.get('outcome')}, at {when} ms"


def measured(metrics: Mapping[str, tuple[int, float]]) -> Iterator[str]:
    """List the metrics: how often, and how long each time."""
    for name, (count, seconds) in sorted(metrics.items()):
        if name.startswith((OURS, "db.")) and count:
            each = f"{seconds / count * 1e3:9.2f} ms" if seconds else ""
            yield f"  {name:<45}{count:>4} x{each}"


def _milliseconds(span: Span) -> str:
    return f"{(span.end - span.start) / 1e6:.2f} ms"


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:.2f} s"
