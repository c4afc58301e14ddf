"""asyncpg: its classes are patched in place, and a switch exchanges the protocol and what belongs to it.

`adapter` says what the driver is like, `channel` talks with the server about settings, `install` patches what the app
calls, `prepared` its prepared statements and cursors, `endings` how a connection ends.
"""
