"""Real PostgreSQL servers and a breakable network in front of them, for tests, demos and benchmarks.

Knows nothing of the library that is tested with them.
"""

from servers.postgresql import Cluster
from servers.proxy import Proxy
from servers.server import Server

__all__ = ["Cluster", "Proxy", "Server"]
