"""mysql-connector-python, pure and with its C extension: patched in place, the physical side is exchanged in a switch.

`native` says what the driver is like, `install` patches its connections and cursors.
"""
