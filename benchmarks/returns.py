"""A clean return to SQLAlchemy's pool, and the clean end of a request of Django's with a persistent connection.

The connection has run a plain statement, outside a transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import repeat
from typing import Any, Final

from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine

__all__ = ["CASES", "DRIVERS"]

DRIVERS: Final = ("psycopg", "psycopg2")
_OF_DJANGO: Final = {"HOST": "host", "PORT": "port", "NAME": "dbname", "USER": "user", "PASSWORD": "password"}


def _case(driver: str) -> Callable[[str], Any]:
    @contextmanager
    def case(dsn: str) -> Iterator[Callable[[int], float]]:
        def connect() -> Any:
            connection = import_module(driver).connect(dsn)
            connection.autocommit = True  # the pool's own rollback sends nothing
            return connection

        engine = create_engine(f"postgresql+{driver}://", creator=connect)

        def run(number: int) -> float:
            spent = 0.0
            for _ in repeat(None, number):
                held = engine.raw_connection()
                held.cursor().execute("SELECT 1")
                started = time.process_time()
                held.close()
                spent += time.process_time() - started
            return spent / number

        yield run
        engine.dispose()

    return case


@contextmanager
def _end_of_request(dsn: str) -> Iterator[Callable[[int], float]]:
    from django.conf import settings  # not installed everywhere

    given = conninfo_to_dict(dsn)
    database = {"ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": 3600}
    database |= {name: str(given[_OF_DJANGO[name]]) for name in _OF_DJANGO}
    if not settings.configured:
        settings.configure(DATABASES={"default": database})
    connection = import_module("django.db").connection

    def run(number: int) -> float:
        spent = 0.0
        for _ in repeat(None, number):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            started = time.process_time()
            connection.close_if_unusable_or_obsolete()
            spent += time.process_time() - started
        return spent / number

    yield run
    connection.close()


CASES: Final[dict[str, Any]] = {
    **{f"{driver} return": _case(driver) for driver in DRIVERS},
    "django end": _end_of_request,
}
