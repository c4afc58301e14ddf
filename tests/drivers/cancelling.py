"""A task that is cancelled at a chosen moment: at the n-th wait of all that it, and what it has started, does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Stop:
    """Cancels a task when it, or a task that it has started, waits for the `at`-th time."""

    def __init__(self, at: int) -> None:
        self.at, self.waited = at, 0
        self.task: asyncio.Task[Any] | None = None

    def waits(self) -> None:
        self.waited += 1
        if self.waited == self.at and self.task is not None:
            asyncio.get_running_loop().call_soon(self.task.cancel)


class Counted(Coroutine[Any, Any, Any]):
    """A coroutine that says when it waits."""

    def __init__(self, inner: Coroutine[Any, Any, Any], stop: Stop) -> None:
        self._inner, self._stop = inner, stop

    def send(self, value: Any) -> Any:
        waits_for = self._inner.send(value)
        self._stop.waits()
        return waits_for

    def throw(self, *error: Any) -> Any:
        waits_for = self._inner.throw(error[-1] or error[1] if len(error) > 1 else error[0])
        self._stop.waits()
        return waits_for

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        return self._inner.__await__()


async def outcome(coroutine: Coroutine[Any, Any, Any], at: int) -> type[BaseException] | None:
    """Return what the coroutine raises if it is cancelled at the `at`-th wait of all that it does."""
    loop, stop = asyncio.get_running_loop(), Stop(at)
    loop.set_task_factory(lambda loop, inner, **given: asyncio.Task(Counted(inner, stop), loop=loop, **given))
    stop.task = loop.create_task(coroutine)
    try:
        await stop.task
    except BaseException as error:
        return type(error)
    finally:
        loop.set_task_factory(None)
    return None
