"""What is special to mysqlclient: a C struct that cannot be exchanged, its low-level calls, its files of options."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from instrumented_wrapper import reset_session
from instrumented_wrapper.drivers.engine.adapted_record import record_of
from instrumented_wrapper.drivers.engine.survival import obstacle

from .conftest import close
from .server_session import ask, end, make_table, other_account, session

MySQLdb = pytest.importorskip("MySQLdb")
cursors = pytest.importorskip("MySQLdb.cursors")
adapter = pytest.importorskip("instrumented_wrapper.drivers.mysqlclient.adapter")


@pytest.fixture
def cluster(pair: Any) -> Any:
    return pair


@pytest.fixture
def connect(cluster: Any) -> Iterator[Callable[..., Any]]:
    """Connect, with failover on."""
    with ExitStack() as stack:

        def connect(kind: Any = MySQLdb.connect, failover: str = "on", **keywords: Any) -> Any:
            where = {"host": cluster.primary.host, "port": cluster.primary.port, "database": "app"}
            given = {**where, "user": "app", "password": "app-secret", "autocommit": True, **keywords}
            connection = kind(**given, instrumented_wrapper={"failover": failover})
            stack.callback(close, connection)
            return connection

        yield connect


def moved(connection: Any, cluster: Any) -> Any:
    """End its session, and have it move."""
    end(cluster.primary, connection.thread_id())
    ask(connection, "SELECT 1")
    return connection


def test_what_the_low_level_calls_tell(connect, cluster) -> None:
    table = make_table(cluster)
    cluster.primary.sql(f"ALTER TABLE {table} ADD n int AUTO_INCREMENT PRIMARY KEY")
    connection = connect()
    for _ in range(2):
        connection.query(f"INSERT INTO {table} (i) VALUES (1), (2)")
        assert (connection.affected_rows(), connection.insert_id() > 0, connection.warning_count()) == (2, True, 0)
        assert connection.info() == "Records: 2  Duplicates: 0  Warnings: 0"
        assert str(connection.thread_id()) == str(session(connection))
        connection.query("SELECT 1 UNION SELECT 2")
        assert connection.store_result().fetch_row(0) == ((1,), (2,))
        connection.query("SELECT 3")
        assert connection.use_result().fetch_row(0) == ((3,),)
        assert (connection.literal("it's"), connection.character_set_name()) == (b"'it\\'s'", "utf8mb4")
        assert MySQLdb._mysql.escape_string("it's") == b"it\\'s"
        assert (connection.open, connection.port, connection.get_host_info()) == (
            1,
            cluster.primary.port,
            "127.0.0.1 via TCP/IP",
        )
        moved(connection, cluster)


def test_connecting_leaves_nothing_to_be_seen(connect) -> None:
    assert connect().affected_rows() == 0


def test_a_class_of_the_apps(connect, cluster) -> None:
    class Named(MySQLdb.connections.Connection):
        def named(self) -> str:
            return f"of {self.get_host_info()}"

    connection = connect(Named, cursorclass=cursors.DictCursor, init_command="SET @i = 3", conv={})
    for _ in range(2):
        cursor = connection.cursor()
        cursor.execute("SELECT CONCAT(@i, '') AS i, %s AS p", ("x",))
        assert cursor.fetchall() == ({"i": "3", "p": "x"},)
        cursor.close()
        assert connection.named() == "of 127.0.0.1 via TCP/IP"
        end(cluster.primary, connection.thread_id())
        connection.ping()


def test_files_of_options(connect, cluster, tmp_path: Path) -> None:
    written = tmp_path / "my.cnf"
    lines = {"host": cluster.primary.host, "port": cluster.primary.port, "user": "app", "password": "app-secret"}
    written.write_text("[client]\n" + "".join(f"{name}={value}\n" for name, value in lines.items()))
    ours = {"instrumented_wrapper": {"failover": "on"}}
    connection = MySQLdb.connect(read_default_file=str(written), database="app", autocommit=True, **ours)
    first = connection.thread_id()
    assert moved(connection, cluster).thread_id() != first
    connection.close()


def test_a_character_set_goes_back_in_the_driver_too(connect, cluster) -> None:
    table = make_table(cluster)
    cluster.primary.sql(f"ALTER TABLE {table} ADD word text CHARACTER SET utf8mb4")
    connection = connect(charset="utf8mb4")
    connection.set_character_set("latin1")
    ask(connection, "SELECT 1")
    moved(connection, cluster)
    assert connection.character_set_name() == "latin1"
    ask(connection, f"INSERT INTO {table} VALUES (1, %s)", "é")
    assert reset_session(connection)
    assert (connection.character_set_name(), connection.encoding) == ("utf8mb4", "utf8")
    ask(connection, f"INSERT INTO {table} VALUES (2, %s)", "é")
    assert cluster.primary.sql(f"SELECT DISTINCT HEX(word) FROM {table}") == [("C3A9",)]


def test_another_user_over_a_switch(connect, cluster) -> None:
    other_account(cluster)
    connection = connect()
    connection.change_user("other", "other-secret", "other")
    who = ask(connection, "SELECT CURRENT_USER(), DATABASE()")
    assert who == [("other@%", "other")]
    assert ask(moved(connection, cluster), "SELECT CURRENT_USER(), DATABASE()") == who


@pytest.mark.parametrize("autocommit", [True, False])
def test_the_metric_of_sessions_leaves_the_struct_alone(
    connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, autocommit: bool
) -> None:
    """A thread that collects metrics reads it while the app's thread may be within the library."""
    connection = connect(autocommit=True)
    connection.autocommit(autocommit)
    ask(connection, "SELECT 1")
    record = record_of(connection)
    monkeypatch.setattr(adapter, "C", None)
    assert obstacle(record) == ("none" if autocommit else "transaction")
