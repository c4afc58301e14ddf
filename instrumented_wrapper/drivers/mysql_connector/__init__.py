"""mysql-connector-python, pure and with its C extension: patched in place, the physical side is exchanged in a switch.

`adapter` describes the driver to the engine, `install` patches its connections and cursors.
"""
