"""Random walks through a session with asyncpg: after each step the server has the values that we say it has.

The walks are those of psycopg, with what asyncpg has instead: see `test_random_sessions` there. ``WALKS=1000
RANDOM_WALKS=1 pytest tests/drivers/asyncpg/test_random_sessions.py`` walks on for hours.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
from asyncpg.protocol.protocol import BaseProtocol
from contract.loop import OwnLoop
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import instrumented_wrapper
from servers import Cluster

from ..psycopg.random_session import ACTIVE, CUSTOM, IDLE, INTRANS, PLAIN, SETUP, RandomApp
from ..psycopg.test_random_sessions import DICE, WALK, _Always

OTHER = "parameters many block prepared pages copy listen switch reset lose pooled timeout".split()
LOOP = OwnLoop()
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError)


class RandomAsyncApp(RandomApp):
    """An app on asyncio, with a pool of one connection."""

    def __init__(self, pool: Any, end_session: Callable[[int], object]) -> None:
        self.pool = pool
        self.proxy = LOOP.call(pool.acquire)
        super().__init__(self.proxy._con, end_session)

    def rows(self, text: str) -> list[list[str | None]]:
        """Ask past everything that is patched."""

        async def rows() -> list[list[str | None]]:
            protocol = self.connection._protocol
            state = await BaseProtocol.prepare(protocol, "", text, 60, record_class=asyncpg.Record)
            state._init_types()
            state._init_codecs()
            found, *_ = await BaseProtocol.bind_execute(protocol, state, (), "", 0, True, 60)
            return [list(row) for row in found or ()]

        return LOOP.call(rows)  # type: ignore[no-any-return]

    @property
    def status(self) -> Any:
        """What the server says of the transaction; ACTIVE: nothing can be asked."""
        if not self.connection._protocol.is_connected():
            return ACTIVE
        try:
            self.rows("SELECT 1")
        except ERRORS:
            return ACTIVE
        return INTRANS if self.connection.is_in_transaction() else IDLE

    def do(self, thing: str, dice: Any) -> None:
        self.dice = dice
        if self.connection.is_closed():
            self.pooled()
        with suppress(*ERRORS):
            getattr(self, thing)()

    def send(self, text: Any, *args: Any, **keywords: Any) -> Any:
        self.note(f"{text!r} {args or ''}")
        return LOOP.call(self.proxy.fetch if args else self.proxy.execute, text, *args)

    def parameters(self) -> None:
        name = self.dice.choice(CUSTOM)
        ways: list[tuple[Any, ...]] = [
            ("SELECT set_config('app.tenant', $1, false)", self.word()),
            ("SELECT set_config($1, $2, $3)", name, self.word(), self.dice.random() < 0.3),
            ("SELECT set_config($1, $2 || 'b', false)", name, self.word()),
            ("SELECT walk.sets($1)", self.word()),
            ("SELECT walk.nameless('hidden', $1)", self.word()),
            ("SELECT $1::int", 1),
        ]
        self.send(*self.dice.choice(ways))

    def many(self) -> None:
        rows = [(self.dice.choice(CUSTOM), self.word()) for _ in range(3)]
        self.note(f"executemany set_config {rows}")
        LOOP.call(self.proxy.executemany, "SELECT set_config($1, $2, false)", rows)

    def block(self, depth: int = 0) -> None:
        self.note("block {")
        transaction = self.proxy.transaction()
        LOOP.call(transaction.start)
        try:
            for _ in range(self.dice.randint(0, 4)):
                self.dice.choice([self.plain, self.plain, self.parameters, self.many])()
            if depth < 2 and self.dice.random() < 0.5:
                with suppress(*ERRORS):
                    self.block(depth + 1)
        except BaseException:
            self.note("} rolled back")
            LOOP.call(transaction.rollback)
            raise
        end = self.dice.choice(["commit", "commit", "rollback"])
        self.note(f"}} {end}")
        LOOP.call(getattr(transaction, end))

    def prepared(self) -> None:
        self.note("prepared set_config")
        statement = LOOP.call(self.proxy.prepare, "SELECT set_config('app.trace', $1, false)")
        for _ in range(2):
            LOOP.call(statement.fetchval, self.word())

    def pages(self) -> None:
        self.note("cursor set_config")

        async def pages() -> None:
            async with self.proxy.transaction():
                text = "SELECT set_config('app.trace', n::text, false) FROM generate_series(1, 5) n"
                cursor = await self.proxy.cursor(text)
                await cursor.fetch(2)

        LOOP.call(pages)

    def copy(self) -> None:
        self.note("copy walk. set_config")

        async def taken(_: bytes) -> None:
            """Drop what comes."""

        LOOP.call(self.proxy.copy_from_query, "SELECT set_config('app.trace', 'copied', false)", output=taken)

    def listen(self) -> None:
        self.note("listen")
        LOOP.call(self.proxy.add_listener, "news", heard)
        LOOP.call(self.proxy.remove_listener, "news", heard)

    def timeout(self) -> None:
        """A limit of the app's ends a statement that has set something before it waits."""
        self.note("set_config, timeout")
        text = "SELECT set_config('app.trace', 'ended', false), pg_sleep(60)"
        with suppress(TimeoutError):
            LOOP.call(self.proxy.fetch, text, timeout=0.01)

    def switch(self) -> None:
        self.note("switch")
        LOOP.call(instrumented_wrapper.switch_async, self.connection)

    def reset(self) -> None:
        self.note("reset")
        LOOP.call(instrumented_wrapper.reset_session_async, self.connection)

    def lose(self) -> None:
        self.note("lost")
        self.end_session(self.connection.get_server_pid())
        self.send("SELECT 1")

    def pooled(self) -> None:
        """Give the connection back, and take one: the next user finds the session as it was at first."""
        self.note("back to the pool")
        LOOP.call(self.pool.release, self.proxy)
        self.proxy = LOOP.call(self.pool.acquire)
        self.connection, self.exact = self.proxy._con, True
        there = {name: self.server(name) or "" for name in self.pristine}
        assert there == {name: value or "" for name, value in self.pristine.items()}, self.story()


def heard(*_: object) -> None:
    """Nobody says anything."""


class Walk(RuleBasedStateMachine):
    """An app that does what comes to its mind."""

    def __init__(self, app: RandomAsyncApp) -> None:
        super().__init__()
        self.app = app

    @rule(texts=st.lists(st.sampled_from(PLAIN), min_size=1, max_size=4))
    def plain(self, texts: list[str]) -> None:
        for text in texts:
            self.app.do("plain", _Always(text))
            self.app.compare()

    @rule(thing=st.sampled_from(OTHER), dice=DICE)
    def other(self, thing: str, dice: Any) -> None:
        self.app.do(thing, dice)

    @invariant()
    def agrees(self) -> None:
        self.app.compare()

    def teardown(self) -> None:
        LOOP.call(self.app.pool.terminate)


@pytest.mark.parametrize("cached", [100, 0])
def test_walks(cluster: Cluster, cached: int) -> None:
    sql = cluster.primary.sql
    if not sql("SELECT 1 FROM pg_roles WHERE rolname = 'walker'"):
        sql("CREATE ROLE walker SUPERUSER LOGIN PASSWORD 'walker'")
        sql("CREATE ROLE walk_tenant")
    sql(SETUP, "app")
    where = {"host": cluster.primary.host, "port": cluster.primary.port, "ssl": False, "statement_cache_size": cached}
    given = {**where, "user": "walker", "password": "walker", "database": "app", "min_size": 1, "max_size": 1}

    def end(pid: int) -> None:
        sql(f"SELECT pg_terminate_backend({pid}, 9999)")

    def walk() -> Walk:
        ours = {"failover": "on"}
        return Walk(RandomAsyncApp(LOOP.call(asyncpg.create_pool, **given, instrumented_wrapper=ours), end))

    run_state_machine_as_test(walk, settings=WALK)
