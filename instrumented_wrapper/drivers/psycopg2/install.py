"""What is patched of psycopg2, as a list: how it connects, the calls of our subclasses."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, Final

import psycopg2
from psycopg2 import extensions

from instrumented_wrapper.batches import first_taken
from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.flow import StatementFlow
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.drivers.engine.sync_calls import MethodWrappers
from instrumented_wrapper.drivers.engine.sync_closing import closing, setting
from instrumented_wrapper.drivers.engine.sync_endings import EndWrappers
from instrumented_wrapper.drivers.engine.sync_reads import ReadWrappers
from instrumented_wrapper.drivers.psycopg2 import connect, libpq, named_cursors, two_phase
from instrumented_wrapper.drivers.psycopg2.adapter import ADAPTER, SETTINGS
from instrumented_wrapper.drivers.psycopg2.classes import (
    C,
    NamedCursor,
    NamedShellCursor,
    ShellCursor,
    SwappableConnection,
    Watched,
    WatchedCursor,
    physical,
    struct_of,
)
from instrumented_wrapper.drivers.psycopg2.cursor_pages import IN_LOOP, iterating, looping, paging, sizes, stop_loop
from instrumented_wrapper.drivers.psycopg2.driver import Psycopg2
from instrumented_wrapper.drivers.registry import KEY, drop_all, watched
from instrumented_wrapper.operations import Words
from instrumented_wrapper.options import Options
from instrumented_wrapper.pages import leaving
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.self_test import missing
from instrumented_wrapper.statement import SET, SETTING, Effects, Step

logger = logging.getLogger("instrumented_wrapper")
Method = Callable[..., Any]
DRIVER: Final = Psycopg2(ADAPTER)
_K: Final[Any] = extensions.cursor


def install(patches: Patches, options: Options, flows: Flows) -> str:
    """Patch psycopg2; return a description of what was done."""
    if lacking := ", ".join(missing({psycopg2: ["connect", "_connect", "_ext", "_psycopg"]})):
        logger.warning("psycopg2 lacks %s: it is left alone", lacking)
        return f"left alone: it lacks {lacking}"
    if absent := ", ".join(libpq.missing_functions()):
        logger.warning("libpq of psycopg2 lacks %s: it is only observed", absent)
        options = options.with_keywords({"failover": "off", "reset_session_state_on_close": False}, "self-test")
    spans = QuerySpans(ADAPTER, flows.operations)
    calls = MethodWrappers(ADAPTER, StatementFlow(ADAPTER, DRIVER, flows), spans)
    known: Any = psycopg2
    patches.replace(psycopg2, "connect", connect.asked(options, spans, psycopg2.connect))
    patches.replace(psycopg2, "_connect", connect.making(options, spans, flows, known._connect))
    patches.replace(psycopg2, "_ext", connect.Extensions(options))
    endings = EndWrappers(ADAPTER, calls, spans)
    for kind in (Watched, SwappableConnection):
        _connections(patches, kind, calls, endings, spans, flows)
    for cursor, named in ((WatchedCursor, NamedCursor), (ShellCursor, NamedShellCursor)):
        _cursors(patches, cursor, named, calls, spans)
    return f"only observed: it lacks {absent}" if absent else "patched"


def uninstall() -> None:
    """Forget the connections that were watched; they go on working."""
    for record in watched(ADAPTER.name):
        if record.live is not None and (live := record.live()) is not None:
            live.__dict__.pop(KEY, None)
    drop_all(ADAPTER.name)


# --- the calls of connections and cursors ------------------------------------------------------------------------


def _connections(
    patches: Patches, kind: type[Any], calls: MethodWrappers, endings: EndWrappers, spans: QuerySpans, flows: Flows
) -> None:
    def over(name: str, make: Callable[[Method], Method]) -> None:
        patches.replace(kind, name, make(getattr(kind, name)))

    def ended(name: str) -> Method:
        return functools.partial(spans.command, name)

    if kind is Watched:
        over("__init__", connect.attaching)
    over("commit", lambda original: _unless_idle(endings, original, Request.COMMIT))
    over("rollback", lambda original: _unless_idle(endings, _rolling_back(original), Request.ROLLBACK))
    over(
        "tpc_begin",
        lambda original: calls.call(two_phase.beginning(original), Request.STATEMENT, ended("BEGIN"), _begins),
    )
    over(
        "tpc_prepare",
        lambda original: calls.call(two_phase.preparing(original), Request.TWO_PHASE, ended("PREPARE TRANSACTION")),
    )
    over("tpc_commit", lambda original: calls.call(two_phase.ending(original), Request.TWO_PHASE, ended("COMMIT")))
    undo = functools.partial(calls.call, begin=ended("ROLLBACK"))
    over("tpc_rollback", lambda original: two_phase.rolling_back(two_phase.ending(original), undo))
    for name in ("lobject", "tpc_recover"):
        over(name, lambda original: calls.call(original, Request.STATEMENT))
    over("set_client_encoding", lambda original: calls.call(original, Request.STATEMENT, None, _encodes))
    over("close", closing(ADAPTER, DRIVER, flows))
    changes = functools.partial(setting, DRIVER, flows, reentrant=False)
    reset = functools.partial(calls.call, call=Request.ROLLBACK, effects=_resets)
    over("reset", lambda original: changes(lambda: SETTINGS)(reset(original)))
    over("set_session", lambda original: changes(_given)(_sending(calls, original)))
    levels = changes(lambda level: ("autocommit", "isolation_level"))
    over("set_isolation_level", lambda original: levels(calls.call(original, Request.ROLLBACK)))
    for ours, theirs in zip(SETTINGS, ("autocommit", "isolation_level", "readonly", "deferrable"), strict=True):
        member = getattr(kind, theirs)
        change = changes(functools.partial(_only, ours))(_sending(calls, member.__set__))
        patches.replace(kind, theirs, property(member.__get__, change, doc=member.__doc__))


def _cursors(patches: Patches, kind: type[Any], named: type[Any], calls: MethodWrappers, spans: QuerySpans) -> None:
    connection_of = _K.connection.__get__ if kind is WatchedCursor else struct_of

    def statement(name: str, first: str, begin: Method | None = None) -> None:
        made = calls.statement(getattr(kind, name), connection_of, first, begin, getattr(_K, name))
        patches.replace(kind, name, made)

    def call(owner: type[Any], name: str, begin: Method, effects: Any = None) -> None:
        made = calls.call(getattr(owner, name), Request.STATEMENT, begin, effects, connection_of)
        patches.replace(owner, name, made)

    statement("execute", "query")
    many = calls.statement(kind.executemany, connection_of, "query", spans.batch, _K.executemany)
    patches.replace(kind, "executemany", first_taken(spans.nobody, many))
    statement("copy_expert", "sql", spans.script)
    call(kind, "callproc", spans.procedure, lambda record, name, *given: calls.effects_of(f"SELECT * FROM {name}()"))
    call(kind, "copy_from", functools.partial(_copies, spans), lambda record, *given, **more: Effects(streams=True))
    call(kind, "copy_to", functools.partial(_copies, spans))
    _named_cursors(patches, kind, named, calls, spans)


def _named_cursors(
    patches: Patches, kind: type[Any], named: type[Any], calls: MethodWrappers, spans: QuerySpans
) -> None:
    moves = kind is not WatchedCursor
    connection_of = named_cursors.declared_struct if moves else _K.connection.__get__
    read = named_cursors.reading if moves else functools.partial(getattr, named)
    for name in ("fetchone", "fetchmany", "fetchall", "scroll"):
        fetch = calls.plain(read(name), connection_of, IN_LOOP, stop_loop)
        patches.replace(named, name, paging(spans, sizes[name], fetch) if name in sizes else fetch)
    page = paging(spans, sizes["__next__"], ReadWrappers(ADAPTER, calls).fetch(read("__next__"), connection_of))
    step = iterating(named.__next__, page)
    patches.replace(named, "__next__", step)
    patches.replace(named, "__iter__", looping(named.__iter__, step, page))
    patches.replace(named, "execute", leaving(spans.nobody, named_cursors.declaring(kind.execute)))
    close = calls.call(named.close, Request.STATEMENT, None, None, _K.connection.__get__)  # it does not follow a switch
    patches.replace(named, "close", leaving(spans.nobody, named_cursors.closing(close, named.close)))


def _unless_idle(endings: EndWrappers, original: Method, call: Request) -> Method:
    """Skip all steps of a commit or rollback without an open transaction: it sends nothing."""
    watched = endings.slow(original, call)

    @functools.wraps(original)
    def end(self: Any) -> Any:
        record = record_of(self)
        if record is None or record.needs_slow_path:
            return watched(self)
        with record.use_lock:
            return (original if ADAPTER.is_untouched(self) else watched)(self)

    return endings.ending(original, call, slowly=end)


def _rolling_back(original: Method) -> Method:
    """``rollback``: psycopg2 does nothing where it has not begun the transaction itself, a lost one must end."""

    @functools.wraps(original)
    def rollback(self: Any) -> None:
        original(self)
        record = record_of(self)
        if record is not None and record.lost is not None and ADAPTER.transaction_status(self, record):
            ADAPTER.finish(self, "ROLLBACK")

    return rollback


def _sending(calls: MethodWrappers, original: Method) -> Method:
    """In autocommit psycopg2 sends what is set; otherwise it waits for the next transaction."""
    sent = calls.call(original, Request.STATEMENT, effects=lambda record, *given, **more: SETTING)

    @functools.wraps(original)
    def change(self: Any, *args: object, **kwargs: object) -> Any:
        return (sent if C.autocommit.__get__(physical(self)) else original)(self, *args, **kwargs)

    return change


def _begins(record: Record, *args: object) -> Effects:
    return Effects(begins=True)


def _only(name: str, value: object) -> tuple[str, ...]:
    return (name,)


def _given(
    isolation_level: object = None, readonly: object = None, deferrable: object = None, autocommit: object = None
) -> Any:
    """Return the settings that ``set_session`` changes."""
    values = (autocommit, isolation_level, readonly, deferrable)
    return tuple(name for name, value in zip(SETTINGS, values, strict=True) if value is not None)


def _encodes(record: Record, encoding: str) -> Effects:
    return Effects(steps=(Step(SET, "client_encoding", encoding),))


def _resets(record: Record) -> Effects | None:
    return postgresql.scan("ROLLBACK; RESET ALL; SET SESSION AUTHORIZATION DEFAULT")


def _copies(spans: QuerySpans, record: Record, *args: object, **kwargs: object) -> Any:
    table = str(kwargs.get("table") or (args[1] if len(args) > 1 else ""))
    return spans.part(Words(f"COPY {table}".strip(), operation="COPY", collection=table), record)
