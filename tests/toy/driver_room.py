"""What it takes to register a driver: what it is like (`ToyDB`), and what is patched of it (`install`)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.engine.adapted_record import Arguments, Record
from instrumented_wrapper.drivers.engine.flow import StatementFlow
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request, TransactionStatus
from instrumented_wrapper.drivers.engine.sync_calls import MethodWrappers
from instrumented_wrapper.drivers.engine.sync_closing import closing, setting
from instrumented_wrapper.drivers.engine.sync_endings import EndWrappers
from instrumented_wrapper.drivers.registry import drop_all
from instrumented_wrapper.drivers.sqlite3.adapter import Files, SQLite
from instrumented_wrapper.options import CONNECT, Options, take_keywords
from instrumented_wrapper.patching import Patches

from . import toydb

NAME = "tests.toy.toydb"


class ToyDB(SQLite):
    """The toy driver: SQLite's settings and texts, over objects of its own."""

    name = NAME
    settings = ("timeout",)
    aliases = MappingProxyType({})
    kinds = (toydb.Connection,)

    def transaction_status(self, connection: Any, record: Any) -> TransactionStatus:
        return TransactionStatus.INTRANS if connection.session.in_transaction else TransactionStatus.IDLE

    def is_closed(self, connection: Any) -> bool:
        return bool(connection.closed)

    def read(self, connection: Any, setting: str) -> Any:
        return connection._timeout

    def write(self, connection: Any, setting: str, value: Any) -> None:
        connection._timeout = value

    def query(self, connection: Any, text: str) -> Any:
        return [list(row) for row in connection.session.execute(text).fetchall()]

    @contextmanager
    def outside(self, connection: Any) -> Iterator[None]:
        yield

    def finish(self, connection: Any, command: str) -> None:
        connection.session.commit() if command == "COMMIT" else connection.session.rollback()


ADAPTER = ToyDB()
DRIVER = Files(ADAPTER)


def install(patches: Patches, options: Options, flows: Flows) -> str:
    spans = QuerySpans(ADAPTER, flows.operations)
    calls = MethodWrappers(ADAPTER, StatementFlow(ADAPTER, DRIVER, flows), spans)
    ending = EndWrappers(ADAPTER, calls, spans).ending
    kind = toydb.Connection
    patches.close_over(kind, "__init__", functools.partial(_making, options, spans))
    patches.close_over(kind, "close", closing(ADAPTER, DRIVER, flows))
    for request in (Request.COMMIT, Request.ROLLBACK):
        patches.close_over(kind, request.value, functools.partial(ending, call=request))
    member = vars(kind)["timeout"]
    change = setting(DRIVER, flows, lambda value: ("timeout",))(member.fset)
    patches.replace(kind, "timeout", property(member.fget, change))
    patches.close_over(
        toydb.Cursor, "execute", lambda original: calls.statement(original, attrgetter("connection"), "sql")
    )
    return "patched"


def uninstall() -> None:
    drop_all(NAME)


def _making(options: Options, spans: QuerySpans, original: Any) -> Any:
    @functools.wraps(original)
    def __init__(self: Any, database: str, **keywords: Any) -> None:
        ours = take_keywords(keywords)
        chosen = options.with_keywords(ours, CONNECT) if ours else options
        original(self, database, **keywords)
        record = Record(ADAPTER, self, chosen, Arguments((database,), {}))
        record.attach(self, ())
        spans.attend(record, chosen)

    return __init__
