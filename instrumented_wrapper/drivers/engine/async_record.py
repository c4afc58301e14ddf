"""The record of a connection of an async driver, which is used by a task instead of a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final

from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.adapter import AsyncAdapter
from instrumented_wrapper.errors import Address
from instrumented_wrapper.options import Options

# The number of the task whose call goes the long way; a task that a handler starts within it is a part of that call.
# Not the task: timers of the event loop keep the context, and it would keep its error, and that the connection.
_acting: Final[ContextVar[int]] = ContextVar("acting", default=0)
_NO_TASK: Final = -1


class AsyncRecord(Record):
    """The session behind one connection of an async driver.

    Attributes:
        active_caller: the number of the task that has a call of the app, or something of ours, under way; or False.
        task_lock: held by the task that does more than a plain statement.
    """

    adapter: AsyncAdapter

    def __init__(self, adapter: AsyncAdapter, connection: Any, options: Options, arguments: Any) -> None:
        super().__init__(adapter, connection, options, arguments)
        self.use_lock = nullcontext()  # tasks of one event loop: `task_lock` keeps them apart
        self.task_lock = asyncio.Lock()
        self._lock_holder = _NO_TASK  # the number of the task that holds it

    def caller(self) -> int:
        """Return the number of the task that calls now."""
        if acting := _acting.get():
            return acting
        try:
            return id(asyncio.current_task())
        except RuntimeError:  # no loop runs: a finaliser, or an app that closes after its loop has ended
            return _NO_TASK

    def app_caller(self) -> object:
        """Return the value of `active_caller` while a call of the app takes the slow path."""
        return self.caller()

    def is_within(self) -> bool:
        """Return True if a call now is part of the call in progress, in this task."""
        return self.active_caller == self.caller()

    def goes_to_driver(self) -> bool:
        """Return True if a call now goes to the driver unchanged.

        It is part of the call in progress, or concurrent with one of another task, which the driver reports.
        """
        return self.active_caller is True or self.active_caller == self.caller() or not self.task_lock.locked()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """While inside, no other task does more than a plain statement, which the driver refuses."""
        caller = self.caller()
        if self._lock_holder == caller:  # a handler uses the connection
            yield
            return
        async with self.task_lock:
            before = _acting.get()
            self._lock_holder = caller
            _acting.set(caller)
            try:
                yield
            finally:
                self._lock_holder = _NO_TASK
                _acting.set(before)

    async def attach_async(self, connection: object, hosts: tuple[Address, ...]) -> None:
        """Watch `connection` from now on."""
        self.begin(connection, hosts)
        if self.failover:
            try:
                self.was_standby = await self.adapter.is_standby(connection)
            except (
                self.adapter.raises
            ):  # it does not say, or is lost already: connecting went well, for all the app knows
                self.was_standby = None
        self.watch(connection)

    def track_physical(self, connection: object) -> None:
        """Watch another physical connection for an end that the server announces."""
        super().track_physical(connection)
        if self.failover:
            self.poll = self.poll_for(connection)

    def poll_for(self, connection: object) -> Callable[[int], Any]:
        """Return a function that looks whether the server has sent something unasked; the event loop reads it first."""
        return self.adapter.poll(connection)

    def is_waiting(self, connection: object) -> bool:
        """Return True if a task has a call under way."""
        return bool(self.active_caller) or self.task_lock.locked() or self.adapter.is_streaming(connection)

    def became_foreign(self) -> None:
        """This is a forked child: the connection is the parent's."""
        super().became_foreign()
        self.use_lock = nullcontext()
