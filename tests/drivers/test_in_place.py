"""Patched in place: the app's objects stay what they are, late and early imports, both implementations, and back.

What touches the patches themselves runs in processes of their own.
"""

from __future__ import annotations

import pickle
import weakref
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from .script import run
from .side import Side, done, dsn, inside, rows
from .watch import Watch


def complete(text: str, *arguments: str, **environment: str) -> str:
    """Run a program that must end well and in silence; return what it said."""
    ended = run(text, *arguments, **environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.strip()


async def test_exact_type_and_identity(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    known = {connection: "known"}
    alive = weakref.ref(connection)
    address = id(connection)
    cursor = connection.cursor()
    watch.end_sessions()
    await done(cursor.execute(watch.insert("one")))
    assert type(connection) is side.connection_class
    assert isinstance(connection, side.connection_class)
    assert (known[connection], alive(), id(connection)) == ("known", connection, address)
    assert cursor.connection is connection
    assert (await done(connection.execute("SELECT 1"))).connection is connection


async def test_subclass_with_attributes_of_its_own(side: Side, watch: Watch) -> None:
    class Mine(side.connection_class):  # type: ignore[name-defined, misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.tag = "made"

        def hello(self) -> str:
            return f"hello {self.tag}"

    connection = side.keep(await done(Mine.connect(watch.dsn(), autocommit=True)))
    connection.tag = "changed"
    watch.end_sessions()
    await done(connection.execute(watch.insert("one")))
    assert type(connection) is Mine
    assert connection.hello() == "hello changed"
    assert watch.words() == ["one"]


async def test_subclass_whose_connect_is_its_own(side: Side, watch: Watch) -> None:
    """What it sets before it returns is the baseline, through a switch too."""
    connection = side.keep(await done(_with_own_connect(side).connect(watch.dsn(), autocommit=True)))
    watch.end_sessions()
    await done(connection.execute(watch.insert("one")))
    assert connection.isolation_level == psycopg.IsolationLevel.SERIALIZABLE
    async with inside(connection.transaction()):
        assert await rows(connection, "SHOW transaction_isolation") == [("serializable",)]


def _with_own_connect(side: Side) -> Any:
    if side.is_async:

        class Asynchronous(psycopg.AsyncConnection[Any]):
            @classmethod
            async def connect(cls, *args: Any, **kwargs: Any) -> Any:
                connection = await super().connect(*args, **kwargs)
                await connection.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE)
                return connection

        return Asynchronous

    class Synchronous(psycopg.Connection[Any]):
        @classmethod
        def connect(cls, *args: Any, **kwargs: Any) -> Any:
            connection = super().connect(*args, **kwargs)
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            return connection

    return Synchronous


def test_psycopg_connect_and_the_methods_bound_types() -> None:
    assert psycopg.connect.__self__ is psycopg.Connection  # type: ignore[attr-defined]
    assert isinstance(vars(psycopg.Connection)["connect"], classmethod) or callable(psycopg.Connection.connect)
    assert psycopg.Connection.close.__name__ == "close"
    assert psycopg.Connection.close.__doc__


def test_errors_of_psycopg_still_pickle() -> None:
    error = pickle.loads(pickle.dumps(psycopg.OperationalError("plain")))
    assert type(error) is psycopg.OperationalError


SURVIVES = """
def survives(connection):
    pid = connection.info.backend_pid
    connection.read_only = False
    connection.execute("SELECT 1")
    connection.commit()
    with psycopg.connect(sys.argv[1]) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
    connection.execute("SELECT 1")
    assert connection.info.backend_pid != pid
    assert connection.read_only is False
"""


def test_connect_that_was_imported_before(watch: Watch) -> None:
    assert "survived" == complete(
        """
        import sys
        import psycopg
        from psycopg import connect
        import instrumented_wrapper
        instrumented_wrapper.instrument()
        """
        + _indented(SURVIVES)
        + """
        with connect(sys.argv[1]) as connection:
            survives(connection)
        print("survived")
        """,
        watch.dsn(),
    )


def test_psycopg_that_is_imported_later(watch: Watch) -> None:
    assert complete(
        """
        import sys
        import instrumented_wrapper
        instrumented_wrapper.instrument()
        assert "psycopg" not in sys.modules and "psycopg_pool" not in sys.modules
        import psycopg
        """
        + _indented(SURVIVES)
        + """
        with psycopg.connect(sys.argv[1]) as connection:
            survives(connection)
        assert "psycopg_pool" not in sys.modules
        import psycopg_pool
        with psycopg_pool.ConnectionPool(sys.argv[1], min_size=1) as pool:
            with pool.connection() as connection:
                connection.autocommit = True
            with pool.connection() as connection:
                print(connection.autocommit)
        """,
        watch.dsn(),
    ).endswith("False")


def _indented(text: str) -> str:
    return "".join(f"        {line}\n" for line in text.splitlines())


@pytest.mark.parametrize("implementation", ["python", "binary"])
def test_both_implementations(watch: Watch, implementation: str) -> None:
    if run("import psycopg", PSYCOPG_IMPL=implementation).returncode:
        pytest.skip(f"psycopg's {implementation} implementation does not load here (no libpq?)")
    said = complete(
        """
        import sys
        import instrumented_wrapper, psycopg
        instrumented_wrapper.instrument()
        """
        + _indented(SURVIVES)
        + """
        with psycopg.connect(sys.argv[1]) as connection:
            survives(connection)
            connection.rollback()
            with connection.pipeline():
                connection.execute("SELECT 1")
            with connection.cursor("named") as cursor:
                cursor.execute("SELECT generate_series(1, 3)")
                assert len(cursor.fetchall()) == 3
            with connection.cursor().copy("COPY (SELECT 1) TO STDOUT") as copy:
                assert b"".join(copy) == b"1\\n"
        try:
            with psycopg.connect(sys.argv[1], autocommit=True) as connection, connection.transaction():
                connection.execute("SELECT 1")
                with psycopg.connect(sys.argv[1]) as other:
                    other.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid])
                connection.execute("SELECT 2")
        except instrumented_wrapper.FailoverSuccessError as error:
            assert error.transaction == "rolled_back"
        print(psycopg.pq.__impl__)
        """,
        watch.dsn(),
        PSYCOPG_IMPL=implementation,
    )
    assert said == implementation


SNAPSHOT = """
        import inspect, sys
        import psycopg, psycopg_pool
        from psycopg import _connection_base, _cursor_base
        def owners():
            named = [psycopg, psycopg_pool, _connection_base, _cursor_base]
            found = [thing for module in named for thing in vars(module).values() if inspect.isclass(thing)]
            return {base for kind in found for base in kind.__mro__ if base.__module__.startswith("psycopg")} | set(named)
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
            assert {"wait", "connect", "close", "getconn", "putconn", "__init__", "_get_connection_params"} <= names, names
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
        instrumented_wrapper.instrument
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


async def test_arguments_of_connect_are_used_again(side: Side, watch: Watch) -> None:
    """All of them: what the connection string and keywords say is what the new session has."""
    connection = await side.connect(
        dsn(watch.cluster.primary, watch.cluster.standby, options="-c statement_timeout=12345"),
        application_name="asked for",
        autocommit=True,
        row_factory=dict_row,
        prepare_threshold=7,
    )
    watch.end_sessions()
    assert await rows(connection, "SHOW statement_timeout") == [{"statement_timeout": "12345ms"}]
    assert await rows(connection, "SHOW application_name") == [{"application_name": "asked for"}]
    assert connection.prepare_threshold == 7
