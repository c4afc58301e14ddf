"""Patched in place: the app's objects stay what they are, late and early imports, both implementations.

What depends on the order of imports runs in processes of its own.
"""

from __future__ import annotations

import pickle
import weakref
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from ..script import complete, run
from ..side import Side, done, dsn, inside, rows
from ..watch import Watch


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
    assert (
        complete(
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
        == "survived"
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
