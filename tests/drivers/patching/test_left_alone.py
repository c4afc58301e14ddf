"""A driver whose private parts are not what they were: it is left alone, with one warning."""

from textwrap import dedent

import pytest

from ..script import complete

LOSES = {
    "pymysql": "del driver.connections.Connection._read_query_result",
    "MySQLdb": "import MySQLdb.cursors; del MySQLdb.cursors.BaseCursor.callproc",
    "mysql.connector": """
        from mysql.connector.abstracts import MySQLConnectionAbstract
        del MySQLConnectionAbstract._open_connection, driver.connection.MySQLConnection._open_connection""",
}
APP = """
    import logging, sys
    from importlib import import_module
    import instrumented_wrapper
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    name, loses = sys.argv[1:]
    driver = import_module(name)
    exec(loses)
    kinds = [kind for kind in vars(driver).values() if isinstance(kind, type)]
    parts = lambda: [(kind, name, part) for kind in kinds for name, part in vars(kind).items()]
    before = parts()
    instrumented_wrapper.instrument(drivers=name)
    assert parts() == before
"""


@pytest.mark.parametrize("driver", LOSES)
def test_it_is_left_alone(driver: str) -> None:
    pytest.importorskip(driver)
    said = complete(APP, driver, dedent(LOSES[driver]))
    assert said.count("it is left alone") == 1
    assert len(said.splitlines()) == 1
