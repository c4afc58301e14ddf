"""An event loop in a thread of its own, for async drivers in sync tests. Knows asyncio only."""

import asyncio
import atexit
import threading
from collections.abc import Callable
from functools import cached_property
from inspect import isawaitable
from typing import Any


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
        async def in_loop() -> Any:
            result = function(*arguments, **keywords)
            return await result if isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(in_loop(), self.loop).result(timeout=120)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake up now and then, as an app's loop does: a finaliser in another thread has scheduled a close, perhaps."""
        loop.call_later(0.05, self._beat, loop)

    @staticmethod
    def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        if not thread.is_alive():
            loop.close()


async def others_done() -> None:
    """Wait until no other task is under way."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
