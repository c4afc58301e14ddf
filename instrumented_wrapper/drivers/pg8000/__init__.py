"""pg8000, a driver in Python: its connections, cursors and prepared statements are patched in place.

`adapter` describes the driver to the engine, `channel` queries the server, `install` has the patches.
"""
