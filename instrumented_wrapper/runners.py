"""Runners that carry out flows: generators that yield calls, so that each order of steps is written once.

`run` is for sync connections, `run_async` for async ones, `run_within` for a driver's own generators. Knows no driver.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from functools import partial
from inspect import isawaitable, iscoroutine, iscoroutinefunction, isgenerator
from typing import Any, Final, TypeVar

Result = TypeVar("Result")
Flow = Generator[Callable[[], Any], Any, Result]
# What a runner does next, taken out before it is done: a local that has a raised error, or a call that has it, would
# keep it, and the error the frame and so the connection, until a garbage collection.
_Steps = list[Callable[[], Callable[[], Any]]]
_PLAIN: Final = frozenset({type(None), bool, int, tuple, list, dict})  # none can be awaited; to ask ABCs takes longer


def run(flow: Flow[Result]) -> Result:
    """Carry out the calls of `flow` on a sync connection."""
    steps: _Steps = [partial(next, flow)]
    try:
        while True:
            calls = [steps.pop()()]
            try:
                steps.append(partial(flow.send, _not_awaitable(calls.pop()())))
            except BaseException as error:  # noqa: BLE001 - the flow decides, whatever it is
                steps.append(partial(flow.throw, error))
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        flow.close()  # interrupted between two calls: the flow ends what it has begun


async def run_async(flow: Flow[Result]) -> Result:
    """Carry out the calls of `flow` on an async connection."""
    steps: _Steps = [partial(next, flow)]
    try:
        while True:
            calls = [steps.pop()()]
            try:
                result = calls.pop()()
                steps.append(partial(flow.send, await result if isawaitable(result) else result))
            except BaseException as error:  # noqa: BLE001 - the flow decides, whatever it is
                steps.append(partial(flow.throw, error))
    except StopIteration as end:
        value: Result = end.value
        return value
    finally:
        flow.close()


def run_within(flow: Flow[Result]) -> Generator[Any, Any, Result]:
    """Carry out the calls of `flow` within a driver's own generator: what a call returns is one, too."""
    steps: _Steps = [partial(next, flow)]
    try:
        while True:
            calls = [steps.pop()()]
            try:
                result = calls.pop()()
                steps.append(partial(flow.send, (yield from result) if isgenerator(result) else result))
            except BaseException as error:  # noqa: BLE001 - the flow decides, whatever it is
                steps.append(partial(flow.throw, error))
    except StopIteration as end:
        value: Result = end.value
        return value
    finally:
        flow.close()


def _not_awaitable(result: object) -> Any:
    if type(result) in _PLAIN or not isawaitable(result):
        return result
    if iscoroutine(result):
        result.close()
    raise TypeError("a handler returned an awaitable on a sync connection: use a plain function, or an async driver")


def as_flow(steps: Callable[..., Flow[Any]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what has a method, or a coroutine function, carry out a flow, which gets the method and its arguments."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def method(*args: object, **kwargs: object) -> Any:
            return run(steps(original, *args, **kwargs))

        @functools.wraps(original)
        async def method_async(*args: object, **kwargs: object) -> Any:
            return await run_async(steps(original, *args, **kwargs))

        return method_async if iscoroutinefunction(original) else method

    return make
