"""asyncpg: its classes are patched in place; a switch exchanges the protocol and everything that belongs to it.

`adapter` describes the driver to the engine, `channel` queries settings, `install` patches the calls of the app,
`prepared` its prepared statements and cursors, `endings` the ways in which a connection ends.
"""
