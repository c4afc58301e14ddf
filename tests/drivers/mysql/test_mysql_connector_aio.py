"""mysql.connector.aio: sessions are tracked and reset; after a cancelled statement nothing is sent any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import count
from typing import Any

import pytest
from contract.endpoint import Endpoint

from instrumented_wrapper import (
    FailoverFailedError,
    reset_session_async,
    session_state,
    switch_async,
    verify_session_async,
)
from servers import Proxy

from ..script import run

aio = pytest.importorskip("mysql.connector.aio")
from mysql.connector.errors import Error, ProgrammingError  # noqa: E402

PROGRAM = """
import asyncio, json, logging, sys

heard = []
logging.getLogger("instrumented_wrapper").addHandler(type("H", (logging.Handler,), {
    "emit": lambda self, record: heard.append(record.getMessage())})())
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
import instrumented_wrapper
if sys.argv[3] == "with us":
    instrumented_wrapper.instrument(tracer_provider=provider)
from mysql.connector.aio import connect

async def ask(connection, text):
    cursor = await connection.cursor()
    await cursor.execute(text)
    return await cursor.fetchall()

async def main():
    given = dict(user="app", password="app-secret", database="app", ssl_disabled=True)
    connection = await connect(host=sys.argv[1], port=int(sys.argv[2]), **given)
    right = await ask(connection, "SELECT 'right'")
    try:
        async with asyncio.timeout(0.2):
            await ask(connection, "SELECT SLEEP(1), 'cancelled'")
    except TimeoutError:
        pass
    wrong = [await ask(connection, f"SELECT 'wrong {n}'") for n in range(2)]
    await ask(connection, "SET time_zone = '+05:00'")
    spans = [(span.name, span.attributes.get("db.query.text")) for span in exporter.get_finished_spans()]
    print(json.dumps([right, wrong, spans, heard]))

asyncio.run(main())
"""


@pytest.mark.parametrize("mode", ["bare", "with us"])
async def test_after_a_cancelled_statement_nothing_is_asked(pair: Any, mode: str) -> None:
    with Proxy(pair.primary.host, pair.primary.port) as proxy:
        ended = await asyncio.to_thread(run, PROGRAM, proxy.host, str(proxy.port), mode)
        sent = proxy.seen("client")
    assert ended.returncode == 0, ended.stderr
    right, wrong, spans, heard = json.loads(ended.stdout)
    assert right == [["right"]]
    assert wrong[0][0][-1] == "cancelled"  # the driver's own fault: when this fails, failover can be offered
    assert wrong[1] == [["wrong 0"]]
    assert b"@@" not in sent.replace(b"@@session.autocommit", b"")  # which the driver itself sends
    if mode == "bare":
        assert (spans, heard) == ([], [])
        return
    assert [text for _, text in spans if text and "SLEEP" not in text] == ["SELECT ?"] * 3 + ["SET time_zone = ?"]
    assert len(heard) == 1
    assert "close it" in heard[0]


NUMBERS = count(1)  # of pools, which the driver keeps by name


class App:
    """Connects as the app does; its connections are closed before the loop ends."""

    def __init__(self, pair: Any) -> None:
        self._pair, self._opened = pair, AsyncExitStack()

    async def connect(self, place: Any = None, **keywords: Any) -> Any:
        """Connect to the primary, or to a proxy in front of it."""
        where = place or self._pair.primary
        given = {"user": "app", "password": "app-secret", "database": "app", "ssl_disabled": True, **keywords}
        connection = await aio.connect(host=where.host, port=where.port, **given)
        self._opened.push_async_callback(closed, getattr(connection, "_cnx", connection))
        return connection

    async def close(self) -> None:
        await self._opened.aclose()


@pytest.fixture
def side(pair: Any) -> App:
    return App(pair)


async def closed(connection: Any) -> None:
    with suppress(Exception):  # closed by the test, or lost
        await connection.close()


async def ask(connection: Any, text: str, *parameters: Any, **kind: Any) -> Any:
    cursor = await connection.cursor(**kind)
    await cursor.execute(text, *parameters)
    return await cursor.fetchall() if cursor.description else []


async def several(connection: Any, text: str) -> list[Any]:
    return [
        (await connection.get_rows())[0] if "columns" in result else []
        async for result in connection.cmd_query_iter(text)
    ]


def values(connection: Any) -> dict[str, tuple[Any, Any]]:
    return {name: (state.pristine_value, state.value) for name, state in session_state(connection).items()}


CHANGES: dict[str, Callable[[Any], Any]] = {
    "a text": lambda c: ask(c, "SET lock_wait_timeout = 7"),
    "a text with parameters": lambda c: ask(c, "SET lock_wait_timeout = %s", (7,)),
    "a prepared statement": lambda c: ask(c, "SET lock_wait_timeout = ?", (7,), prepared=True),
    "one of several texts": lambda c: several(c, "SELECT 1; SET lock_wait_timeout = 7; SELECT 2"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_change_is_tracked_and_reset(side: Any, change: Any) -> None:
    connection = await side.connect()
    ((before,),) = await ask(connection, "SELECT @@lock_wait_timeout")
    await change(connection)
    assert await ask(connection, "SELECT @@lock_wait_timeout") == [(7,)]
    assert await verify_session_async(connection) == {}
    assert session_state(connection)["lock_wait_timeout"].pristine_value == str(before)
    assert await reset_session_async(connection)
    assert await ask(connection, "SELECT @@lock_wait_timeout") == [(before,)]


async def test_methods_that_change_the_session(side: Any, spans: Any) -> None:
    connection = await side.connect()
    await connection.set_autocommit(True)
    await connection.set_database("information_schema")
    await connection.cmd_init_db("app")
    await connection.set_time_zone("+05:00")
    await connection.set_charset_collation("latin1")
    known = values(connection)
    assert known["autocommit"] == (False, True)
    assert known["database"] == ("app", "app")
    assert known["time_zone"][1] == "+05:00"
    assert known["character_set_client"][1] == "latin1"
    assert await verify_session_async(connection) == {}
    await reset_session_async(connection)
    assert await ask(connection, "SELECT @@autocommit, @@time_zone, 'é'") == [(0, "SYSTEM", "é")]
    assert await connection.cmd_reset_connection()  # the driver redoes what it keeps: pristine values again
    assert await ask(connection, "SELECT @@autocommit, @@time_zone, 'é'") == [(0, "SYSTEM", "é")]
    namespaces = [span.attributes["db.namespace"] for span in spans.named("SET @@session.time_zone")]
    assert namespaces == ["app"]


async def test_a_reset_by_the_app_leaves_what_the_driver_keeps(side: Any) -> None:
    connection = await side.connect()
    await ask(connection, "SET @tenant = 'acme', lock_wait_timeout = 7")
    await connection.set_time_zone("+05:00")
    await connection.reset_session()
    assert await verify_session_async(connection) == {}
    assert values(connection) == {"time_zone": ("SYSTEM", "+05:00")}
    assert await ask(connection, "SELECT @tenant, @@time_zone") == [(None, "+05:00")]


async def test_a_reconnect_begins_anew(side: Any) -> None:
    connection = await side.connect()
    await ask(connection, "SET @tenant = 'acme'")
    await connection.reconnect()
    assert not values(connection)
    await ask(connection, "SET lock_wait_timeout = 7")
    assert values(connection)["lock_wait_timeout"][1] == "7"


async def test_a_close_resets(side: Any, spans: Any, pair: Any) -> None:
    connection = await side.connect()
    await ask(connection, "SET @tenant = 'acme'")
    await connection.close()
    (reset,) = spans.named("session_state.reset")
    assert reset.attributes["instrumented_wrapper.settings"] == ("@tenant",)
    assert reset.attributes["instrumented_wrapper.driver"] == "mysql.connector.aio"


async def test_each_statement_has_one_span(side: Any, spans: Any) -> None:
    connection = await side.connect()
    spans.clear()
    await ask(connection, "SELECT %s", ("secret",))
    await ask(connection, "SELECT ?", (1,), prepared=True)
    await several(connection, "SELECT 'secret'; SELECT 2")
    cursor = await connection.cursor(prepared=True)
    await cursor.executemany("DO ?", [(1,), (2,)])
    await connection.commit()
    await connection.set_database("information_schema")
    await ask(connection, "SELECT 3")
    found = [(span.attributes["db.namespace"], span.attributes.get("db.query.text")) for span in spans.all()]
    texts = [("app", "SELECT ?")] * 2 + [("app", "SELECT ?; SELECT ?"), ("app", "DO ?"), ("app", "COMMIT")]
    wanted = [*texts, ("app", "USE information_schema"), ("information_schema", "SELECT ?")]
    assert [each for each in found if each[1]] == wanted


async def test_a_cancellation_while_the_wrapper_asks_is_no_answer_to_the_app(side: Any, pair: Any) -> None:
    with Endpoint(pair.primary.host, pair.primary.port) as place:
        connection = await side.connect(place)
        place.holds_at = b"lock_wait_timeout"
        task = asyncio.create_task(ask(connection, "SET lock_wait_timeout = 7"))
        while not place.hits:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        place.holds_at = b""
        place.release()
        with pytest.raises((Error, OSError)):
            await ask(connection, "SELECT 'mine'")
        assert b"mine" not in place.seen("client")


async def cancelled(connection: Any) -> None:
    """Cancel a statement: the driver reads wrong answers from now on."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await ask(connection, "SELECT SLEEP(0.5)")


@pytest.mark.parametrize("verb", [reset_session_async, verify_session_async, switch_async])
async def test_verbs_refuse_a_connection_that_is_out_of_step(side: Any, verb: Any) -> None:
    connection = await side.connect()
    await ask(connection, "SET @tenant = 'acme'")
    await cancelled(connection)
    with pytest.raises(ProgrammingError, match="close it"):
        await verb(connection)
    assert values(connection)["@tenant"] == (None, "acme")


@pytest.mark.parametrize("resets", [True, False])
async def test_the_pool_hands_nothing_on(side: Any, resets: bool) -> None:
    take = partial(side.connect, pool_name=f"aio_{next(NUMBERS)}", pool_size=1, pool_reset_session=resets)
    connection = await take()
    ((number,),) = await ask(connection, "SELECT CONNECTION_ID()")
    await ask(connection, "SET @tenant = 'acme', time_zone = '+05:00'")
    await connection.close()
    connection = await take()
    assert await ask(connection, "SELECT CONNECTION_ID(), @tenant, @@time_zone") == [(number, None, "SYSTEM")]
    await cancelled(connection)
    await connection.close()
    connection = await take()
    ((later, answer),) = await ask(connection, "SELECT CONNECTION_ID(), 'right'")
    assert (later != number, answer) == (True, "right")


async def test_failover_is_not_offered(side: Any, pair: Any, spans: Any) -> None:
    with Proxy(pair.primary.host, pair.primary.port) as proxy:
        connection = await side.connect(proxy, instrumented_wrapper={"failover": "on"})
        with pytest.raises(FailoverFailedError, match="aiomysql or asyncmy"):
            await switch_async(connection)
        assert await ask(connection, "SELECT 1") == [(1,)]
        proxy.cut()
        with pytest.raises(Error) as caught:
            await ask(connection, "SELECT 1")
    assert not isinstance(caught.value, FailoverFailedError)
