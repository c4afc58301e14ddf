"""aiomysql: its classes are patched in place, and a switch exchanges the streams and what belongs to them.

`adapter` describes the driver to the engine, `install` patches it, `session_reports` reads what the server reports with
its answers.
"""
