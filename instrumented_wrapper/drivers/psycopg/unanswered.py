"""COPY and pipelines of psycopg: what is sent while no answer is waited for. A busy server may leave it unread."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg import pq

from instrumented_wrapper.drivers.psycopg.records import record_of
from instrumented_wrapper.patching import Patches

__all__ = ["install"]

Method = Callable[..., Any]
_BAD: Final = int(pq.ConnStatus.BAD)


def install(patches: Patches) -> None:
    """Patch where they begin and where they end."""
    for block in (psycopg.Copy, psycopg.Pipeline):
        patches.close_over(block, "__enter__", _beginning)
        patches.close_over(block, "__exit__", _ending)
    for async_block in (psycopg.AsyncCopy, psycopg.AsyncPipeline):
        patches.close_over(async_block, "__aenter__", _beginning_async)
        patches.close_over(async_block, "__aexit__", _ending_async)


def _connection_of(block: Any) -> Any:
    return block.connection if isinstance(block, psycopg.Copy | psycopg.AsyncCopy) else block._conn


def _begin(block: object) -> None:
    connection = _connection_of(block)
    if (record := record_of(connection)) is not None:
        record.begin_streaming(connection.pgconn.socket)


def _end(block: object) -> None:
    connection = _connection_of(block)
    if (record := record_of(connection)) is not None:
        record.end_streaming(None if connection.pgconn.status == _BAD else connection.pgconn.socket)


def _beginning(original: Method) -> Method:
    @functools.wraps(original)
    def __enter__(self: Any) -> Any:
        entered = original(self)
        _begin(self)
        return entered

    return __enter__


def _ending(original: Method) -> Method:
    @functools.wraps(original)
    def __exit__(self: Any, *error: object) -> Any:
        try:
            return original(self, *error)
        finally:
            _end(self)

    return __exit__


def _beginning_async(original: Method) -> Method:
    @functools.wraps(original)
    async def __aenter__(self: Any) -> Any:
        entered = await original(self)
        _begin(self)
        return entered

    return __aenter__


def _ending_async(original: Method) -> Method:
    @functools.wraps(original)
    async def __aexit__(self: Any, *error: object) -> Any:
        try:
            return await original(self, *error)
        finally:
            _end(self)

    return __aexit__
