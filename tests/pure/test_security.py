"""Which statements may run while security state is missing, by their text alone."""

import pytest

from instrumented_wrapper.databases import mysql, postgresql
from instrumented_wrapper.security import admits

ROOMS = {"postgresql": postgresql, "mysql": mysql}
OF_POSTGRESQL = {
    # sets all that is missing, before anything else uses the session
    "SET app.tenant = 'a'": True,
    "SET SESSION app.tenant TO a; SET ROLE b": True,
    "RESET app.tenant": True,
    "RESET ROLE; RESET ALL": True,
    "DISCARD ALL": True,
    "SELECT set_config('app.tenant', 'a', false)": True,
    "SELECT set_config('app.tenant', id, false) FROM tenants": True,
    "SET app.tenant = 'a'; SET ROLE b; DELETE FROM orders": True,
    # can use no data
    "BEGIN": True,
    "START TRANSACTION READ ONLY": True,
    "SAVEPOINT a": True,
    "RELEASE a": True,
    "ROLLBACK": True,
    "SET work_mem = '8MB'": True,
    "SET LOCAL statement_timeout = 0": True,
    # uses the session before all is set
    "SELECT 1": False,
    "": False,
    "COMMIT": False,
    "PREPARE TRANSACTION 'a'": False,
    "SET app.tenant = 'a'; DELETE FROM orders": False,
    "DELETE FROM orders; SET app.tenant = 'a'; SET ROLE b": False,
    "SET work_mem = '8MB'; DELETE FROM orders": False,
    "SET app.tenant = 'a'; SET ROLE b; ROLLBACK; DELETE FROM orders": False,
    "RESET ALL; DELETE FROM orders": False,
    "INSERT INTO orders SELECT set_config('app.tenant', 'a', false)": False,
    "SELECT set_config('app.other', 'a', false) FROM orders": False,
    "COPY orders FROM STDIN": False,
    "PREPARE p AS DELETE FROM orders": False,
    "CALL sets_tenant()": False,
    "DO $$ BEGIN DELETE FROM orders; END $$": False,
    "DO $$ BEGIN SET app.tenant = 'a'; END $$": True,
    "SELECT remembers(7)": True,  # it was called when the session was lost
    "SELECT forgets(7)": False,
    "WITH gone AS (DELETE FROM orders RETURNING 1) SELECT set_config('app.tenant', 'a', false)": False,
}
OF_MYSQL = {
    "SET @tenant = 'a'": True,
    "SET @Tenant := 'a', @other = 1": True,
    "SELECT @tenant := 'a'": True,
    "SELECT id INTO @tenant FROM tenants": True,
    "SET ROLE a": True,
    "USE shop": True,
    "SET autocommit = 1": True,
    "START TRANSACTION": True,
    "ROLLBACK": True,
    "SET @tenant = 'a'; SET ROLE b; DELETE FROM orders": True,
    "SELECT 1": False,
    "COMMIT": False,
    "SET @tenant = 'a'; DELETE FROM orders": False,
    "SET @other = (SELECT count(*) FROM orders)": False,
    "SET STATEMENT max_statement_time = 1 FOR DELETE FROM orders": False,
    "CALL anything()": False,
    "CALL gives(@tenant)": True,
    "LOAD DATA INFILE 'x' INTO TABLE orders (i, @tenant)": False,
    "BEGIN NOT ATOMIC DELETE FROM orders; END": False,
    "CREATE TABLE a (i int)": False,
    "LOCK TABLES orders WRITE": False,
}


def admitted(database: str, text: str, missing: tuple[str, ...]) -> bool:
    room = ROOMS[database]
    survives = {"remembers"}
    return admits(room.scan(text), missing, lambda name: name in survives or room.survives_reset_all(name))


@pytest.mark.parametrize("text", OF_POSTGRESQL)
def test_postgresql(text: str) -> None:
    assert (
        admitted("postgresql", text, ("app.tenant", "role", "remembers")[: 3 if "(7)" in text else 2])
        is (OF_POSTGRESQL[text])
    )


@pytest.mark.parametrize("text", OF_MYSQL)
def test_mysql(text: str) -> None:
    assert admitted("mysql", text, ("@tenant", "role")) is OF_MYSQL[text]


@pytest.mark.parametrize("name", ["role", "session_authorization", "search_path", "app.tenant", "custom settings"])
def test_security_state_of_postgresql(name: str) -> None:
    assert postgresql.is_security_state(name)
    assert not postgresql.is_security_state("work_mem")
    assert not postgresql.is_security_state("temporary tables")


@pytest.mark.parametrize("name", ["role", "database", "@tenant", "session state"])
def test_security_state_of_mysql(name: str) -> None:
    assert mysql.is_security_state(name)
    assert not mysql.is_security_state("time_zone")
    assert not mysql.is_security_state("temporary tables")
