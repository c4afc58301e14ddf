"""Other instrumentations of the same driver, which are stepped back from while they are active."""

import pytest

from instrumented_wrapper.telemetry.rivals import has_rival

OPENTELEMETRYS = {
    "psycopg": ("psycopg", "PsycopgInstrumentor"),
    "psycopg2": ("psycopg2", "Psycopg2Instrumentor"),
    "pymysql": ("pymysql", "PyMySQLInstrumentor"),
    "mysql.connector": ("mysql", "MySQLInstrumentor"),
    "MySQLdb": ("mysqlclient", "MySQLClientInstrumentor"),
    "sqlite3": ("sqlite3", "SQLite3Instrumentor"),
}


@pytest.mark.parametrize("driver", OPENTELEMETRYS)
def test_opentelemetrys_own(driver: str) -> None:
    module, name = OPENTELEMETRYS[driver]
    pytest.importorskip(driver)
    instrumentor = getattr(pytest.importorskip(f"opentelemetry.instrumentation.{module}"), name)()
    assert not has_rival(driver)
    instrumentor.instrument(skip_dep_check=True)
    try:
        assert has_rival(driver)
    finally:
        instrumentor.uninstrument()
    assert not has_rival(driver)


def test_the_tracer_that_mysql_connector_has() -> None:
    pytest.importorskip("mysql.connector")
    from mysql.connector.opentelemetry.instrumentation import MySQLInstrumentor

    assert not has_rival("mysql.connector")
    MySQLInstrumentor().instrument()
    try:
        assert has_rival("mysql.connector")
        assert not has_rival("pymysql")
    finally:
        MySQLInstrumentor().uninstrument()
    assert not has_rival("mysql.connector")
