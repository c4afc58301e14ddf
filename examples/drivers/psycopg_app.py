"""psycopg 3: the session is looked after, moved as in a failover, and put back.

Run it against a PostgreSQL server: ``python examples/drivers/psycopg_app.py "host=127.0.0.1 dbname=shop user=shop"``
"""

import sys

import psycopg

import instrumented_wrapper

instrumented_wrapper.instrument()  # or start the program with opentelemetry-instrument, and leave this out

connection = psycopg.connect(sys.argv[1])
cursor = connection.cursor()

connection.autocommit = True
cursor.execute("SET app.tenant = 'acme'")
cursor.execute("SET TimeZone = 'Asia/Tokyo'")
print("changed:", instrumented_wrapper.session_state(connection))

instrumented_wrapper.switch(connection)  # another server session beneath the same object, as after a failover
cursor.execute("SELECT current_setting('app.tenant'), current_setting('TimeZone'), pg_backend_pid()")
print("carried over:", cursor.fetchone())

instrumented_wrapper.reset_session(connection)  # what a close and a return to a pool do by themselves
cursor.execute("SELECT current_setting('app.tenant', true), current_setting('TimeZone')")
print("back to pristine:", cursor.fetchone(), connection.autocommit)
connection.close()
