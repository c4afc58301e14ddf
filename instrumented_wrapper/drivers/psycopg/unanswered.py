"""COPY and pipelines of psycopg: what is sent while no answer is waited for. A busy server may leave it unread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import psycopg
from psycopg import pq

from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.drivers.psycopg.records import record_of
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.runners import as_flow

__all__ = ["install"]

Method = Callable[..., Any]
_BAD: Final = int(pq.ConnStatus.BAD)


def install(patches: Patches) -> None:
    """Patch where they begin and where they end."""
    for block in (psycopg.Copy, psycopg.Pipeline):
        patches.close_over(block, "__enter__", _beginning)
        patches.close_over(block, "__exit__", _ending)
    for async_block in (psycopg.AsyncCopy, psycopg.AsyncPipeline):
        patches.close_over(async_block, "__aenter__", _beginning)
        patches.close_over(async_block, "__aexit__", _ending)


def _connection_of(block: Any) -> Any:
    return block.connection if isinstance(block, psycopg.Copy | psycopg.AsyncCopy) else block._conn


@as_flow
def _beginning(original: Method, block: object) -> Flow[Any]:
    entered = yield partial(original, block)
    connection = _connection_of(block)
    if (record := record_of(connection)) is not None:
        record.begin_streaming(connection.pgconn.socket)
    return entered


@as_flow
def _ending(original: Method, block: object, *error: object) -> Flow[Any]:
    try:
        return (yield partial(original, block, *error))
    finally:
        connection = _connection_of(block)
        if (record := record_of(connection)) is not None:
            record.end_streaming(None if connection.pgconn.status == _BAD else connection.pgconn.socket)
