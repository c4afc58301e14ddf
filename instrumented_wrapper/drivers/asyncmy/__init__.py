"""asyncmy: its Python classes are patched in place, its cursors are subclassed, and a switch exchanges the streams.

Connections and pools are Python classes over compiled ones. `adapter` says what the driver is like, `install` patches
it, `cursors` makes the subclasses, `prepared` is about statements that it prepares, and `session_reports` reads what
the server reports with its answers.
"""
