"""Real PostgreSQL servers, a pooler and a breakable network in front of them, for tests, demos and benchmarks.

Knows nothing of the library that is tested with them.
"""

from servers.pgbouncer import PgBouncer
from servers.postgresql import Cluster
from servers.proxy import Proxy
from servers.server import Server

__all__ = ["Cluster", "PgBouncer", "Proxy", "Server"]
