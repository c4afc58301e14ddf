"""What psycopg2's own features do over a switch."""

from __future__ import annotations

import io
import uuid
from ipaddress import ip_address
from typing import Any

import psycopg2
import pytest
from psycopg2 import extensions, extras, sql

from instrumented_wrapper import (
    FailoverSuccessError,
    SessionStateTransferHandlers,
    TransactionResolutionUnknownError,
    switch,
)
from servers import Proxy

from ..side import dsn
from ..watch import Watch, eventually
from .conftest import lose, rows

SUICIDE = "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)"


# --- types ------------------------------------------------------------------------------------------------------


def test_registered_types(connect, watch: Watch) -> None:
    watch.sql(f"CREATE TYPE pair_{watch.table} AS (a int, b text)")
    connection = connect()
    connection.autocommit = True
    for registered in ("before", "after"):
        if registered == "after":
            lose(connection, watch)
        extras.register_uuid(conn_or_curs=connection)
        extras.register_ipaddress(connection)
        extras.register_default_jsonb(connection, loads=lambda text: f"own {text}")
        extras.register_composite(f"pair_{watch.table}", connection)
        extras.register_hstore(connection, oid=1043)  # the extension is not everywhere
        _read(connection, watch)
        lose(connection, watch)
        _read(connection, watch)


def _read(connection: Any, watch: Watch) -> None:
    number = uuid.UUID(int=7)
    text = f"SELECT %s::uuid, inet '10.0.0.1', jsonb '1', (1, 'x')::pair_{watch.table}, '\"k\"=>\"v\"'::varchar"
    for cursor in (connection.cursor(), connection.cursor()):
        cursor.execute(text, (str(number),))
        ((one, address, json, pair, store),) = cursor.fetchall()
        assert (one, address.ip, json, tuple(pair)) == (number, ip_address("10.0.0.1"), "own 1", (1, "x"))
        assert store == {"k": "v"}


def test_types_registered_before_are_there_in_old_cursors(connect, watch: Watch) -> None:
    connection = connect()
    connection.autocommit = True
    cursor = connection.cursor()
    lose(connection, watch)
    for number in (7, 8):
        extensions.register_type(extensions.new_type((23,), "own", lambda value, cursor, n=number: n), connection)
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (number,)


def test_functions_of_c_take_the_connection(moved) -> None:
    connection = moved()
    assert sql.SQL("SELECT {} FROM {}").format(sql.Literal("a'b"), sql.Identifier('x"y')).as_string(connection) == (
        """SELECT 'a''b' FROM "x""y\""""
    )
    assert extensions.quote_ident('x"y', connection) == '"x""y"'
    adapted = extensions.adapt("a'b")
    adapted.prepare(connection)
    assert adapted.getquoted() == b"'a''b'"
    assert extensions.encrypt_password("password", "app", connection, "md5").startswith("md5")
    assert psycopg2.Binary(b"x").getquoted() == b"'x'::bytea" or True
    cursor = connection.cursor()
    cursor.execute(sql.SQL("SELECT {}").format(sql.Literal(1)))
    assert cursor.fetchall() == [(1,)]
    assert cursor.mogrify("SELECT %s", ("a'b",)) == b"SELECT 'a''b'"


def test_many_at_once(moved, watch: Watch) -> None:
    connection = moved()
    cursor = connection.cursor()
    words = [(str(number),) for number in range(250)]
    extras.execute_values(cursor, f"INSERT INTO {watch.table} VALUES %s", words)
    extras.execute_batch(cursor, f"INSERT INTO {watch.table} VALUES (%s)", words)
    cursor.executemany(f"INSERT INTO {watch.table} VALUES (%s)", words)
    assert len(watch.words()) == 750
    cursor.callproc("upper", ["x"])
    assert cursor.fetchall() == [("X",)]


def test_a_loss_in_execute_values(connect, watch: Watch, proxy: Proxy) -> None:
    connection = connect(dsn(proxy, watch.cluster.primary))
    proxy.cut_when(b"'199'")
    with pytest.raises(FailoverSuccessError) as caught:
        words = [(str(number),) for number in range(250)]
        extras.execute_values(connection.cursor(), f"INSERT INTO {watch.table} VALUES %s", words, page_size=100)
    assert (caught.value.transaction, caught.value.may_have_run) == ("rolled_back", False)
    connection.rollback()
    assert watch.words() == []
    assert rows(connection, "SELECT 1") == [(1,)]


# --- COPY -------------------------------------------------------------------------------------------------------


class Endless:
    """A file that ends the session while it is read."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.reads = watch, 0

    def read(self, size: int) -> bytes:
        self.reads += 1
        if self.reads == 2:
            self.watch.end_sessions()
        return b"line\n" * 2000 if self.reads < 100 else b""


def test_copy(moved, watch: Watch) -> None:
    cursor = moved().cursor()
    cursor.copy_from(io.StringIO("a\nb\n"), watch.table)
    cursor.copy_expert(f"COPY {watch.table} FROM STDIN", io.StringIO("c\n"))
    out = io.StringIO()
    cursor.copy_to(out, watch.table)
    cursor.copy_expert(f"COPY {watch.table} TO STDOUT", out)
    assert out.getvalue() == "a\nb\nc\n" * 2


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("expert", [True, False])
def test_a_loss_in_copy_from(connect, watch: Watch, autocommit: bool, expert: bool) -> None:
    connection = connect()
    connection.autocommit = autocommit
    cursor = connection.cursor()
    with pytest.raises(FailoverSuccessError) as caught:
        if expert:
            cursor.copy_expert(f"COPY {watch.table} FROM STDIN", Endless(watch))
        else:
            cursor.copy_from(Endless(watch), watch.table)
    expected = ("none", True) if autocommit else ("rolled_back", False)
    assert (caught.value.transaction, caught.value.may_have_run) == expected
    connection.rollback()
    assert watch.words() == []
    assert rows(connection, "SELECT 1") == [(1,)]


def test_a_loss_in_copy_to(connect, watch: Watch, proxy: Proxy) -> None:
    connection = connect(dsn(proxy, watch.cluster.primary))
    connection.autocommit = True
    with pytest.raises(FailoverSuccessError) as caught:
        connection.cursor().copy_expert("COPY (SELECT pg_terminate_backend(pg_backend_pid())) TO STDOUT", io.StringIO())
    assert caught.value.may_have_run is True
    assert rows(connection, "SELECT 1") == [(1,)]


def test_an_error_of_the_file_is_the_apps(connect, watch: Watch) -> None:
    class Broken:
        def read(self, size: int) -> bytes:
            raise ZeroDivisionError

    connection = connect()
    with pytest.raises(psycopg2.Error):
        connection.cursor().copy_from(Broken(), watch.table)
    connection.rollback()
    assert rows(connection, "SELECT 1") == [(1,)]


# --- named cursors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fetchone", "fetchmany", "fetchall", "iteration"])
def test_a_loss_while_fetching(connect, watch: Watch, how: str) -> None:
    connection = connect()
    cursor = connection.cursor("server_side")
    cursor.itersize = 10
    cursor.execute("SELECT generate_series(1, 100)")
    assert cursor.fetchone() == (1,)
    watch.end_sessions()
    with pytest.raises(FailoverSuccessError) as caught:
        list(cursor) if how == "iteration" else getattr(cursor, how)()
    assert (caught.value.transaction, caught.value.may_have_run) == ("rolled_back", False)
    with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
        cursor.fetchone()
    cursor.close()
    connection.rollback()
    with connection.cursor("server_side") as again:
        again.execute("SELECT generate_series(1, 3)")
        assert list(again) == [(1,), (2,), (3,)]


def test_a_loss_while_a_named_cursor_is_closed(connect, watch: Watch, proxy: Proxy) -> None:
    connection = connect(dsn(proxy, watch.cluster.primary))
    rows(connection, watch.insert("lost"))
    proxy.cut_when(b"CLOSE", forward=True)
    with pytest.raises(FailoverSuccessError) as caught, connection.cursor("server_side") as cursor:
        cursor.execute("SELECT generate_series(1, 3)")
        assert cursor.fetchall() == [(1,), (2,), (3,)]
    assert caught.value.transaction == "rolled_back"
    cursor.close()
    connection.rollback()
    assert watch.words() == []


def test_a_loss_in_the_block_of_a_named_cursor(connect, watch: Watch) -> None:
    connection = connect()
    with pytest.raises(FailoverSuccessError), connection, connection.cursor("server_side") as cursor:
        cursor.execute("SELECT generate_series(1, 100)")
        cursor.fetchone()
        watch.end_sessions()
        cursor.fetchall()
    with connection, connection.cursor("server_side", scrollable=True) as cursor:
        cursor.execute("SELECT generate_series(1, 3)")
        cursor.scroll(2)
        assert cursor.fetchall() == [(3,)]


def test_a_held_cursor_is_not_carried(connect, watch: Watch) -> None:
    connection = connect()
    cursor = connection.cursor("held", withhold=True)
    cursor.execute("SELECT generate_series(1, 100)")
    connection.commit()
    assert cursor.fetchone() == (1,)
    connection.commit()
    watch.end_sessions()
    with pytest.raises(FailoverSuccessError) as caught:
        cursor.fetchone()
    assert caught.value.not_restored == ("held cursors",)
    assert rows(connection, "SELECT 1") == [(1,)]


def test_a_held_cursor_that_was_closed_is_none(connect, watch: Watch) -> None:
    connection = connect()
    connection.autocommit = True
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("SELECT generate_series(1, 100)")
        assert cursor.fetchone() == (1,)
    rows(connection, "SELECT 1")
    lose(connection, watch)


@pytest.mark.parametrize("finds", ["fetch", "statement"])
def test_a_held_cursor_of_an_old_session_closes_silently(connect, watch: Watch, finds: str) -> None:
    """Also where the new session has a cursor of the same name, which is not touched."""
    connection = connect()
    connection.autocommit = True
    cursor = connection.cursor("numbers", withhold=True)
    cursor.execute("SELECT generate_series(1, 100)")
    watch.end_sessions()
    with pytest.raises(FailoverSuccessError) as caught:
        cursor.fetchone() if finds == "fetch" else rows(connection, "SELECT 1")
    assert caught.value.not_restored == ("held cursors",)
    later = connection.cursor("numbers", withhold=True)
    later.execute("SELECT generate_series(7, 9)")
    with pytest.raises(FailoverSuccessError):  # not a row of the other cursor
        cursor.fetchone()
    with pytest.raises(FailoverSuccessError):
        cursor.scroll(1)
    cursor.close()
    assert later.fetchall() == [(7,), (8,), (9,)]
    later.close()
    assert rows(connection, "SELECT count(*) FROM pg_cursors WHERE name = 'numbers'") == [(0,)]


def test_a_held_cursor_is_closed_on_a_session_that_has_ended(connect, watch: Watch) -> None:
    """All its rows were read: nothing is lost, and nothing is raised."""
    connection = connect()
    connection.autocommit = True
    cursor = connection.cursor("numbers", withhold=True)
    cursor.execute("SELECT generate_series(1, 3)")
    assert len(cursor.fetchall()) == 3
    watch.end_sessions()
    cursor.close()
    assert rows(connection, "SELECT 1") == [(1,)]


def test_a_loss_in_the_block_of_a_held_cursor_is_what_the_app_sees(connect, watch: Watch) -> None:
    connection = connect()
    connection.autocommit = True
    with pytest.raises(FailoverSuccessError), connection.cursor("numbers", withhold=True) as cursor:
        cursor.execute("SELECT generate_series(1, 100)")
        watch.end_sessions()
        cursor.fetchmany(10)
    assert rows(connection, "SELECT 1") == [(1,)]


# --- transactions -----------------------------------------------------------------------------------------------


def test_blocks_commit_and_roll_back_over_a_switch(connect, watch: Watch) -> None:
    connection = connect()
    connection.autocommit = True
    for number in range(2):
        with connection, connection.cursor() as cursor:
            cursor.execute(watch.insert(f"in {number}"))
            assert connection.info.transaction_status == extensions.TRANSACTION_STATUS_INTRANS
            with pytest.raises(psycopg2.ProgrammingError):  # as ever: it cannot be entered twice
                connection.__enter__()
        with pytest.raises(ZeroDivisionError), connection:
            rows(connection, watch.insert("undone"))
            raise ZeroDivisionError
        lose(connection, watch)
    assert watch.words() == ["in 0", "in 1"]


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_block_goes_on_after_rollback(connect, watch: Watch, autocommit: bool) -> None:
    connection = connect()
    connection.autocommit = autocommit
    with connection:
        rows(connection, watch.insert("lost"))
        with pytest.raises(FailoverSuccessError):
            rows(connection, SUICIDE)
        connection.rollback()
        rows(connection, watch.insert("kept"))
        assert watch.words() == []  # it is a block still
    assert watch.words() == ["kept"]


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_loss_that_is_swallowed_in_a_block(connect, watch: Watch, autocommit: bool) -> None:
    connection = connect()
    connection.autocommit = autocommit
    with pytest.raises(FailoverSuccessError) as caught, connection:
        rows(connection, watch.insert("lost"))
        with pytest.raises(FailoverSuccessError):
            rows(connection, SUICIDE)
        with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
            rows(connection, watch.insert("refused"))
    assert caught.value.transaction == "rolled_back"
    with connection:
        rows(connection, watch.insert("new"))
    assert watch.words() == ["new"]


def test_a_transaction_that_was_ended_by_text(connect, watch: Watch, proxy: Proxy) -> None:
    """psycopg2 takes it to be open still, and begins no other: what follows is in autocommit, whatever it says."""
    connection = connect(dsn(proxy, watch.cluster.primary))
    rows(connection, watch.insert("committed"))
    rows(connection, "COMMIT")
    proxy.cut_when(b"by itself", forward=True)
    with pytest.raises(FailoverSuccessError) as caught:
        rows(connection, watch.insert("by itself"))
    assert (caught.value.transaction, caught.value.may_have_run) == ("none", True)
    rows(connection, watch.insert("after"))
    assert watch.words() == ["committed", "by itself", "after"]
    connection.commit()
    rows(connection, watch.insert("rolled back"))
    connection.rollback()
    assert len(watch.words()) == 3


@pytest.mark.parametrize("end", ["tpc_commit", "tpc_rollback"])
def test_what_is_prepared_outlives_the_session(connect, watch: Watch, end: str) -> None:
    connection = connect()
    connection.tpc_begin(connection.xid(1, watch.table, "branch"))
    rows(connection, watch.insert("prepared"))
    connection.tpc_prepare()
    watch.end_sessions()
    if end == "tpc_commit":  # nothing was sent, and the app is told so
        with pytest.raises(FailoverSuccessError) as caught:
            connection.tpc_commit()
        assert (caught.value.transaction, caught.value.may_have_run) == ("none", False)
    getattr(connection, end)()
    assert watch.words() == (["prepared"] if end == "tpc_commit" else [])
    assert watch.sql("SELECT gid FROM pg_prepared_xacts") == []
    rows(connection, watch.insert("next"))
    connection.rollback()


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("by_name", [True, False])
def test_a_loss_in_the_rollback_of_what_is_prepared(
    connect, watch: Watch, proxy: Proxy, arrives: bool, by_name: bool
) -> None:
    connection = connect(dsn(proxy, watch.cluster.primary))
    connection.tpc_begin(watch.table)
    rows(connection, watch.insert("prepared"))
    connection.tpc_prepare()
    if by_name:
        connection.reset()
    proxy.cut_when(b"ROLLBACK PREPARED", forward=arrives)
    with pytest.raises(TransactionResolutionUnknownError):
        connection.tpc_rollback(watch.table) if by_name else connection.tpc_rollback()
    assert [xid.gtrid for xid in connection.tpc_recover()] == ([] if arrives else [watch.table])
    connection.rollback()
    if not arrives:
        connection.tpc_rollback(watch.table)
    assert watch.sql("SELECT gid FROM pg_prepared_xacts") == []


def test_a_loss_in_tpc_prepare_and_what_is_recovered(connect, watch: Watch, proxy: Proxy) -> None:
    connection = connect(dsn(proxy, watch.cluster.primary))
    proxy.cut_when(b"PREPARE TRANSACTION", forward=True)
    connection.tpc_begin(connection.xid(1, watch.table, "branch"))
    rows(connection, watch.insert("prepared"))
    with pytest.raises(TransactionResolutionUnknownError):
        connection.tpc_prepare()
    connection.rollback()
    (xid,) = connection.tpc_recover()
    connection.rollback()
    connection.tpc_commit(xid)
    assert watch.words() == ["prepared"]


# --- large objects, notifications, notices -----------------------------------------------------------------------


def test_a_large_object(moved, watch: Watch) -> None:
    connection = moved()
    connection.autocommit = False
    big = connection.lobject(0, "wb")
    big.write(b"content")
    number = big.oid
    connection.commit()
    assert connection.lobject(number, "rb").read() == b"content"
    watch.end_sessions()
    with pytest.raises(FailoverSuccessError) as caught:
        connection.lobject(number, "rb")
    assert caught.value.transaction == "rolled_back"
    connection.rollback()
    big = connection.lobject(number, "rb")
    assert big.read() == b"content"
    big.unlink()
    connection.commit()


def test_a_loss_while_a_large_object_is_used_is_not_forgotten(connect, watch: Watch) -> None:
    connection = connect()
    rows(connection, watch.insert("lost"))
    big = connection.lobject(0, "wb")
    watch.end_sessions()
    with pytest.raises(psycopg2.OperationalError):  # psycopg2's own
        big.write(b"x" * 100_000)
    with pytest.raises(FailoverSuccessError) as caught:
        rows(connection, watch.insert("not alone"))
    assert caught.value.transaction == "rolled_back"
    connection.rollback()
    assert watch.words() == []


def test_notifications_and_notices(connect, watch: Watch) -> None:
    connection = connect()
    connection.autocommit = True
    notifies, notices = connection.notifies, connection.notices
    rows(connection, "DO $$ BEGIN RAISE NOTICE 'first'; END $$")
    lose(connection, watch)
    assert connection.notifies is notifies
    assert connection.notices is notices
    rows(connection, "DO $$ BEGIN RAISE NOTICE 'second'; END $$")
    rows(connection, "LISTEN news")
    watch.sql("NOTIFY news, 'hello'")
    assert eventually(lambda: connection.poll() == extensions.POLL_OK and connection.notifies)
    assert [text.strip() for text in notices] == ["NOTICE:  first", "NOTICE:  second"]
    assert [notify.payload for notify in connection.notifies] == ["hello"]
    watch.end_sessions()
    with pytest.raises(FailoverSuccessError) as caught:
        rows(connection, "SELECT 1")
    assert caught.value.not_restored == ("LISTEN",)


def test_a_notification_that_comes_while_nobody_asks_is_no_loss(connect, watch: Watch) -> None:
    connection = connect()
    connection.autocommit = True
    rows(connection, "LISTEN news")
    before = connection.info.backend_pid
    for number in range(20):
        watch.sql(f"NOTIFY news, '{number}'")
        rows(connection, "SELECT 1")
    assert eventually(lambda: connection.poll() == extensions.POLL_OK and len(connection.notifies) == 20)
    assert [notify.payload for notify in connection.notifies] == [str(number) for number in range(20)]
    assert connection.info.backend_pid == before


# --- other switches ------------------------------------------------------------------------------------------------


def test_a_planned_switch_of_a_plain_connection(connect, watch: Watch) -> None:
    connection = connect(dsn(watch.cluster.primary))
    connection.autocommit = True
    named, plain = connection.cursor("held", withhold=True), connection.cursor()
    rows(connection, "SET statement_timeout = '7s'")
    before = connection.info.backend_pid
    switch(connection)
    assert connection.info.backend_pid != before
    assert eventually(lambda: len(watch.sessions()) == 1)
    plain.execute("SHOW statement_timeout")
    assert plain.fetchall() == [("7s",)]
    named.execute("SELECT 1")
    assert named.fetchall() == [(1,)]
    named.close()


def test_a_server_that_says_goodbye_is_believed_before_it_hangs_up(connect, watch: Watch, proxy: Proxy) -> None:
    connection = connect(dsn(proxy, watch.cluster.primary))
    connection.autocommit = True
    rows(connection, "SET statement_timeout = '7s'")
    before = connection.info.backend_pid
    fields = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
    (link,) = proxy._links
    link.client.sendall(b"E" + (len(fields) + 4).to_bytes(4) + fields)
    assert rows(connection, "SHOW statement_timeout") == [("7s",)]
    assert connection.info.backend_pid != before
    assert connection.notices == []


@pytest.mark.parametrize("named", ["service=app", "PGSERVICE"])
@pytest.mark.parametrize("attributes", ["read-write", "any"])
def test_the_hosts_of_a_service(connect, watch: Watch, tmp_path, monkeypatch, named: str, attributes: str) -> None:
    lines = {**extensions.parse_dsn(watch.dsn()), "target_session_attrs": attributes}
    (tmp_path / "services").write_text("[app]\n" + "".join(f"{name}={value}\n" for name, value in lines.items()))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    if named == "PGSERVICE":
        monkeypatch.setenv("PGSERVICE", "app")
    connection = connect("service=app" if named == "service=app" else "connect_timeout=9")
    connection.autocommit = True
    lose(connection, watch)
    assert rows(connection, "SHOW transaction_read_only") == [("off",)]


class Elsewhere(extensions.connection):
    """A class of the app's that connects in its own way."""

    def __init__(self, dsn: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(extensions.make_dsn(dsn, application_name="elsewhere"), *args, **kwargs)


def test_a_class_that_changes_the_connection_string(connect, watch: Watch) -> None:
    connection = connect(connection_factory=Elsewhere)
    connection.autocommit = True
    for _ in range(2):
        assert rows(connection, "SHOW application_name") == [("elsewhere",)]
        lose(connection, watch)


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("call", ["commit", "rollback"])
def test_what_sends_nothing_starts_no_switch(connect, watch: Watch, autocommit: bool, call: str, spans) -> None:
    connection = connect()
    connection.autocommit = autocommit
    rows(connection, "SELECT 1")
    connection.rollback()
    spans.clear()
    watch.end_sessions()
    getattr(connection, call)()
    assert watch.sessions() == []
    assert spans.all() == []
    assert rows(connection, "SELECT 2") == [(2,)]


def test_the_transfer_handler_gets_a_connection_like_the_apps(connect, watch: Watch) -> None:
    connection = connect(cursor_factory=extras.RealDictCursor)
    connection.autocommit = True
    seen: list[Any] = []

    def handler(state: Any, new: Any) -> bool:
        with new.cursor() as cursor:
            cursor.execute("SELECT 1 AS one")
            seen.extend([type(new) == extensions.connection, cursor.fetchone()])  # noqa: E721 - as an app compares
        return False

    SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(handler)
    lose(connection, watch)
    assert seen == [True, {"one": 1}]
