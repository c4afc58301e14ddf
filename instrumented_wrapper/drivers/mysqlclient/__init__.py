"""mysqlclient. Its connections are Python objects over a C struct, which cannot be exchanged.

The classes are patched in place. From the first switch on, what the C class does is done on another connection, which
the app never sees: its C methods are in the instance (``__dict__``), where they cost nothing before. `adapter`
describes the driver to the engine, `install` patches it.
"""
