"""An event loop in a thread of its own, for async drivers in sync tests. Knows asyncio only."""

import asyncio
import atexit
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from inspect import isawaitable
from typing import Any

from drivers.cancelling import Counted, Stop


class OwnLoop:
    """Calls functions in the loop's thread and waits for what they return; the caller's context goes with them."""

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.call_soon(self._beat, loop)
        thread = threading.Thread(target=loop.run_forever, name="loop of the driver under test", daemon=True)
        thread.start()
        atexit.register(self._stop, loop, thread)
        return loop

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        called = called_in_loop(function, *arguments, **keywords)
        return asyncio.run_coroutine_threadsafe(called, self.loop).result(timeout=120)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake up now and then, as an app's loop does: a finaliser in another thread has scheduled a close, perhaps."""
        loop.call_later(0.05, self._beat, loop)

    @staticmethod
    def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        if not thread.is_alive():
            loop.close()


async def called_in_loop(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    result = function(*arguments, **keywords)
    return await result if isawaitable(result) else result


def use_main_thread() -> None:
    """Have all loops run in the thread that calls, and only meanwhile: Ctrl-C comes to the main thread."""
    runner = asyncio.Runner()

    def call(_: OwnLoop, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        return runner.run(called_in_loop(function, *arguments, **keywords))

    OwnLoop.call = call  # type: ignore[method-assign]


async def others_done() -> None:
    """Wait until no other task is under way."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


def cancel_calls() -> None:
    """Cancel the tasks of all calls that are under way, in their loop."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if getattr(task.get_coro(), "__name__", "") == called_in_loop.__name__:
            task.cancel()


@contextmanager
def cancelled_at(loop: asyncio.AbstractEventLoop, number: int) -> Iterator[None]:
    """Cancel the next call in this loop at its wait of that number."""
    stop = Stop(number)

    def new_task(loop: asyncio.AbstractEventLoop, inner: Any, **given: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(Counted(inner, stop), loop=loop, **given)
        stop.task = stop.task or task
        return task

    loop.set_task_factory(new_task)  # type: ignore[arg-type]
    try:
        yield
    finally:
        loop.set_task_factory(None)
