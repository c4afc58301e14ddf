"""Never "rolled back" of what may be committed: lost answers in pipelines and after errors; ``with connection``.

What the table holds is asked from the server; it knows nothing of how the wrapper takes its notes.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
import pytest

from instrumented_wrapper import FailoverError, FailoverFailedError, TransactionResolutionUnknownError
from servers import Proxy

from ..side import Side, done, dsn, inside, listed, rows
from ..watch import Watch, eventually

NAME = "in doubt"
ON = {"failover": "on"}
SYNC = b"S\0\0\0\4"  # the message that ends a pipeline


async def connected(side: Side, proxy: Proxy, **keywords: Any) -> Any:
    return await side.connect(dsn(proxy, application_name=NAME), **{"instrumented_wrapper": ON, **keywords})


async def fail(connection: Any) -> None:
    with suppress(psycopg.errors.DivisionByZero):
        await done(connection.execute("SELECT 1/0"))


def check_unknown(told: Any) -> None:
    assert (told.value.transaction, told.value.may_have_run) == ("unknown", True)


async def test_commit_of_a_block_that_its_pipeline_sends(side: Side, watch: Watch, proxy: Proxy) -> None:
    """The block's exit only queues the COMMIT, which goes out with the end of the pipeline."""
    connection = await connected(side, proxy, autocommit=True)
    with pytest.raises(TransactionResolutionUnknownError) as told:
        async with inside(connection.pipeline()) as pipeline, inside(connection.transaction()):
            await done(connection.execute(watch.insert("one")))
            await done(pipeline.sync())
            await rows(connection, "SELECT 1")
            proxy.cut_when(b"COMMIT", forward=True)
    check_unknown(told)
    assert watch.words() == ["one"]


async def test_commit_behind_a_savepoint_that_ends_the_error(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await connected(side, proxy, autocommit=True)
    await done(connection.execute("BEGIN"))
    await done(connection.execute("SAVEPOINT a"))
    await fail(connection)
    proxy.cut_when(b"COMMIT", forward=True)
    with pytest.raises(TransactionResolutionUnknownError) as told:
        await done(connection.execute(f"ROLLBACK TO a; {watch.insert('one')}; COMMIT"))
    check_unknown(told)
    assert watch.words() == ["one"]


async def test_commit_in_a_pipeline_that_ends_the_error(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await connected(side, proxy)
    await fail(connection)
    with pytest.raises(TransactionResolutionUnknownError) as told:
        async with inside(connection.pipeline()):
            await done(connection.execute("ROLLBACK"))
            await done(connection.execute(watch.insert("one")))
            proxy.cut_when(b"COMMIT", forward=True)
            await done(connection.execute("COMMIT"))
    check_unknown(told)
    assert watch.words() == ["one"]


async def test_statement_behind_a_transaction_in_one_pipeline(side: Side, watch: Watch, proxy: Proxy) -> None:
    """What comes after the ROLLBACK is in no transaction: its answer is lost, its row is there."""
    connection = await connected(side, proxy, autocommit=True)
    with pytest.raises(FailoverError) as told:
        async with inside(connection.pipeline()):
            for text in ("BEGIN", watch.insert("one"), "ROLLBACK", watch.insert("two")):
                await done(connection.execute(text))
            proxy.cut_when(SYNC, forward=True)
    assert watch.words() == ["two"]
    assert told.value.may_have_run


async def test_with_connection_after_a_switch_that_failed(side: Side, watch: Watch, proxy: Proxy) -> None:
    """The block swallows the error; its exit would have been the COMMIT."""
    options = {"failover": "on", "failover_timeout": 0.3}
    connection = await connected(side, proxy, instrumented_wrapper=options)
    with pytest.raises(FailoverFailedError) as told:
        async with inside(connection):
            await done(connection.execute(watch.insert("one")))
            proxy.refuse()
            proxy.cut()
            with suppress(FailoverFailedError):
                await done(connection.execute(watch.insert("two")))
    assert told.value.transaction == "rolled_back"
    assert watch.words() == []


async def test_with_connection_after_notifies_met_the_loss(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await connected(side, proxy)
    with pytest.raises(psycopg.OperationalError):
        async with inside(connection):
            await done(connection.execute(watch.insert("one")))
            watch.end_sessions()
            with suppress(psycopg.OperationalError):
                await listed(connection.notifies(timeout=5))
    assert watch.words() == []


async def test_with_connection_whose_commit_is_unknown_closes(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await connected(side, proxy)
    with pytest.raises(TransactionResolutionUnknownError):
        async with inside(connection):
            await done(connection.execute(watch.insert("one")))
            proxy.cut_when(b"COMMIT", forward=True)
    assert connection.closed
    assert eventually(lambda: not watch.sessions(NAME))
    assert watch.words() == ["one"]
