"""`detection_timeout` while psycopg2 sends without an answer: a busy server may leave it unread."""

import io

import pytest

from ..socket_options import user_timeout


class Rows(io.StringIO):
    """Lines of which each tells what the kernel was told when it was read."""

    def __init__(self, connection) -> None:
        super().__init__("one\ntwo\n")
        self.connection, self.seen = connection, []

    def read(self, size=-1):
        self.seen.append(user_timeout(self.connection.fileno()))
        return super().read(size)


@pytest.mark.parametrize("how", ["copy_from", "copy_expert"])
def test_copy(connect, watch, how: str) -> None:
    connection = connect()
    assert user_timeout(connection.fileno()) == 5000
    rows = Rows(connection)
    with connection, connection.cursor() as cursor:
        if how == "copy_from":
            cursor.copy_from(rows, watch.table)
        else:
            cursor.copy_expert(f"COPY {watch.table} FROM STDIN", rows)
    assert set(rows.seen) == {0}
    assert user_timeout(connection.fileno()) == 5000
    assert watch.words() == ["one", "two"]


def test_what_the_app_has_set_stays(connect, watch) -> None:
    assert user_timeout(connect(watch.dsn(tcp_user_timeout=7000)).fileno()) == 7000
    assert user_timeout(connect(watch.dsn(keepalives=0)).fileno()) == 0
