"""On and off again: the very descriptors, the self-test, open connections, the end of the interpreter.

All of it in processes of their own.
"""

from __future__ import annotations

import pytest

from ..script import complete
from ..watch import Watch

SNAPSHOT = """
        import inspect, sys
        import psycopg, psycopg_pool
        from psycopg import _connection_base, _cursor_base
        def owners():
            named = [psycopg, psycopg_pool, _connection_base, _cursor_base]
            found = [thing for module in named for thing in vars(module).values() if inspect.isclass(thing)]
            bases = {base for kind in found for base in kind.__mro__}
            return {base for base in bases if base.__module__.startswith("psycopg")} | set(named)
        def snapshot():
            return {(owner, name): id(value) for owner in owners() for name, value in list(vars(owner).items())
                    if not name.startswith("__abc") and name != "__cached__"}
        before = snapshot()
        kept = [dict(vars(owner)) for owner in owners()]
        import instrumented_wrapper
"""


def test_uninstrument_puts_back_the_very_descriptors() -> None:
    said = complete(
        SNAPSHOT
        + """
        for _ in range(2):
            instrumented_wrapper.instrument()
            changed = {key for key, value in snapshot().items() if before.get(key) != value}
            names = {name for _, name in changed}
            assert {"wait", "connect", "close", "getconn", "putconn", "_get_connection_params"} <= names, names
            instrumented_wrapper.uninstrument()
            after = snapshot()
            assert after == before, {k[1] for k in after.keys() ^ before.keys()} | {
                k[1] for k in before if before[k] != after.get(k)}
        print("the same")
        """
    )
    assert said == "the same"


def test_open_connections_go_on_after_uninstrument(watch: Watch) -> None:
    said = complete(
        """
        import asyncio, sys
        import instrumented_wrapper, psycopg, psycopg_pool
        instrumented_wrapper.instrument()
        connection = psycopg.connect(sys.argv[1])
        connection.read_only = True
        cursor = connection.cursor()
        block = connection.transaction()
        pool = psycopg_pool.ConnectionPool(sys.argv[1], min_size=1, open=True)
        held = pool.getconn()
        held.autocommit = True
        with block:
            instrumented_wrapper.uninstrument()
            assert cursor.execute("SHOW transaction_read_only").fetchone() == ("on",)
        connection.rollback()
        connection.read_only = False
        with connection.transaction():
            assert connection.execute("SHOW transaction_read_only").fetchone() == ("off",)
        assert not instrumented_wrapper.session_state(connection)
        pool.putconn(held)
        with pool.connection() as again:
            assert again.execute("SELECT 1").fetchone() == (1,)
        pool.close()
        with psycopg.connect(sys.argv[1]) as killer:
            killer.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid])
        try:
            connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            print(type(error).__name__)
        connection.close()
        """,
        watch.dsn(),
    )
    assert said == "AdminShutdown"


PRIVATE_PARTS = [
    "psycopg.BaseConnection:_set_read_only_gen",
    "psycopg.BaseConnection:_exec_command",
    "psycopg.BaseConnection:_check_connection_ok",
    "psycopg.BaseConnection:_notify_handler",
    "psycopg._cursor_base.BaseCursor:_convert_query",
    "psycopg.Transaction:__exit__",
]


@pytest.mark.parametrize("part", PRIVATE_PARTS)
def test_self_test_that_fails(watch: Watch, part: str) -> None:
    """A private part is missing: only observed, one warning, the driver's own errors pass."""
    owner, name = part.split(":")
    said = complete(
        """
        import logging, sys, types
        import psycopg, psycopg._cursor_base
        import instrumented_wrapper
        owner, name = eval(sys.argv[2]), sys.argv[3]
        holder = next(base for base in owner.__mro__ if name in vars(base))
        part = vars(holder)[name]
        delattr(holder, name)
        warnings = []
        logging.getLogger("instrumented_wrapper").addHandler(types.SimpleNamespace(
            level=0, handle=lambda record: warnings.append((record.levelname, record.getMessage()))))
        instrumented_wrapper.instrument(failover="on")
        assert [level for level, _ in warnings] == ["WARNING"], warnings
        assert name in warnings[0][1], warnings
        setattr(holder, name, part)
        with psycopg.connect(sys.argv[1], autocommit=True) as connection:
            connection.read_only = True
            assert connection.execute("SELECT 1").fetchone() == (1,)
            with psycopg.connect(sys.argv[1]) as other:
                other.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid])
            try:
                connection.execute("SELECT 1")
            except psycopg.OperationalError as error:
                print(type(error).__name__)
        assert len(warnings) == 1, warnings
        """,
        watch.dsn(),
        owner,
        name,
    )
    assert said == "AdminShutdown"


def test_the_end_of_the_interpreter_is_silent(watch: Watch) -> None:
    """Connections of all kinds are open when the interpreter ends, one in a transaction, one whose server is gone."""
    complete(
        """
        import atexit, sys, warnings
        warnings.simplefilter("ignore", ResourceWarning)  # psycopg's own, and right
        import psycopg, psycopg_pool
        import instrumented_wrapper
        instrumented_wrapper.instrument(failover="on")
        kept = [psycopg.connect(sys.argv[1]) for _ in range(3)]
        for connection in kept:
            connection.read_only = True
        cursor = kept[0].execute("SELECT 1")
        with psycopg.connect(sys.argv[1]) as killer:
            killer.execute("SELECT pg_terminate_backend(%s, 10000)", [kept[1].info.backend_pid])
        cycle = [kept]
        cycle.append(cycle)
        atexit.register(kept[2].close)
        """,
        watch.dsn(),
    )


def test_the_end_of_the_interpreter_with_async_connections(watch: Watch) -> None:
    """They outlive their loop, one of them with a transaction open, one with changed settings."""
    complete(
        """
        import asyncio, sys, warnings
        warnings.simplefilter("ignore", ResourceWarning)  # psycopg's own, and right
        import psycopg
        import instrumented_wrapper
        instrumented_wrapper.instrument(failover="on")
        async def main():
            kept = [await psycopg.AsyncConnection.connect(sys.argv[1]) for _ in range(3)]
            await kept[0].execute("SELECT 1")
            await kept[1].set_read_only(True)
            await instrumented_wrapper.switch_async(kept[2])
            return kept
        kept = asyncio.run(main())
        """,
        watch.dsn(),
    )


def test_nothing_to_say_where_there_is_no_trouble(watch: Watch) -> None:
    """No warning about deprecations or resources in a plain day's work."""
    complete(
        """
        import sys
        import instrumented_wrapper, psycopg
        instrumented_wrapper.instrument()
        with psycopg.connect(sys.argv[1], row_factory=psycopg.rows.dict_row) as connection:
            instrumented_wrapper.switch(connection)
            assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}
        """,
        watch.dsn(),
        PYTHONWARNINGS="error",
    )
