"""What may not run on a connection whose security state a switch could not carry; decided by ``security.py``.

Knows which of psycopg's generators send statements of the app, and where their text is before they begin.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from psycopg import pq

from instrumented_wrapper.drivers.engine import decisions
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.drivers.psycopg import steps
from instrumented_wrapper.drivers.psycopg.facts import owner_of
from instrumented_wrapper.drivers.psycopg.liveness import has_ended
from instrumented_wrapper.drivers.psycopg.query_text import sent_text
from instrumented_wrapper.drivers.psycopg.records import Record
from instrumented_wrapper.drivers.psycopg.statements import effects_of, named
from instrumented_wrapper.drivers.server_session.postgresql import with_calls
from instrumented_wrapper.failover import Loss
from instrumented_wrapper.statement import Effects

__all__ = ["before", "refuse"]

# Generator -> its argument with the statement.
_STATEMENTS: Final = {
    "_execute_gen": "query",
    "_executemany_gen_pipeline": "query",
    "_executemany_gen_no_pipeline": "query",
    "_stream_send_gen": "query",
    "_start_copy_gen": "statement",
    "_declare_gen": "query",
}
_COMMITS: Final = ("_commit_gen", "_tpc_prepare_gen")
_REQUESTS: Final = {
    **dict.fromkeys(_STATEMENTS, Request.STATEMENT),
    **dict.fromkeys(_COMMITS, Request.COMMIT),
    **dict.fromkeys(("_rollback_gen", "rollback_alone"), Request.ROLLBACK),
}
_IDLE, _INERROR = pq.TransactionStatus.IDLE, pq.TransactionStatus.INERROR


def before(connection: Any, record: Record, gen: Any, step: str, phase: int) -> Loss | None:
    """Check the connection before anything is sent: raise a pending error, or the refusal of the statement.

    A session that has ended is replaced first: the switch then says what is missing. Only a COMMIT of nothing, which
    would replace nothing, is refused in any case.
    """
    ended = has_ended(connection, record, step, phase)
    if record.refusal.error is not None and not (
        ended and (step not in _COMMITS or record.transaction_status != _IDLE)
    ):
        refuse(connection, record, gen, step, phase)
    return steps.before(connection, record, gen, phase, ended)


def refuse(connection: Any, record: Record, gen: Any, step: str, phase: int) -> None:
    """Refuse a step that could use data without the app's role, tenant or schema, or commit what was refused.

    Raises:
        FailoverSuccessError: again.
    """
    if record.refusal.error is None or connection._closed:
        return
    request = _REQUESTS.get(step, Request.LISTEN)
    effects = _effects_of(record, gen, _STATEMENTS[step]) if request is Request.STATEMENT else None
    if (error := decisions.refusal_of(record, request, effects, phase == _INERROR)) is not None:
        raise error


def _effects_of(record: Record, gen: Any, argument: str) -> Effects | None:
    """Return what a statement will do, with the names that its parameters give."""
    given = gen.gi_frame.f_locals
    query = given[argument]
    effects = effects_of(query if type(query) is str else sent_text(owner_of(gen), query))
    if effects is not None and effects.calls:
        effects = with_calls(record, effects)
    return None if effects is None else replace(effects, steps=tuple(named(step, given) for step in effects.steps))
