"""sqlite3. Its classes are C: connections and cursors are made by subclasses of them, through ``factory=``.

`native` says what the driver is like, `install` patches ``connect``. There is no server, and so no failover.
"""
