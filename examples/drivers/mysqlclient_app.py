"""mysqlclient: the session is looked after, moved as in a failover, and put back.

Run it against MariaDB or MySQL:
``python examples/drivers/mysqlclient_app.py 127.0.0.1 3306 user password database``
"""

import sys

import MySQLdb

import instrumented_wrapper

instrumented_wrapper.instrument()  # or start the program with opentelemetry-instrument, and leave this out

host, port, user, password, database = sys.argv[1:]
connection = MySQLdb.connect(host=host, port=int(port), user=user, password=password, database=database)
cursor = connection.cursor()

connection.autocommit(True)
cursor.execute("SET time_zone = '+02:00', @tenant = 'acme'")
print("changed:", instrumented_wrapper.session_state(connection))

instrumented_wrapper.switch(connection)  # another server session beneath the same object, as after a failover
cursor.execute("SELECT @@time_zone, @tenant, CONNECTION_ID()")
print("carried over:", cursor.fetchone())
connection.rollback()

instrumented_wrapper.reset_session(connection)  # what a close and a return to a pool do by themselves
cursor.execute("SELECT @@time_zone, @tenant")
print("back to pristine:", cursor.fetchone())
connection.close()
