"""Steps around each awaited call of the app on asyncpg: the effects of its text and parameters, and its failure.

asyncpg does not expose whether the open transaction has failed: the wrapper infers it from the last error in it.
After a time limit or a cancellation the outcome is unknown: the statement may have failed, have ended before, or never
been sent.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from asyncpg import exceptions

from instrumented_wrapper.drivers.asyncpg.channel import mark_failed
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.async_calls import AsyncMethodWrappers
from instrumented_wrapper.drivers.engine.async_record import AsyncRecord
from instrumented_wrapper.drivers.engine.request import Request, SentCall, TransactionStatus
from instrumented_wrapper.drivers.registry import checking_out
from instrumented_wrapper.operations import Operation
from instrumented_wrapper.statement import DOUBT, SET_LOCAL, Effects, Named, Placeholder, Step

UNDER_WAY: Final = "under way"  # what `record.driver_state` has while asyncpg has a statement of the app's
_OPAQUE = object()
_UNDONE: Final = "ROLLBACK"  # the server's answer to a COMMIT of a transaction that has failed


class AsyncPGCalls(AsyncMethodWrappers):
    """Makes the closures for asyncpg."""

    def exact_effects(
        self, cursor: Any, record: Record, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Effects | None:
        """Return what a statement does with its parameters, which the server binds."""
        effects = self.effects_of(str(args[0])) if args else None
        if effects is None:
            return None
        given = [*args[1:], *kwargs.values()]
        rows = given[0] if len(given) == 1 else None
        if isinstance(rows, (list, tuple)) and rows and all(isinstance(row, (list, tuple)) for row in rows):
            return record.settings_client.with_functions(_of_many(effects, rows))
        return record.settings_client.with_functions(_with_parameters(effects, args[1:]))

    async def _slowly(
        self,
        operation: Operation | None,
        original: Callable[..., Any],
        cursor: Any,
        connection: Any,
        record: AsyncRecord,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        effects: Any,
    ) -> Any:
        noted = functools.partial(_noted, original, connection)
        with _bounded(connection, kwargs):
            return await super()._slowly(operation, noted, cursor, connection, record, args, kwargs, effects)

    async def failed_plainly(self, operation: Operation | None, sent: SentCall, error: BaseException) -> Any:
        """As for every driver, within the time that the app allows its statement."""
        with _bounded(sent.connection, sent.run.keywords if isinstance(sent.run, functools.partial) else {}):
            return await super().failed_plainly(operation, sent, error)

    async def failed(self, sent: SentCall, error: BaseException) -> Any:
        """Handle an error as for every driver; a call that asyncpg refused on a lost connection has sent nothing, and
        continues.
        """
        connection, record, request, effects, run, *_ = sent
        _note(connection, error)
        if request is Request.STATEMENT and await self._was_not_sent(connection, record, error):
            async with record.exclusive():
                return await self._run(self._flow.carry_out(connection, record, request, effects, run))
        return await super().failed(sent, error)

    async def _was_not_sent(self, connection: Any, record: AsyncRecord, error: BaseException) -> bool:
        # Not a DataError: of a batch, rows before the one that cannot be encoded were taken from the app's iterator.
        refused = type(error) is exceptions.InterfaceError or self._adapter.may_have_ended(error)
        if not (refused and record.switchable) or self._adapter.is_closed(connection):
            return False
        if self._adapter.may_have_ended(error):
            await self._adapter.is_alive(connection)
        return self._adapter.is_lost(connection, error)


def streaming(connection_of: Callable[[Any], Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """A batch or a COPY: a server that is busy may leave unread what asyncpg sends."""

    @functools.wraps(original)
    async def method(this: Any, *args: Any, **kwargs: Any) -> Any:
        connection = connection_of(this)
        if (record := record_of(connection)) is None:
            return await original(this, *args, **kwargs)
        with record.streaming(record.adapter.socket(connection)):
            return await original(this, *args, **kwargs)

    return method


async def _noted(original: Callable[..., Any], connection: Any, this: Any, *args: Any, **kwargs: Any) -> Any:
    state = getattr(record_of(connection), "driver_state", {})
    state[UNDER_WAY] = True
    try:
        result = await original(this, *args, **kwargs)
    except BaseException as error:
        _note(connection, error)
        raise
    finally:
        state.pop(UNDER_WAY, None)
    if connection._protocol is not None:
        mark_failed(connection._protocol, failed=False)
    if result == _UNDONE and (record := record_of(connection)) is not None:
        record.transaction_status = TransactionStatus.INERROR
    return result


def _note(connection: Any, error: BaseException) -> None:
    if isinstance(error, exceptions.PostgresError) and connection._protocol is not None:
        mark_failed(connection._protocol, failed=True)


@contextmanager
def _bounded(connection: Any, keywords: dict[str, Any]) -> Iterator[None]:
    """While inside, a switch takes no longer than the app allows its statement."""
    seconds = keywords.get("timeout")
    seconds = connection._config.command_timeout if seconds is None else seconds
    if not isinstance(seconds, (int, float)):
        yield
        return
    with checking_out(time.monotonic() + seconds):
        yield


def _with_parameters(effects: Effects, parameters: tuple[Any, ...]) -> Effects:
    """Return effects with the parameters in them; what cannot be seen is in doubt."""
    if not (effects.sets or effects.concerns_state):
        return effects
    steps = tuple(_filled(step, parameters) for step in effects.steps)
    makes, ends = (tuple(_named(one, parameters) for one in each) for each in (effects.makes, effects.ends))
    return replace(effects, steps=steps, makes=makes, ends=ends)


def _of_many(effects: Effects, rows: Sequence[Sequence[Any]]) -> Effects:
    """Return what is in doubt once a statement has run for each set of parameters: each setting that one names."""
    if not (effects.sets or effects.concerns_state):
        return effects
    names = dict.fromkeys(_filled(step, tuple(row)).name for step in effects.steps for row in rows)
    return replace(effects, steps=tuple(Step(DOUBT, name, "executemany") for name in names))


def _filled(step: Step, parameters: tuple[Any, ...]) -> Step:
    if not any(isinstance(part, Placeholder) for part in step):
        return step
    name, value = _text(step.name, parameters), _text(step.value, parameters)
    name = "" if name is _OPAQUE else str(name).lower()
    local = False if step.local is None else _text(step.local, parameters, bool)
    if not name or value is _OPAQUE or local is _OPAQUE or step.kind == DOUBT:
        return Step(DOUBT, name, "parameters")
    return Step(SET_LOCAL if local else step.kind, name, value)


def _named(one: Named, parameters: tuple[Any, ...]) -> Named:
    given = (_text(part, parameters, (int, str)) for part in one.key)
    key = tuple(part if isinstance(part, str) else repr(part) for part in given if part is not _OPAQUE)
    return one._replace(key=key if len(key) == len(one.key) else ())


def _text(part: Any, parameters: tuple[Any, ...], kinds: Any = str) -> Any:
    """Return a parameter that is of those kinds, or None; `_OPAQUE` for any other."""
    if not isinstance(part, Placeholder):
        return part
    if not isinstance(part.key, int) or part.key >= len(parameters):
        return _OPAQUE
    value = parameters[part.key]
    return value if value is None or isinstance(value, kinds) else _OPAQUE
