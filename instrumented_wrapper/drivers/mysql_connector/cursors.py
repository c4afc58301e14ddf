"""The patches of mysql-connector-python's cursors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

from mysql.connector import __version_info__
from mysql.connector import cursor as pure

from instrumented_wrapper.batches import first_taken
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.partial_execution import in_parts
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.drivers.engine.sync_calls import MethodWrappers
from instrumented_wrapper.drivers.engine.sync_reads import ReadWrappers
from instrumented_wrapper.drivers.for_mysql import does_as
from instrumented_wrapper.drivers.mysql_connector.adapter import KINDS
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.statement import Effects

Method = Callable[..., Any]
_MOVES: Final = "_instrumented_wrapper_moves"  # in a cursor's ``__dict__``: where it has prepared its statement
_PREPARED: Final = frozenset({"_executed", "_prepared", "_stmt"})


def patch_cursors(patches: Patches, calls: MethodWrappers, reads: ReadWrappers, spans: QuerySpans) -> None:
    """Patch the cursors of pure connections and of those of the C extension."""
    for kind, name in _cursor_kinds():
        _cursors(patches, kind, name, calls, spans)
        _reads(patches, kind, name, reads)


def _cursor_kinds() -> Iterator[tuple[type[Any], str]]:
    """Yield the classes of cursors, and the attribute that is a cursor's connection."""
    modules = [(pure, "_connection")]
    if len(KINDS) > 1:
        from mysql.connector import cursor_cext

        modules.append((cursor_cext, "_connection" if __version_info__ >= (9,) else "_cnx"))
    for module, name in modules:
        for kind in vars(module).values():
            if isinstance(kind, type) and "MySQLCursor" in kind.__name__ and "Abstract" not in kind.__name__:
                yield kind, name


def _cursors(patches: Patches, kind: type[Any], connection: str, calls: MethodWrappers, spans: QuerySpans) -> None:
    own = dict(vars(kind))
    connection_of = attrgetter(connection)  # a weak proxy of it
    if "Prepared" in kind.__name__:
        for name in ("execute", "reset", "close"):
            if name in own:
                own[name] = _prepared_anew(own[name], connection_of)
                patches.replace(kind, name, own[name])
    if "execute" in own:
        patches.replace(kind, "execute", calls.statement(own["execute"], connection_of, "operation"))
    if "executemany" in own:
        batch = calls.statement(in_parts(own["executemany"]), connection_of, "operation", spans.batch)
        patches.replace(kind, "executemany", first_taken(spans.nobody, batch))
    if "callproc" in own and "Prepared" not in kind.__name__:
        called = calls.call(own["callproc"], Request.STATEMENT, spans.procedure, _calls, connection_of)
        patches.replace(kind, "callproc", called)


def _reads(patches: Patches, kind: type[Any], connection: str, reads: ReadWrappers) -> None:
    connection_of = attrgetter(connection)
    for name in ("fetchone", "fetchmany", "fetchall", "nextset"):
        if (own := vars(kind).get(name)) is not None:
            patches.replace(kind, name, reads.fetch(own, connection_of, alone=name in ("fetchone", "nextset")))


def _calls(record: Record, name: str, args: Sequence[Any] = ()) -> Effects | None:
    """Return what ``callproc`` does: this driver has its own names for the parameters, and quotes none."""
    inside = str(name).split(".")[-1]
    parameters = ", ".join(f"@_{inside}_arg{number}" for number in range(1, len(args) + 1))
    return does_as(record, f"CALL {name}({parameters})")


def _prepared_anew(original: Method, connection_of: Callable[[Any], Any]) -> Method:
    """Prepare a cursor's statement again: another session does not know it, or has another one under its number."""

    @functools.wraps(original)
    def method(self: Any, *args: object, **kwargs: object) -> Any:
        try:
            record = record_of(connection_of(self))
        except ReferenceError:
            record = None
        if record is not None:
            if self.__dict__.setdefault(_MOVES, record.generation) != record.generation:
                self.__dict__.update(dict.fromkeys(_PREPARED.intersection(self.__dict__)))
            self.__dict__[_MOVES] = record.generation
        return original(self, *args, **kwargs)

    return method
