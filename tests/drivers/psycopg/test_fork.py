"""A forked child has the parent's sockets: it must not touch them, whatever it does with its copies of the objects."""

from __future__ import annotations

import pytest

from servers import Proxy

from ..script import Program
from ..side import dsn
from ..watch import Watch, eventually

PARENT = """
    import asyncio, gc, os, sys
    import instrumented_wrapper, psycopg
    from instrumented_wrapper import SessionStateTransferHandlers as Handlers, session_state
    instrumented_wrapper.instrument(failover="on")
    Handlers.set_reset_session_state_on_close_func(lambda state, connection: connection.execute("SELECT 'reset'") and 0)
    connection = psycopg.connect(sys.argv[1], autocommit=True)
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    connection.execute("LISTEN news")
    print("ready")
    sys.stdin.readline()
    child = os.fork()
    if not child:
        try:
            exec(sys.argv[2])
            os._exit(0)
        except BaseException as error:
            print("child failed:", repr(error), file=sys.stderr)
        finally:
            os._exit(1)
    print("child", os.waitpid(child, 0)[1])
    sys.stdin.readline()
    print("news", [n.payload for n in connection.notifies(timeout=5, stop_after=1)])
    print(connection.execute("SELECT 'parent goes on'").fetchone()[0])
    print(session_state(connection))
    Handlers.clear_reset_session_state_on_close_func()
    connection.close()
"""

DEEDS = {
    "close": "connection.close()",
    "garbage": "import warnings; warnings.simplefilter('ignore'); del connection; gc.collect()",
    "with": "connection.__exit__(None, None, None)",
    "setting": "connection.read_only = True; connection.deferrable = True",
    "state": "session_state(connection)",
    "cursor": "connection.cursor().close()",
    "close_twice": "connection.close(); connection.close(); connection.cursor",
    "nothing": "",
}


@pytest.mark.parametrize("deed", DEEDS)
def test_the_parents_socket_sees_no_byte(watch: Watch, proxy: Proxy, deed: str) -> None:
    with Program(PARENT, dsn(proxy), DEEDS[deed]) as program:
        assert program.hear() == "ready"
        watch.sql("NOTIFY news, 'for the parent'")  # lies in the socket: who peeks takes it away
        assert proxy.wait_for(b"for the parent", "server")
        sent = proxy.bytes_from_client
        program.tell("fork")
        assert program.hear() == "child 0"
        assert proxy.bytes_from_client == sent
        assert proxy.connections == 1
        program.tell("go on")
        assert program.hear() == "news ['for the parent']"
        assert program.hear() == "parent goes on"
        assert program.hear().startswith("isolation_level:")
        assert program.end() == (0, "")


def test_a_child_never_switches(watch: Watch, proxy: Proxy) -> None:
    deed = """
import instrumented_wrapper
try:
    connection.execute("SELECT 'child'")
except instrumented_wrapper.FailoverError:
    raise
except psycopg.OperationalError:
    pass
else:
    raise AssertionError("it worked")
connection.close()
"""
    with Program(PARENT, dsn(proxy), deed) as program:
        assert program.hear() == "ready"
        proxy.cut()
        program.tell("fork")
        assert program.hear() == "child 0"
        assert proxy.connections == 1


ASYNC_PARENT = """
    import asyncio, gc, os, sys
    import instrumented_wrapper, psycopg
    instrumented_wrapper.instrument(failover="on")

    async def main():
        connection = await psycopg.AsyncConnection.connect(sys.argv[1], autocommit=True)
        await connection.set_read_only(True)
        print("ready")
        sys.stdin.readline()
        child = os.fork()
        if not child:
            try:
                await connection.close()
                del connection
                gc.collect()
            finally:
                os._exit(0)
        print("child", os.waitpid(child, 0)[1])
        sys.stdin.readline()
        cursor = await connection.execute("SELECT 'parent goes on'")
        print((await cursor.fetchone())[0])
        await connection.close()

    asyncio.run(main())
"""


def test_async_child_closes(watch: Watch, proxy: Proxy) -> None:
    with Program(ASYNC_PARENT, dsn(proxy)) as program:
        assert program.hear() == "ready"
        sent = proxy.bytes_from_client
        program.tell("fork")
        assert program.hear() == "child 0"
        assert (proxy.bytes_from_client, proxy.connections) == (sent, 1)
        program.tell("go on")
        assert program.hear() == "parent goes on"
        assert program.end() == (0, "")


def test_a_child_connects_and_fails_over_by_itself(watch: Watch, proxy: Proxy) -> None:
    """What is the child's own is looked after, also when the parent was in a search while it forked."""
    deed = """
own = psycopg.connect(sys.argv[1], autocommit=True)
pid = own.info.backend_pid
own.execute("SELECT 1")
own.close()
"""
    with Program(PARENT, dsn(proxy), deed) as program:
        assert program.hear() == "ready"
        program.tell("fork")
        assert program.hear() == "child 0"
        assert eventually(lambda: len(watch.sessions()) == 1)


SEARCHING_PARENT = """
    import os, sys, threading
    import instrumented_wrapper, psycopg
    instrumented_wrapper.instrument(failover="on", failover_timeout=20)
    lost = psycopg.connect(sys.argv[1], autocommit=True)
    print("ready")
    sys.stdin.readline()
    thread = threading.Thread(target=lost.execute, args=("SELECT 1",))
    thread.start()
    print("searching")
    sys.stdin.readline()
    child = os.fork()
    if not child:
        try:
            own = psycopg.connect(sys.argv[2], autocommit=True)
            own.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        except psycopg.OperationalError as error:
            os._exit(7 if own.execute("SELECT 7").fetchone()[0] == 7 else 1)
        finally:
            os._exit(1)
    print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    sys.stdin.readline()
    thread.join()
    print(lost.execute("SELECT 'found'").fetchone()[0])
    lost.close()
"""


def test_a_child_forked_in_the_middle_of_a_search(watch: Watch, proxy: Proxy) -> None:
    with Program(SEARCHING_PARENT, dsn(proxy), dsn(watch.cluster.primary)) as program:
        assert program.hear() == "ready"
        proxy.hold()
        proxy.cut()
        before = proxy.connections
        program.tell("lose it")
        assert program.hear() == "searching"
        assert eventually(lambda: proxy.connections > before)
        program.tell("fork")
        assert program.hear() == "child 7"
        proxy.release()
        program.tell("go on")
        assert program.hear() == "found"


RETURNING_PARENT = """
    import os, sys
    import instrumented_wrapper, psycopg, psycopg2, psycopg2.pool, psycopg_pool, sqlalchemy.pool
    instrumented_wrapper.instrument(failover="on", pooler="transaction")  # nothing that SQL sets is carried over

    class PsycopgPool:
        def __init__(self, dsn):
            keywords = {"autocommit": True}
            self.pool = psycopg_pool.ConnectionPool(dsn, min_size=1, kwargs=keywords, open=True, reconnect_timeout=0)
        def take(self):
            self.taken = self.pool.getconn(10)
            return self.taken
        def give(self):
            self.pool.putconn(self.taken)

    class Psycopg2Pool(PsycopgPool):
        def __init__(self, dsn):
            self.pool = psycopg2.pool.ThreadedConnectionPool(0, 1, dsn)
        def take(self):
            self.taken = self.pool.getconn()
            self.taken.autocommit = True
            return self.taken

    class SQLAlchemyPool:
        def __init__(self, dsn):
            self.pool = sqlalchemy.pool.QueuePool(lambda: psycopg2.connect(dsn), reset_on_return=None)
        def take(self):
            self.taken = self.pool.connect()
            self.taken.driver_connection.autocommit = True
            return self.taken.driver_connection
        def give(self):
            self.taken.close()

    pool = globals()[sys.argv[2]](sys.argv[1])
    connection = pool.take()
    cursor = connection.cursor()
    cursor.execute("SET app.tenant = 'seven'")
    print("ready")
    sys.stdin.readline()
    try:
        cursor.execute("SELECT 1")
    except instrumented_wrapper.FailoverSuccessError as error:
        print(error.not_restored)
    sys.stdin.readline()
    child = os.fork()
    if not child:
        pool.give()
        os._exit(0)
    print("child", os.waitpid(child, 0)[1])
    sys.stdin.readline()
    cursor.execute("SET app.tenant = 'seven'")
    cursor.execute("SELECT 'parent goes on'")
    print(cursor.fetchone()[0])
    os._exit(0)
"""


@pytest.mark.parametrize("pool", ["PsycopgPool", "Psycopg2Pool", "SQLAlchemyPool"])
def test_a_child_returns_a_refused_connection_to_its_pool(watch: Watch, proxy: Proxy, pool: str) -> None:
    """The pool discards it, and the session goes on in the parent."""
    with Program(RETURNING_PARENT, dsn(proxy), pool) as program:
        assert program.hear() == "ready"
        proxy.cut()
        program.tell("lose it")
        assert program.hear() == "('app.tenant',)"
        sent = proxy.bytes_from_client
        program.tell("fork")
        assert program.hear() == "child 0"
        assert proxy.bytes_from_client == sent
        program.tell("go on")
        assert program.hear() == "parent goes on"
