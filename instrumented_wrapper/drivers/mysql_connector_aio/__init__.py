"""mysql.connector.aio: its sessions are tracked and reset, its statements have spans. Failover is not offered.

After a task was cancelled in a statement, this driver gives each later statement the answer to the one before. The
wrapper sends nothing on such a connection any more (see `TrackedConnection.lose_step`). A cancellation while the
wrapper itself waits for an answer ends the connection: the app's next statement would get that answer.

`adapter` describes the driver to the engine, `install` patches it.
"""
