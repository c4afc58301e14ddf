"""instrument() late, uninstrument(), and instrument() again. In processes of their own."""

from __future__ import annotations

from ..script import complete
from ..watch import Watch


def test_what_was_moved_goes_on_and_is_left_alone(watch: Watch) -> None:
    said = complete(
        """
        import sys
        import instrumented_wrapper, psycopg2
        def end():
            other = psycopg2.connect(sys.argv[1])
            other.cursor().execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid])
            other.close()
        def rows(cursor, text):
            cursor.execute(text)
            return cursor.fetchall()
        instrumented_wrapper.instrument()
        connection = psycopg2.connect(sys.argv[1])
        connection.autocommit = True
        cursor, other = connection.cursor(), connection.cursor()
        end()
        print(rows(cursor, "SELECT 1"))
        instrumented_wrapper.uninstrument()
        print(rows(cursor, "SELECT 2"), rows(other, "SELECT 3"), rows(connection.cursor(), "SELECT 4"))
        instrumented_wrapper.instrument()
        print(rows(cursor, "SELECT 5"), rows(connection.cursor(), "SELECT 6"))
        print(dict(instrumented_wrapper.session_state(connection)), cursor.connection is connection)
        end()
        try:
            rows(cursor, "SELECT 7")
        except psycopg2.OperationalError:
            print("lost", connection.closed)
        """,
        watch.dsn(),
    )
    assert said.splitlines() == [
        "[(1,)]",
        "[(2,)] [(3,)] [(4,)]",
        "[(5,)] [(6,)]",
        "{} True",
        "lost 2",
    ]


def test_a_connect_that_was_imported_before_it_was_patched(watch: Watch) -> None:
    said = complete(
        """
        import sys
        from psycopg2 import connect
        import instrumented_wrapper, psycopg2
        from instrumented_wrapper import session_state
        kept = psycopg2._ext
        instrumented_wrapper.instrument()
        def closed(**keywords):
            connection = connect(sys.argv[1], **keywords)
            connection.autocommit = True
            connection.cursor().execute("SET statement_timeout = '7s'")
            instrumented_wrapper.reset_session(connection)
            text = str(session_state(connection)["statement_timeout"])
            connection.cursor().execute("SELECT pg_terminate_backend(pg_backend_pid())")
            return text
        for keywords in ({"instrumented_wrapper": {"failover": "off"}}, {"reset_session_state_on_close": False}, {}):
            try:
                closed(**keywords)
            except psycopg2.OperationalError as error:
                print(isinstance(error, instrumented_wrapper.FailoverSuccessError))
        try:
            connect(sys.argv[1], nonsense=1)
        except psycopg2.ProgrammingError as error:
            print(error)
        instrumented_wrapper.uninstrument()
        print(psycopg2._ext is kept)
        """,
        watch.dsn(),
    )
    assert said.splitlines() == [
        "False",
        "True",
        "True",
        'invalid dsn: invalid connection option "nonsense"',
        "",
        "True",
    ]
