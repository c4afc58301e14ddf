"""mysql.connector.aio: observed only, because it reads wrong answers after a cancelled statement."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from servers import Proxy

from ..script import run

pytest.importorskip("mysql.connector.aio")

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
    other = await connect(host=sys.argv[1], port=int(sys.argv[2]), **given)
    spans = [(span.name, span.attributes.get("db.query.text")) for span in exporter.get_finished_spans()]
    print(json.dumps([right, wrong, spans, heard]))

asyncio.run(main())
"""


@pytest.mark.parametrize("mode", ["bare", "with us"])
async def test_a_cancelled_statement(pair: Any, mode: str) -> None:
    with Proxy(pair.primary.host, pair.primary.port) as proxy:
        ended = await asyncio.to_thread(run, PROGRAM, proxy.host, str(proxy.port), mode)
        sent = proxy.seen("client")
    assert ended.returncode == 0, ended.stderr
    right, wrong, spans, heard = json.loads(ended.stdout)
    assert right == [["right"]]
    assert wrong[0][0][-1] == "cancelled"  # the driver's own fault: when this fails, it can be looked after
    assert wrong[1] == [["wrong 0"]]
    if mode == "bare":
        assert (spans, heard) == ([], [])
        return
    assert [text for _, text in spans if text and "SLEEP" not in text] == ["SELECT ?"] * 3
    assert len(heard) == 2
    assert "neither reset nor carried over" in heard[0]
    assert "close the connection" in heard[1]
    assert b"@@" not in sent.replace(b"@@session.autocommit", b"")  # which the driver itself sends
