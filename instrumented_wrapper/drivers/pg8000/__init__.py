"""pg8000, a driver in Python: its connections, cursors and prepared statements are patched in place.

`adapter` says what the driver is like, `channel` how the server is talked with, `install` what is patched.
"""
