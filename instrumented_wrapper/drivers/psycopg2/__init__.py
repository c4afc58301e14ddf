"""psycopg2. Its classes are C: connections and cursors are made by subclasses of them, through its factory arguments.

`classes` has the subclasses, `connect` makes connections with them, `adapter` describes the driver to the engine,
`libpq_channel` reads and sets settings, `libpq` sends what must not open a transaction, `install` lists the patches.
"""
