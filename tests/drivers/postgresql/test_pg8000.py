"""What is special to pg8000: three interfaces, prepared statements, COPY, notifications, answers left unread."""

from __future__ import annotations

import io
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from instrumented_wrapper import (
    FailoverError,
    FailoverFailedError,
    FailoverSuccessError,
    reset_session,
    session_state,
    switch,
)
from servers import Proxy

from ..watch import Watch

pg8000 = pytest.importorskip("pg8000")
dbapi = pytest.importorskip("pg8000.dbapi")
native = pytest.importorskip("pg8000.native")
SESSION = "SELECT pg_backend_pid()"


@pytest.fixture
def connect(watch: Watch) -> Iterator[Callable[..., Any]]:
    with ExitStack() as stack:

        def connect(kind: Any = None, server: Any = None, **given: Any) -> Any:
            primary = server or watch.cluster.primary
            where = {"user": "app", "password": "app-secret", "database": "app", "ssl_context": False}
            ours = {"failover_hosts": watch.cluster.hosts(), **given.pop("ours", {})}
            connection = (kind or dbapi.connect)(
                host=primary.host, port=primary.port, instrumented_wrapper=ours, **where, **given
            )
            stack.callback(closed, connection)
            return connection

        yield connect


def closed(connection: Any) -> None:
    with suppress(dbapi.InterfaceError, OSError):
        connection.close()


def ask(connection: Any, sql: str, *parameters: Any) -> Any:
    cursor = connection.cursor()
    cursor.execute(sql, parameters)
    ((value,),) = cursor.fetchall()
    return value


@pytest.mark.parametrize("name", ["connect", "Connection"])
@pytest.mark.parametrize("module", [dbapi, pg8000], ids=["dbapi", "legacy"])
def test_each_way_to_connect(connect, watch, module: Any, name: str) -> None:
    connection = connect(getattr(module, name))
    connection.autocommit = True
    cursor = connection.cursor()
    assert session_state(connection)["autocommit"].value is True
    cursor.execute("SET TimeZone = 'Asia/Tokyo'")
    before = ask(connection, SESSION)
    watch.end_sessions()
    cursor.execute("SHOW TimeZone")
    assert list(map(list, cursor.fetchall())) == [["Asia/Tokyo"]]
    assert ask(connection, SESSION) != before
    assert reset_session(connection)
    assert connection.autocommit is False


def test_a_native_connection_is_tracked_and_moved(connect, watch) -> None:
    connection = connect(native.Connection)
    connection.run("SET TimeZone = 'Asia/Tokyo'")
    state = session_state(connection)["TimeZone"]
    assert state.value == "Asia/Tokyo"
    before = connection.run(SESSION)
    watch.end_sessions()
    assert connection.run("SELECT current_setting(:name)", name="TimeZone") == [["Asia/Tokyo"]]
    assert connection.run(SESSION) != before
    connection.run("BEGIN")
    connection.run(watch.insert("lost"))
    watch.end_sessions()
    with pytest.raises(FailoverSuccessError) as caught:
        connection.run("SELECT 1")
    assert caught.value.transaction == "rolled_back" and isinstance(caught.value, native.DatabaseError)
    with pytest.raises(FailoverSuccessError):
        connection.run("COMMIT")
    connection.run("ROLLBACK")
    connection.run(watch.insert("kept"))
    assert watch.words() == ["kept"]
    assert reset_session(connection)
    assert connection.run("SHOW TimeZone") == [[state.pristine_value]]


def test_prepared_statements_are_prepared_again(connect, watch) -> None:
    for connection in (connect(native.Connection), connect(pg8000.connect)):
        statement = connection.prepare("SELECT cast(:number AS integer) + 1")
        other = connection.prepare("SELECT 1")
        assert list(map(list, statement.run(number=1))) == [[2]]
        if hasattr(connection, "rollback"):
            connection.rollback()
        watch.end_sessions()
        assert list(map(list, statement.run(number=2))) == [[3]]
        other.close()  # of a session that is gone
        statement.close()
        if hasattr(connection, "rollback"):
            connection.rollback()


def test_spans_of_prepared_statements_have_no_values(connect, spans) -> None:
    connection = connect(native.Connection)
    statement = connection.prepare("SELECT cast(:secret AS text)")
    spans.clear()
    statement.run(secret="hush")
    (span,) = spans.all()
    assert span.attributes["db.query.text"] == "SELECT cast($1 AS text)"


def test_copy(connect, watch) -> None:
    connection = connect()
    cursor = connection.cursor()
    cursor.execute(f"COPY {watch.table} FROM STDIN", stream=io.BytesIO(b"a\nb\n"))
    connection.commit()
    into = io.BytesIO()
    cursor.execute(f"COPY {watch.table} TO STDOUT", stream=into)
    assert into.getvalue() == b"a\nb\n"
    connection.rollback()


def test_a_copy_that_is_found_dead_has_its_stream(connect, watch) -> None:
    connection = connect()
    connection.autocommit = True
    watch.end_sessions()
    connection.cursor().execute(f"COPY {watch.table} FROM STDIN", stream=io.BytesIO(b"a\n"))
    assert watch.words() == ["a"]


def test_an_error_of_the_apps_stream_is_no_loss(connect, spans) -> None:
    connection = connect()

    def stream() -> Iterator[bytes]:
        yield b"a\n"
        raise ConnectionResetError("of another server")

    with pytest.raises(ConnectionResetError):
        _copy(connection, stream())
    assert not spans.named("failover")


def _copy(connection: Any, stream: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("CREATE TEMP TABLE streamed (word text)")
    cursor.execute("COPY streamed FROM STDIN", stream=stream)


def test_notifications_and_adapters_stay_the_apps(connect, watch) -> None:
    connection = connect()
    connection.autocommit = True
    cursor = connection.cursor()
    connection.register_in_adapter(25, lambda text: f"adapted {text}")  # of the type text
    cursor.execute("LISTEN news")
    cursor.execute("NOTIFY news, 'first'")
    notifications, notices = connection.notifications, connection.notices
    assert [payload for _, _, payload in notifications] == ["first"]
    cursor.execute("UNLISTEN news")
    watch.end_sessions()
    assert ask(connection, "SELECT 'x'::text") == "adapted x"
    assert connection.notifications is notifications and connection.notices is notices


def test_a_notification_that_comes_unasked_is_no_loss(connect, watch, spans) -> None:
    connection = connect()
    connection.autocommit = True
    connection.cursor().execute("LISTEN news")
    session = ask(connection, SESSION)
    watch.sql("NOTIFY news, 'unasked'")
    assert ask(connection, SESSION) == session
    assert [payload for _, _, payload in connection.notifications] == ["unasked"]
    assert not spans.named("failover")


def test_a_two_phase_transaction_outlives_its_session(connect, watch) -> None:
    connection = connect()
    connection.tpc_begin(connection.xid(0, "pg8000 both phases", ""))
    connection.cursor().execute(watch.insert("prepared"))
    connection.tpc_prepare()
    watch.end_sessions()
    connection.tpc_commit()
    assert watch.words() == ["prepared"]


def test_a_prepared_transaction_that_is_gone_is_not_committed(connect, watch) -> None:
    connection = connect()
    connection.tpc_begin(connection.xid(0, "pg8000 gone", ""))
    connection.cursor().execute(watch.insert("gone"))
    connection.tpc_prepare()
    watch.end_sessions()
    watch.sql("ROLLBACK PREPARED 'pg8000 gone'")
    with pytest.raises(dbapi.ProgrammingError, match="no such prepared transaction"):
        connection.tpc_commit()
    assert watch.words() == []


def test_a_socket_of_the_apps_is_not_opened_again(connect, watch) -> None:
    primary = watch.cluster.primary
    connection = connect(sock=socket.create_connection((primary.host, primary.port)))
    connection.autocommit = True
    assert ask(connection, "SELECT 1") == 1
    with pytest.raises(FailoverFailedError, match="sock="):
        switch(connection)
    assert ask(connection, "SELECT 1") == 1
    watch.end_sessions()
    with pytest.raises((dbapi.InterfaceError, OSError)) as caught:
        ask(connection, "SELECT 1")
    assert not isinstance(caught.value, FailoverError)


def test_after_an_answer_that_was_left_unread_nothing_is_asked(connect, spans) -> None:
    connection = connect()
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("SET TimeZone = 'Asia/Tokyo'")
    connection.register_in_adapter(23, lambda text: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cursor.execute("SELECT 1")
    with pytest.raises(dbapi.DatabaseError, match="before its answer was read"):
        reset_session(connection)
    connection.close()
    assert not spans.named("session_state.reset")


@pytest.mark.parametrize("chosen", ["on", "close", "report"])
def test_a_pool_that_resets_discards_what_is_out_of_step(connect, chosen: str) -> None:
    pools = pytest.importorskip("sqlalchemy.pool")
    pool = pools.QueuePool(lambda: connect(ours={"reset_on_return": chosen}), pool_size=1, max_overflow=0)
    connection = pool.connect()
    number = ask(connection, SESSION)
    connection.dbapi_connection.register_in_adapter(23, lambda text: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        connection.cursor().execute("SELECT 1")
    with suppress(dbapi.Error, ValueError, IndexError):  # SQLAlchemy's own rollback reads a wrong answer
        connection.close()
    connection = pool.connect()
    was_discarded = connection.dbapi_connection._backend_key_data[:4] != number.to_bytes(4, "big")
    assert was_discarded is (chosen != "report")
    pool.dispose()


def test_a_timeout_of_the_app_is_a_loss(connect, watch) -> None:
    connection = connect(timeout=0.3)
    connection.autocommit = True
    with pytest.raises(FailoverSuccessError) as caught:
        ask(connection, "SELECT 1 FROM pg_sleep(60)")
    assert caught.value.may_have_run
    assert ask(connection, "SELECT 1") == 1
    assert connection._usock.gettimeout() == 0.3


def test_a_planned_switch(connect, watch) -> None:
    connection = connect()
    cursor = connection.cursor()
    standby = watch.cluster.standby
    switch(connection, standby.host, standby.port)
    cursor.execute("SELECT pg_is_in_recovery()")
    assert cursor.fetchone()[0] is True
    connection.rollback()
    switch(connection, watch.cluster.primary.host, watch.cluster.primary.port)
    assert ask(connection, "SELECT pg_is_in_recovery()") is False


def test_errors_have_a_sqlstate(connect) -> None:
    for connection in (connect(), connect(pg8000.connect)):
        with pytest.raises(dbapi.DatabaseError) as caught:
            ask(connection, "SELECT 1/0")
        assert caught.value.sqlstate == caught.value.args[0]["C"] == "22012"
        connection.rollback()


def test_a_server_that_is_refused_in_the_middle_of_a_login(connect, watch) -> None:
    with Proxy(watch.cluster.primary.host, watch.cluster.primary.port) as proxy:
        proxy.refuse()
        connection = connect(server=proxy)
        assert ask(connection, "SELECT 1") == 1


class _Holding(Proxy):
    """Holds all as soon as the client sends certain bytes."""

    holds_at = b""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.reached = threading.Event()

    def _pull(self, direction: Any, chunk: bytes, tail: bytes) -> Any:
        if self.holds_at and direction == "client" and self.holds_at in chunk:
            self.hold()
            self.reached.set()
        return super()._pull(direction, chunk, tail)


def test_an_interrupted_question_of_the_wrapper_is_no_answer_to_the_app(connect, watch) -> None:
    """PyMySQL closes its socket there, libpq reads on; pg8000 would take the answer for that to the next statement."""
    primary = watch.cluster.primary
    with _Holding(primary.host, primary.port) as proxy:
        connection = connect(server=proxy)
        connection.autocommit = True
        assert ask(connection, "SELECT 'first'") == "first"
        proxy.holds_at = b"pg_catalog"

        def interrupt() -> None:
            assert proxy.reached.wait(60)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            thread = threading.Thread(target=interrupt)
            thread.start()
            connection.cursor().execute("SET work_mem = '8MB'")
        thread.join()
        proxy.holds_at = b""
        proxy.release()
        assert ask(connection, "SELECT 'second'") == "second"
