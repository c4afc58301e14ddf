"""Drivers whose calls wait for the server themselves: psycopg2, sqlite3 and those for MySQL.

What they have in common is here: a step around each call of the app (`calls`), what a loss means for it (`losses`),
and `Driver` for the lifecycle (`adapter`). What a driver has of its own is in its own file next to this room, as a
`native.Native`; how one talks with a database about settings is in ``talking``.
"""
