"""asyncmy: its Python classes are patched in place, its cursors are subclassed, and a switch exchanges the streams.

Connections and pools are Python classes over compiled ones. `adapter` describes the driver to the engine, `install`
patches it, `cursors` creates the subclasses, `prepared` handles statements that asyncmy prepares, and `session_reports`
decodes what the server reports with its responses.
"""
