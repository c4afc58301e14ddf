"""A driver whose private parts are not what they were: it is left alone, with one warning."""

from textwrap import dedent

import pytest

from ..script import complete
from .sides import Side

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


def test_it_is_left_alone(side: Side) -> None:
    if side.kind not in LOSES:
        pytest.skip("the same code as another one's, or all that it uses is public")
    said = complete(APP, side.kind, dedent(LOSES[side.kind]))
    assert said.count("it is left alone") == 1
    assert len(said.splitlines()) == 1
