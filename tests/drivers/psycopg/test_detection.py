"""`detection_timeout` on the sockets of psycopg: what the app has set itself, and what is sent without an answer."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from instrumented_wrapper import ConfigurationError, switch, switch_async

from ..side import Side, done, inside
from ..socket_options import keepalive, user_timeout
from ..watch import Watch

OURS = 5000  # milliseconds


async def test_found_within_detection_timeout(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    assert keepalive(connection.fileno()) == (1, 2, 1, 3)
    assert user_timeout(connection.fileno()) == OURS


async def test_after_a_switch(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True, instrumented_wrapper={"detection_timeout": 20})
    await done((switch_async if side.is_async else switch)(connection))
    assert keepalive(connection.fileno()) == (1, 8, 4, 3)
    assert user_timeout(connection.fileno()) == 20_000


@pytest.mark.parametrize(
    ("given", "options"),
    [({}, {"detection_timeout": 0}), ({}, {"failover": "off"}), ({"keepalives": 0}, {})],
)
async def test_left_alone(side: Side, watch: Watch, given: Any, options: Any) -> None:
    connection = await side.connect(watch.dsn(**given), autocommit=True, instrumented_wrapper=options)
    assert user_timeout(connection.fileno()) == 0
    assert keepalive(connection.fileno())[0] == (given == {})


@pytest.mark.parametrize("given", [{"tcp_user_timeout": 7000}, {"keepalives_idle": 33}, {"keepalives_count": 4}])
async def test_what_the_app_has_set_stays(side: Side, watch: Watch, given: Any) -> None:
    connection = await side.connect(watch.dsn(**given), autocommit=True)
    bare = await side.connect(watch.dsn(**given), autocommit=True, instrumented_wrapper={"detection_timeout": 0})
    assert keepalive(connection.fileno()) == keepalive(bare.fileno())
    assert user_timeout(connection.fileno()) == given.get("tcp_user_timeout", 0)


async def test_a_socket_still_blocks_or_not(side: Side, watch: Watch) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        connection = await side.connect(watch.dsn(), autocommit=True)
        bare = await side.connect(watch.dsn(), autocommit=True, instrumented_wrapper={"detection_timeout": 0})
    finally:
        socket.setdefaulttimeout(before)
    assert os.get_blocking(connection.fileno()) == os.get_blocking(bare.fileno())


# --- a busy server leaves what it is sent unread: that is no reason to end the connection ---------------------------


async def test_copy(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    cursor = connection.cursor()
    async with inside(cursor.copy(f"COPY {watch.table} FROM STDIN")) as copy:
        assert user_timeout(connection.fileno()) == 0
        await done(copy.write_row(["one"]))
    assert user_timeout(connection.fileno()) == OURS
    assert watch.words() == ["one"]


async def test_copy_that_fails(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    with pytest.raises(ZeroDivisionError):
        async with inside(connection.cursor().copy(f"COPY {watch.table} FROM STDIN")):
            raise ZeroDivisionError
    assert user_timeout(connection.fileno()) == OURS


async def test_pipelines_within_each_other(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    async with inside(connection.pipeline()):
        async with inside(connection.pipeline()):
            assert user_timeout(connection.fileno()) == 0
        await done(connection.cursor().executemany(f"INSERT INTO {watch.table} VALUES (%s)", [("one",), ("two",)]))
        assert user_timeout(connection.fileno()) == 0
    assert user_timeout(connection.fileno()) == OURS


@pytest.mark.parametrize("value", ["-1", "soon", "nan", True])
async def test_bad_value(side: Side, watch: Watch, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"detection_timeout.*0 to leave sockets alone"):
        await side.connect(watch.dsn(), instrumented_wrapper={"detection_timeout": value})
