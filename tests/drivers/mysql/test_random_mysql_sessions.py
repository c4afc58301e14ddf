"""Random walks through a session of MariaDB, or MySQL, with PyMySQL: after each step the server has what we say.

``WALKS=1000 pytest tests/drivers/mysql/test_random_mysql_sessions.py`` walks longer, ``RANDOM_WALKS=1`` elsewhere each
time; of a failure, the shortest walk to it is printed.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

pymysql = pytest.importorskip("pymysql")

from ..psycopg.test_random_sessions import DICE, WALK, _Always  # noqa: E402
from .random_mysql_session import FLAGS, PLAIN, RandomApp, setup  # noqa: E402

OTHER = "nameless several unbuffered parameters method procedure reset switch lose".split()


class Walk(RuleBasedStateMachine):
    """An app that does what comes to its mind."""

    def __init__(self, connection: Any, administrator: Any, mysql: bool) -> None:
        super().__init__()
        self.connection = connection
        self.app = RandomApp(connection, lambda number: administrator.cursor().execute(f"KILL {number}"), mysql)

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
        self.connection.close()


@pytest.mark.parametrize("database", ["mariadb", "mysql"])
@pytest.mark.parametrize("autocommit", [True, False])
def test_walks(request: pytest.FixtureRequest, database: str, autocommit: bool) -> None:
    running = request.getfixturevalue(f"running_{database}")
    running.restore()
    server = running.primary
    for statement in setup(database == "mysql"):
        server.sql(f"DELIMITER $$\n{statement}$$")
    where = {"host": server.host, "port": server.port, "user": "app", "password": "app-secret", "database": "app"}
    options = {"failover": "on", "failover_timeout": 60}
    administrator = pymysql.connect(unix_socket=str(server.socket), user="root", autocommit=True)

    def walk() -> Walk:
        connection = pymysql.connect(
            **where, autocommit=autocommit, client_flag=FLAGS, instrumented_wrapper=options, read_timeout=60
        )
        return Walk(connection, administrator, database == "mysql")

    try:
        run_state_machine_as_test(walk, settings=WALK)
    finally:
        administrator.close()
