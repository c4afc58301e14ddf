"""aiomysql: its classes are patched in place, and a switch exchanges the streams and what belongs to them.

`native` says what the driver is like, `install` patches it, `hearing` reads what the server reports with its answers.
"""
