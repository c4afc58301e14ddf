"""Ways to run psycopg's generators that psycopg does not have: to a deadline, and beside a pipeline."""

from __future__ import annotations

import selectors
import time
from collections.abc import Generator
from typing import Any, Final

import psycopg

from instrumented_wrapper.drivers.psycopg.private_api import AsyncConnection

_TOO_LATE: Final = "no answer in time"


def until(connection: Any, gen: Any, deadline: float) -> Generator[Any, Any, Any]:
    """Run `gen`, but not beyond `deadline`.

    Raises:
        OperationalError: the time is up.
    """
    if isinstance(connection, AsyncConnection):
        return _bounded(gen, deadline)
    return _blocking(gen, connection.pgconn, deadline)


def rollback_alone(connection: Any) -> Generator[Any, Any, None]:
    """Roll back on the physical connection itself, whatever pipeline block is still open."""
    pipeline, connection._pipeline = connection._pipeline, None
    try:
        yield from connection._exec_command(b"ROLLBACK")
    finally:
        connection._pipeline = pipeline


def _blocking(gen: Any, pgconn: Any, deadline: float) -> Generator[Any, Any, Any]:
    """Run `gen` to its end here, never yielding: before 3.2.2 psycopg's sync wait does not come back in between.

    An interrupt closes the connection: psycopg would have the server cancel the statement, and wait for that.

    Raises:
        OperationalError: the time is up.
    """
    yield from ()  # a generator, as psycopg expects
    descriptor = pgconn.socket
    try:
        wanted = next(gen)
        while True:
            with selectors.DefaultSelector() as selector:
                selector.register(descriptor, wanted)  # psycopg's READ and WRITE are those of selectors
                ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise psycopg.OperationalError(_TOO_LATE)
            wanted = gen.send(ready[0][1])
    except StopIteration as end:
        return end.value
    except (KeyboardInterrupt, SystemExit):
        pgconn.finish()
        raise


def _bounded(gen: Any, deadline: float) -> Generator[Any, Any, Any]:
    """Continue `gen` until `deadline`: psycopg resumes it at least every 0.1 s.

    Raises:
        OperationalError: the time limit has passed.
    """
    ready = None
    try:
        while True:
            ready = yield gen.send(ready)
            if not ready and time.monotonic() >= deadline:
                raise psycopg.OperationalError(_TOO_LATE)
    except StopIteration as end:
        return end.value
