"""sqlite3. Its classes are C: connections and cursors are made by subclasses of them, through ``factory=``.

`adapter` describes the driver to the engine, `install` patches ``connect``. There is no server, and so no failover.
"""
