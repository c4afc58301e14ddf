"""Random walks through a session of MariaDB, or MySQL, with aiomysql and asyncmy: see test_random_mysql_sessions.

``WALKS=1000 RANDOM_WALKS=1 pytest tests/drivers/mysql/test_random_async_mysql_sessions.py`` walks on for hours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import pytest
from contract.loop import OwnLoop
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

pymysql = pytest.importorskip("pymysql")

import instrumented_wrapper  # noqa: E402
from servers import guard  # noqa: E402

from ..psycopg.test_random_sessions import DICE, WALK, _Always  # noqa: E402
from .random_mysql_session import FLAGS, PLAIN, RandomApp, setup  # noqa: E402

OTHER = "nameless several unbuffered parameters method procedure reset switch lose pooled".split()
LOOP = OwnLoop()


class RandomAsyncApp(RandomApp):
    """The same app on asyncio, with a pool of one connection."""

    verbs: Mapping[str, Any] = MappingProxyType(
        {"reset_session": instrumented_wrapper.reset_session_async, "switch": instrumented_wrapper.switch_async}
    )

    def __init__(self, module: Any, pool: Any, kill: Callable[[int], object], mysql: bool) -> None:
        self.module, self.pool = module, pool
        self.errors, self.unbuffered_cursor = module.Error, module.cursors.SSCursor
        super().__init__(self.call(pool.acquire), kill, mysql)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return LOOP.call(function, *arguments)

    def rows(self, text: str) -> Any:
        async def rows() -> Any:
            connection = self.connection
            kept, connection._result = connection._result, None
            try:
                await connection._execute_command(3, text)
                result = self.module.connection.MySQLResult(connection)
                await result.read()
            finally:
                connection._result = kept
            return result.rows

        return self.call(rows)

    def is_open(self) -> bool:
        if hasattr(self.connection, "connected"):
            return bool(self.connection.connected)
        return not self.connection.closed

    def send(self, text: str, *args: Any, kind: Any = None) -> Any:
        self.log.append(f"{text!r} {args or ''}")

        async def send() -> Any:
            async with self.connection.cursor(*([kind] if kind else [])) as cursor:
                await cursor.execute(text, *args)
                rows = await cursor.fetchall()
                while await cursor.nextset():
                    await cursor.fetchall()
            return rows

        return self.call(send)

    def procedure(self) -> None:
        name, arguments = self.dice.choice([("sets_zone", ()), ("gives", (0,)), ("sets_and_shows", ())])
        self.log.append(f"callproc {name}{arguments}")

        async def called() -> None:
            async with self.connection.cursor() as cursor:
                await cursor.callproc(name, arguments)

        self.call(called)

    def character_sets(self) -> list[tuple[str, tuple[Any, ...]]]:
        return [("set_charset", (self.dice.choice(["latin1", "utf8mb4", "utf8mb3", "no_such_set"]),))]

    def word(self) -> Any:
        word = super().word()
        return "bytes" if isinstance(word, bytes) else word  # which aiomysql 0.3.2 cannot escape (TypeError)

    def wait_for_end(self) -> None:
        connection = self.connection
        broken = (
            (lambda: connection._stream_broken) if hasattr(connection, "_stream_broken") else connection._reader.at_eof
        )
        assert guard.wait_until(broken, 10)

    def pooled(self) -> None:
        """Give the connection back, and take one: the next user finds the session as it was at first."""
        self.log.append("back to the pool")
        self.call(self.pool.release, self.connection)
        self.connection = self.call(self.pool.acquire)
        self.vague.clear()
        self.agrees(self.pristine)


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
        self.app.call(self.app.pool.terminate)
        with suppress(KeyError):  # the driver's own: it is no longer the pool's
            self.app.call(self.app.pool.release, self.app.connection)
        self.app.call(self.app.pool.wait_closed)


@pytest.mark.parametrize("name", ["aiomysql", "asyncmy"])
@pytest.mark.parametrize("database", ["mariadb", "mysql"])
@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.filterwarnings("ignore::Warning")  # aiomysql shows what the server warns of
def test_walks(request: pytest.FixtureRequest, name: str, database: str, autocommit: bool) -> None:
    module = pytest.importorskip(name)
    running = request.getfixturevalue(f"running_{database}")
    running.restore()
    server = running.primary
    for statement in setup(database == "mysql"):
        server.sql(f"DELIMITER $$\n{statement}$$")
    where = {"host": server.host, "port": server.port, "user": "app", "password": "app-secret", "db": "app"}
    ours = {"failover": "on", "failover_timeout": 60}
    given = {**where, "autocommit": autocommit, "client_flag": FLAGS, "instrumented_wrapper": ours}

    def kill(number: int) -> None:
        server.sql(f"KILL {number}")

    def walk() -> Walk:
        pool = LOOP.call(module.create_pool, minsize=1, maxsize=1, **given)
        return Walk(RandomAsyncApp(module, pool, kill, database == "mysql"))

    run_state_machine_as_test(walk, settings=WALK)
