"""pg8000: the session is looked after, moved as in a failover, and put back.

Run it against a PostgreSQL server: ``python examples/drivers/pg8000_app.py 127.0.0.1 5432 user password database``
"""

import sys

import pg8000.dbapi

import instrumented_wrapper

instrumented_wrapper.instrument()  # or start the program with opentelemetry-instrument, and leave this out

host, port, user, password, database = sys.argv[1:]
connection = pg8000.dbapi.connect(user, host=host, port=int(port), password=password, database=database)
cursor = connection.cursor()

connection.autocommit = True
cursor.execute("SET app.tenant = 'acme'")
cursor.execute("SET TimeZone = 'Asia/Tokyo'")
print("changed:", instrumented_wrapper.session_state(connection))

instrumented_wrapper.switch(connection)  # another server session beneath the same object, as after a failover
cursor.execute("SELECT current_setting('app.tenant'), current_setting('TimeZone'), pg_backend_pid()")
print("carried over:", cursor.fetchone())

instrumented_wrapper.reset_session(connection)  # what a close does by itself
cursor.execute("SELECT current_setting('app.tenant', true), current_setting('TimeZone')")
print("back to pristine:", cursor.fetchone(), connection.autocommit)
connection.close()
