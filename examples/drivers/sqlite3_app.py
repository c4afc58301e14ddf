"""sqlite3: the settings of a connection are looked after, and put back.

Run it: ``python examples/drivers/sqlite3_app.py shop.db``. There is no server that could fail over.
"""

import sqlite3
import sys

import instrumented_wrapper

instrumented_wrapper.instrument()  # or start the program with opentelemetry-instrument, and leave this out

connection = sqlite3.connect(sys.argv[1])
connection.isolation_level = "IMMEDIATE"
connection.execute("PRAGMA query_only = ON")
print("changed:", instrumented_wrapper.session_state(connection))

instrumented_wrapper.reset_session(connection)  # what a close does by itself
(query_only,) = connection.execute("PRAGMA query_only").fetchone()
print("back to pristine:", repr(connection.isolation_level), bool(query_only))
connection.close()
