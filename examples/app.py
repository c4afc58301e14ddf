"""Writes numbered orders into PostgreSQL, each in a transaction, and says what it did in a line of JSON.

A plain psycopg app, as it may be anywhere: it has never heard of OpenTelemetry, nor of what is shown with it.

    DATABASE_URL="host=one,two dbname=..." python app.py 10
"""

import json
import os
import sys
import time

import psycopg

# The number is the key: an order that is tried again after all is never there twice.
INSERT = "INSERT INTO orders (number) VALUES (%s) ON CONFLICT DO NOTHING"
SERVER = """
    SELECT inet_server_port(), pg_backend_pid(), current_setting('transaction_isolation'),
           current_setting('lock_timeout'), current_setting('app.tenant', true)
"""


def say(connection: psycopg.Connection, **what: object) -> None:
    """Print a line of JSON, with the connection."""
    print(json.dumps({**what, "connection": id(connection)}), flush=True)


def attributes(connection: psycopg.Connection) -> dict[str, object]:
    """Return the settings that psycopg keeps."""
    level = connection.isolation_level
    settings = {"autocommit": connection.autocommit, "isolation_level": level.name if level else None}
    return {**settings, "read_only": connection.read_only, "deferrable": connection.deferrable}


def write(connection: psycopg.Connection, number: int) -> None:
    """Write one order."""
    with connection.transaction():
        connection.execute(INSERT, [number])
        time.sleep(0.15)  # what an app does meanwhile: ask the stock, the bank, ...
        port, pid, isolation, timeout, tenant = connection.execute(SERVER).fetchone() or ()
    settings = {**attributes(connection), "lock_timeout": timeout, "app.tenant": tenant}
    say(connection, order=number, port=port, pid=pid, isolation=isolation, settings=settings)


def take(connection: psycopg.Connection, number: int) -> None:
    """Take one order; if the server fails meanwhile, write it again."""
    written = False
    while not written:
        try:
            write(connection, number)
            written = True
        except psycopg.OperationalError as error:
            say(connection, order=number, error=type(error).__name__, text=str(error))
            connection.rollback()


def main(orders: int) -> None:
    """Take all orders."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.autocommit = True
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.read_only = False
        connection.deferrable = False
        connection.execute("SET lock_timeout = '2s'")
        connection.execute("SET app.tenant = 'acme'")
        for number in range(1, orders + 1):
            take(connection, number)


if __name__ == "__main__":
    main(int(sys.argv[1]))
