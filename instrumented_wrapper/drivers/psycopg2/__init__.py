"""psycopg2. Its classes are C: connections and cursors are made by subclasses of them, through its factory arguments.

`classes` has the subclasses, `connecting` makes connections with them, `native` says what the driver is like,
`libpq_channel` is how one talks with the server, `libpq` sends what must not open a transaction, `install` is the list
of what is patched.
"""
