"""PyMySQL: its classes are patched in place; a switch exchanges the socket and everything that belongs to it.

`adapter` describes the driver to the engine, `install` patches it. The server reports with each OK packet what a
statement has changed in the session (CLIENT_SESSION_TRACK), also inside procedures, so nothing has to be queried.
"""
