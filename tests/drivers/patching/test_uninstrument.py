"""uninstrument() among things that are not its own: half-made cursors, the patches of other tools.

All of it in processes of their own.
"""

from __future__ import annotations

from ..script import complete
from ..watch import Watch


def test_a_cursor_that_was_never_finished(watch: Watch) -> None:
    """A subclass whose __init__ raised, kept by a traceback: everything is put back, and can be patched again."""
    said = complete(
        """
        import sys
        import instrumented_wrapper, psycopg
        original = psycopg.Connection.__dict__["wait"]
        class Raises(psycopg.Cursor):
            def __init__(self, connection):
                kept.append(self)
                raise ValueError
        kept = []
        instrumented_wrapper.instrument()
        try:
            Raises(None)
        except ValueError:
            pass
        instrumented_wrapper.uninstrument()
        assert psycopg.Connection.__dict__["wait"] is original
        instrumented_wrapper.instrument()
        with psycopg.connect(sys.argv[1]) as connection:
            connection.read_only = True
            print(*instrumented_wrapper.session_state(connection))
        """,
        watch.dsn(),
    )
    assert said == "read_only"


def test_what_another_tool_wrapped_afterwards_stays(watch: Watch) -> None:
    said = complete(
        """
        import sys
        import psycopg, wrapt
        import instrumented_wrapper
        def count(wrapped, instance, args, keywords):
            calls.append(wrapped)
            return wrapped(*args, **keywords)
        def use():
            with psycopg.Connection.connect(sys.argv[1]) as connection:
                connection.read_only = True
                return list(instrumented_wrapper.session_state(connection))
        calls = []
        instrumented_wrapper.instrument()
        wrapt.wrap_function_wrapper(psycopg.Connection, "connect", count)
        watched = use()
        instrumented_wrapper.uninstrument()
        print(watched, use(), len(calls))
        """,
        watch.dsn(),
    )
    assert said == "['read_only'] [] 2"
